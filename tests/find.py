"""
C-FIND by pynetdicom: one query, its statuses and its answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from pacs.dimse import Response, decode_command
from tests.dicom import Client
from tests.server import AE_TITLE

PATIENT_ROOT: Final = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT: Final = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_STUDY_ONLY: Final = "1.2.840.10008.5.1.4.1.2.3.1"
DEFAULT_TRANSFER_SYNTAXES: Final[list[Any]] = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
PENDING: Final = (0xFF00, 0xFF01)


@dataclass(frozen=True, slots=True)
class Answers:
    """
    What a query gave.

    Attributes:
        statuses: of each response, the final one last.
        final: the final response's command set.
    """

    identifiers: list[Dataset]
    statuses: list[int]
    final: Dataset

    def values(self, keyword: str) -> list[str]:
        """Give an attribute's values, sorted."""
        return sorted(str(identifier.get(keyword, "")) for identifier in self.identifiers)


def keys(level: str, **values: Any) -> Dataset:
    """Give an identifier."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(identifier, keyword, value)
    return identifier


@contextmanager
def associated(
    port: int, model: str, *, negotiation: bytes = b"", called: str = AE_TITLE, transfer_syntax: str | None = None
) -> Iterator[Any]:
    """Give an association for a model."""
    entity = AE(ae_title="TESTER")
    entity.maximum_pdu_size = 0
    entity.add_requested_context(model, [transfer_syntax] if transfer_syntax else DEFAULT_TRANSFER_SYNTAXES)
    items: list[Any] = []
    if negotiation:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid = model
        item.service_class_application_information = negotiation
        items.append(item)
    association = entity.associate("127.0.0.1", port, ae_title=called, ext_neg=items)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def ask(association: Any, identifier: Dataset, model: str) -> Answers:
    """Send one query and give everything that comes."""
    found: list[Dataset] = []
    statuses: list[int] = []
    final = Dataset()
    for status, answer in association.send_c_find(identifier, model):
        statuses.append(status.Status)
        final = status
        if status.Status in PENDING:
            found.append(answer)
    return Answers(found, statuses, final)


def find(
    port: int,
    identifier: Dataset,
    model: str = STUDY_ROOT,
    *,
    negotiation: bytes = b"",
    called: str = AE_TITLE,
    transfer_syntax: str | None = None,
) -> Answers:
    """Ask in an association of its own."""
    with associated(
        port, model, negotiation=negotiation, called=called, transfer_syntax=transfer_syntax
    ) as association:
        return ask(association, identifier, model)


def statuses_of(client: Client) -> list[int]:
    """Receive responses up to the final one."""
    statuses: list[int] = []
    while not statuses or statuses[-1] in (0xFF00, 0xFF01):
        _, body = client.pdu()
        if body[5] & 1:
            command = decode_command(body[6:])
            assert isinstance(command, Response)
            statuses.append(command.status)
    return statuses
