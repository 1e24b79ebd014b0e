"""
Modalities that ask for storage commitment (pynetdicom): over the association of the request, or listening for the
report.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association

from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.interoperability.test_mpps import Checkpoint
from tests.server import AE_TITLE, Server

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
WAIT_S: Final = 30.0

Reference = tuple[str, str]


@dataclass(frozen=True)
class Report:
    """
    An N-EVENT-REPORT as it arrived.

    Attributes:
        failed: the Failure Reason by SOP Instance UID.
        roles: whether the server had the role of SCU and SCP, as the requestor of its association.
    """

    event_type: int
    transaction_uid: str
    committed: list[Reference]
    failed: dict[str, int]
    retrieve_ae_title: str
    roles: tuple[bool, bool]


@dataclass
class Reports:
    """
    Takes reports.

    Attributes:
        status: they are answered with.
    """

    status: int = 0x0000
    received: list[Report] = field(default_factory=list)
    refused: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def handlers(self) -> list[Any]:
        """Give what an association of pynetdicom takes."""
        return [(evt.EVT_N_EVENT_REPORT, self._take)]

    def wait(self, transaction: str) -> Report:
        """Wait for the report of a transaction; others may come, of earlier tests, that nobody took then."""
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self._of(transaction)), WAIT_S), self.received
        (report,) = self._of(transaction)
        return report

    def _of(self, transaction: str) -> list[Report]:
        return [report for report in self.received if report.transaction_uid == transaction]

    def _take(self, event: evt.Event) -> tuple[int, None]:
        if self.status:
            self.refused += 1
            return self.status, None
        request: Any = event.request
        information = event.event_information
        context = next(c for c in event.assoc.accepted_contexts if c.abstract_syntax == PUSH_MODEL)
        report = Report(
            int(request.EventTypeID),
            str(information.TransactionUID),
            [
                (str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID))
                for i in _items(information, "Referenced")
            ],
            {str(i.ReferencedSOPInstanceUID): int(i.FailureReason) for i in _items(information, "Failed")},
            str(information.get("RetrieveAETitle", "")),
            (bool(context.as_scp), bool(context.as_scu)) if event.assoc.is_acceptor else (False, False),
        )
        with self._changed:
            self.received.append(report)
            self._changed.notify_all()
        return 0x0000, None


def _items(information: Dataset, name: str) -> Sequence[Dataset]:
    return list(information.get(f"{name}SOPSequence", []))


def wanted(*references: Reference, transaction: str = "") -> Dataset:
    """Give the action information of a request."""
    action = Dataset()
    action.TransactionUID = transaction or generate_uid()
    action.ReferencedSOPSequence = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        action.ReferencedSOPSequence.append(item)
    return action


def request(
    association: Association, action: Dataset | None, *, action_type: int = 1, instance: str = WELL_KNOWN_INSTANCE
) -> int:
    """Send an N-ACTION; give the status."""
    status, _ = association.send_n_action(action, action_type, PUSH_MODEL, instance)
    return int(status.Status)


@contextmanager
def requesting(server: Server, *, calling: str, reports: Reports | None = None) -> Iterator[Association]:
    """
    Associate as a modality does that asks; at the end the association is aborted.

    pynetdicom's release may wait for ever for the thread that has just served a request of the server's.
    """
    association = AE(calling).associate(
        "127.0.0.1",
        server.port,
        [build_context(PUSH_MODEL)],
        ae_title=AE_TITLE,
        evt_handlers=reports.handlers() if reports is not None else [],
    )
    assert association.is_established
    association._reactor_checkpoint = Checkpoint(association)
    try:
        yield association
    finally:
        if association.is_established:
            association.abort()


@contextmanager
def listening(reports: Reports, *, ae_title: str, port: int, role: bool | None = True) -> Iterator[None]:
    """
    Listen as a modality does that takes reports over new associations.

    Args:
        role: what role selection is answered with; None: not at all.
    """
    peer = AE(ae_title)
    peer.add_supported_context(PUSH_MODEL, scu_role=role, scp_role=role)
    server = peer.start_server(("127.0.0.1", port), block=False, evt_handlers=reports.handlers())
    assert server is not None
    try:
        yield
    finally:
        server.shutdown()


def stored(server: Server, number: int = 1, *, calling: str = "CT_SCANNER_1", **fields: Any) -> list[Reference]:
    """Store new CT objects; give their references."""
    references: list[Reference] = []
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT), calling=calling) as client:
        for _ in range(number):
            uid = generate_uid()
            assert client.store(ct_data_set(uid, **fields), uid).status == 0
            references.append((CT_IMAGE_STORAGE, uid))
    return references


def tasks(server: Server) -> list[dict[str, Any]]:
    """Give the commitment tasks of a server, oldest first."""
    with closing(sqlite3.connect(f"file:{server.root / 'index.db'}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM tasks WHERE kind = 'storage_commitment' ORDER BY id").fetchall()
    return [{**dict(row), "payload": json.loads(row["payload"])} for row in rows]


def wait_for_task(server: Server, transaction_uid: str, *states: str, has_failed: bool = False) -> dict[str, Any]:
    """
    Wait until the task of a transaction has one of some states.

    Args:
        has_failed: an attempt must have.
    """
    deadline_s = time.monotonic() + WAIT_S
    while True:
        found = [
            task
            for task in tasks(server)
            if task["key"] == transaction_uid and task["state"] in states and (task["last_error"] or not has_failed)
        ]
        if found:
            return found[-1]
        assert time.monotonic() < deadline_s, tasks(server)
        time.sleep(0.05)


def wait_until_taken(server: Server, transaction_uid: str, calling: str) -> None:
    """Wait until a server knows that its report was taken: an association that is aborted before has not answered."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        payloads = [task["payload"] for task in tasks(server) if task["state"] == "done"]
        if (transaction_uid, calling) in [(item["transaction_uid"], item["calling_ae_title"]) for item in payloads]:
            return
        assert time.monotonic() < deadline_s, tasks(server)
        time.sleep(0.02)
