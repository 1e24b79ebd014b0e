"""
Storage Commitment Push Model SOP class, PS3.4 annex J, as SCP: N-ACTION.

The request is answered as soon as it is kept; the objects are looked at, and the requester is told, by a task of the
durable queue (`pacs.tasks.commitment`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pacs.archive.archive import Archive
from pacs.archive.custody import Reference
from pacs.archive.errors import ArchiveError
from pacs.dataset.elements import Element, read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.transfer_syntaxes import is_for_messages
from pacs.dimse import Command, DIMSEError, NActionRQ, Response, Status
from pacs.net.association import Association
from pacs.net.dispatch import Handler
from pacs.net.source import DataSetSource
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.tasks.commitment import CommitmentRequest, Commitments
from pacs.tasks.commitment_report import STORAGE_COMMITMENT_PUSH, WELL_KNOWN_INSTANCE
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

REQUEST_STORAGE_COMMITMENT: Final = 1
"""The Action Type ID of PS3.4 table J.3-1."""

LONGEST_REQUEST_BYTES: Final = 16 << 20  # about 130,000 objects

_TRANSACTION_UID: Final = 0x00081195
_REFERENCED_SEQUENCE: Final = 0x00081199
_SOP_CLASS_UID: Final = 0x00081150
_SOP_INSTANCE_UID: Final = 0x00081155
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID: Final = 64


class StorageCommitmentService:
    """Takes requests for storage commitment."""

    _support = AbstractSyntaxSupport(accepts_transfer_syntax=is_for_messages)

    def __init__(self, *, commitments: Commitments, archive: Archive, authorization: Authorization) -> None:
        self._commitments = commitments
        self._archive = archive
        self._authorization = authorization
        self.handlers: Mapping[type[Command], Handler] = {NActionRQ: self.n_action}

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the push model."""
        return self._support if abstract_syntax == STORAGE_COMMITMENT_PUSH else None

    async def n_action(
        self, association: Association, context: AcceptedContext, request: NActionRQ, data_set: DataSetSource | None
    ) -> Response:
        """Take a request (PS3.4 J.3.2); whether objects are committed is said later."""
        self._authorization.require(association, Operation.COMMIT)
        if request.requested_sop_class_uid != STORAGE_COMMITMENT_PUSH:
            raise DIMSEError(Status.NO_SUCH_SOP_CLASS, "SOP class is not that of the presentation context")
        if request.requested_sop_instance_uid != WELL_KNOWN_INSTANCE:
            raise DIMSEError(Status.NO_SUCH_OBJECT_INSTANCE, "SOP instance is not the well-known one")
        if request.action_type_id != REQUEST_STORAGE_COMMITMENT:
            raise DIMSEError(Status.NO_SUCH_ACTION_TYPE, f"there is no action type {request.action_type_id}")
        if data_set is None:
            raise DIMSEError(Status.INVALID_ARGUMENT_VALUE, "there is no data set")
        try:
            raw = await data_set.read(LONGEST_REQUEST_BYTES)
        except DIMSEError as error:
            raise DIMSEError(Status.RESOURCE_LIMITATION, error.comment) from error
        transaction_uid, references = await self._archive.in_thread(read_request, raw, context.transfer_syntax)
        wanted = CommitmentRequest(transaction_uid, references, association.calling_ae_title, association.peer_address)
        try:
            await self._commitments.request(wanted, association)
        except ArchiveError as error:
            raise DIMSEError(Status.RESOURCE_LIMITATION, error.comment) from error
        return request.response(
            Status.SUCCESS,
            affected_sop_class_uid=STORAGE_COMMITMENT_PUSH,
            affected_sop_instance_uid=WELL_KNOWN_INSTANCE,
            action_type_id=REQUEST_STORAGE_COMMITMENT,
        )


def read_request(raw: bytes, transfer_syntax: str) -> tuple[str, tuple[Reference, ...]]:
    """
    Read the action information (PS3.4 table J.3-1).

    Returns:
        the Transaction UID, and what is referenced.

    Raises:
        DIMSEError: 0110, it has no structure; 0115, something is missing or is no UID.
    """
    try:
        elements = {element.tag: element for element in read_elements(raw, transfer_syntax)}
    except DataSetError as error:
        raise DIMSEError(Status.PROCESSING_FAILURE, f"data set: {error}") from error
    transaction_uid = _uid(elements, _TRANSACTION_UID, "Transaction UID")
    sequence = elements.get(_REFERENCED_SEQUENCE)
    if sequence is None or not sequence.items:
        raise DIMSEError(Status.INVALID_ARGUMENT_VALUE, "Referenced SOP Sequence has no item")
    references: list[Reference] = []
    for item in sequence.items:
        of_item = {element.tag: element for element in item}
        references.append(
            Reference(
                _uid(of_item, _SOP_CLASS_UID, "Referenced SOP Class UID"),
                _uid(of_item, _SOP_INSTANCE_UID, "Referenced SOP Instance UID"),
            )
        )
    return transaction_uid, tuple(references)


def _uid(elements: Mapping[int, Element], tag: int, name: str) -> str:
    element = elements.get(tag)
    uid = "" if element is None else element.value.decode("latin-1").strip("\0 ")
    if not uid:
        raise DIMSEError(Status.INVALID_ARGUMENT_VALUE, f"{name} is missing")
    if len(uid) > _LONGEST_UID or not _UID.fullmatch(uid):
        raise DIMSEError(Status.INVALID_ARGUMENT_VALUE, f"{name} is no UID")
    return uid
