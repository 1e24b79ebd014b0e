"""
Storage Commitment, PS3.4 annex J, behind the N-ACTION: a request is a task of the durable queue; it is done when its
report, an N-EVENT-REPORT, was taken.

The report goes over the association that the request came over while that is open, else over a new one to the remote
node of the requester's AE title, with the role of the SCP. What it says is true at that moment: each object is looked
up anew (`pacs.archive.custody`) for each attempt; only its bytes are not, if they were compared within the hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from uuid import uuid4

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pacs.archive.archive import Archive
from pacs.archive.custody import Custody, CustodyCheck, Findings, Reference
from pacs.archive.index import tasks as rows
from pacs.archive.index.tasks import Task
from pacs.archive.index.writer import IndexWriter
from pacs.archive.scrub import Kept
from pacs.events import CommitmentCompleted
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.net.nodes import RemoteNode, RemoteNodes
from pacs.security.access import Principal, Role
from pacs.tasks.commitment_report import NotTaken, Report, Reporter
from pacs.tasks.kinds import GiveUp, Policy, TryAgain
from pacs.tasks.queue import TaskQueue

KIND: Final = "storage_commitment"
DAY_S: Final = 86400.0
POLICY: Final = Policy(
    concurrency=16,
    first_delay_s=5.0,
    longest_delay_s=900.0,
    give_up_after_s=3 * DAY_S,
    attempt_timeout_s=3600.0,
)
COMPARISONS_LAST_S: Final = 3600.0
FIRST_LOOK_S: Final = 0.1
LONGEST_LOOK_S: Final = 2.0
LOOKS_GROW_BY: Final = 1.3
CHECKSUM_WAIT_S: Final = 600.0
"""Checksums follow an object within seconds; one that does not come for so long does not come."""

NOBODY_TO_TELL: Final = (
    "the association of the request has ended, and its AE title is not among server.remote_nodes: nobody can be told"
)

PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
DUPLICATE_TRANSACTION_UID: Final = 0x0131
RESOURCE_LIMITATION: Final = 0x0213

FAILURE_REASONS: Final[Mapping[Custody, int]] = {
    Custody.ABSENT: NO_SUCH_OBJECT_INSTANCE,
    Custody.ABSENT_FOR_WANT_OF_SPACE: RESOURCE_LIMITATION,
    Custody.OTHER_CLASS: CLASS_INSTANCE_CONFLICT,
    Custody.DEIDENTIFIED: NO_SUCH_OBJECT_INSTANCE,
    Custody.DAMAGED: PROCESSING_FAILURE,
    Custody.UNCHECKED: PROCESSING_FAILURE,
}
"""PS3.3 C.14.1.1, Failure Reason."""


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """
    What an N-ACTION asks for (PS3.4 J.3.2.1).

    Attributes:
        is_duplicate: its Transaction UID is in use for something else.
    """

    transaction_uid: str
    references: tuple[Reference, ...]
    calling_ae_title: str
    peer_address: str
    is_duplicate: bool = False

    def as_payload(self) -> dict[str, Any]:
        """Give it as a task keeps it."""
        return {
            "transaction_uid": self.transaction_uid,
            "references": self.references,
            "calling_ae_title": self.calling_ae_title,
            "peer_address": self.peer_address,
            "is_duplicate": self.is_duplicate,
        }

    @classmethod
    def of_payload(cls, payload: Mapping[str, Any]) -> CommitmentRequest:
        """Give it from what a task keeps."""
        return cls(**{**payload, "references": tuple(Reference(*reference) for reference in payload["references"])})

    def is_same_as(self, other: CommitmentRequest) -> bool:
        """Whether a requester has only sent it again."""
        return (self.transaction_uid, self.references, self.calling_ae_title) == (
            other.transaction_uid,
            other.references,
            other.calling_ae_title,
        )


class Commitments:
    """
    The requests for storage commitment of this server.

    Args:
        is_storage_sop_class: tells the SOP classes that are stored at all.
        associations: gives the open ones.
        now_s: the time of day, seconds since 1970.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        archive: Archive,
        queue: TaskQueue,
        nodes: RemoteNodes,
        associations: Callable[[], Iterable[Association]],
        is_storage_sop_class: Callable[[str], bool],
        ae_title: str,
        metrics: Metrics,
        clock: IReactorTime,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._archive = archive
        self._custody = CustodyCheck(archive)
        self._queue = queue
        self._nodes = nodes
        self._associations = associations
        self._is_storage_sop_class = is_storage_sop_class
        self._ae_title = ae_title
        self._metrics = metrics
        self._clock = clock
        self._now_s = now_s
        self._reporter = Reporter(nodes=nodes, encode=archive.in_thread, clock=clock)
        self._association_of: dict[int, str] = {}
        self._compared: dict[int, tuple[float, set[Kept]]] = {}
        queue.handle(KIND, self._perform, POLICY, failed=self._given_up)

    async def request(self, request: CommitmentRequest, association: Association) -> None:
        """
        Take a request; what is owed to its requester is durable when this returns.

        One that is only sent again is reported once. Another one with its Transaction UID is reported as failed
        (0131).

        Raises:
            ArchiveError: the index can't be written.
        """
        now = int(self._now_s() * 1e6)

        def in_transaction(writer: IndexWriter) -> int:
            execute = writer.execute
            known = rows.find_unended(execute, KIND, request.transaction_uid)
            if known is None:
                return rows.add_task(execute, KIND, request.transaction_uid, request.as_payload(), now=now)
            if request.is_same_as(CommitmentRequest.of_payload(known.payload)):
                rows.hasten_task(execute, known.id, now)
                return known.id
            payload = {**request.as_payload(), "is_duplicate": True}
            return rows.add_task(execute, KIND, f"{request.transaction_uid} {uuid4()}", payload, now=now)

        task_id = await self._archive.change(in_transaction)
        self._association_of[task_id] = association.association_id
        self._queue.wake()

    # -- the task

    async def _perform(self, task: Task) -> Sequence[CommitmentCompleted]:
        request = CommitmentRequest.of_payload(task.payload)
        node = self._nodes.get(request.calling_ae_title)
        if node is None and self._association_for(task) is None:
            raise GiveUp(NOBODY_TO_TELL)
        findings, report = await self._judge(task, request)
        await self._tell(task, report, node, request)
        return [self._ended(task, request, report, findings)]

    async def _tell(self, task: Task, report: Report, node: RemoteNode | None, request: CommitmentRequest) -> None:
        """
        Report over the requester's association, and when it does not take it, over one of ours.

        Meanwhile the requester may have asked again, over another association.
        """
        association = self._association_for(task)
        reason = "the association of the request has ended"
        if association is not None:
            try:
                return await self._reporter.report_over(association, report, can_wait=node is None)
            except NotTaken as error:
                reason = str(error)
        if node is not None:
            principal = Principal(request.calling_ae_title, request.peer_address, Role.TECHNOLOGIST)
            try:
                return await self._reporter.report_to(node, report, principal)
            except NotTaken as error:
                reason = str(error)
        elif self._association_for(task) is None:
            raise GiveUp(NOBODY_TO_TELL)
        raise TryAgain(reason)

    def _association_for(self, task: Task) -> Association | None:
        """Give the association that a request came over, if it is still there."""
        association_id = self._association_of.get(task.id)
        if association_id is None:
            return None
        for association in self._associations():
            if association.association_id == association_id and association.is_open:
                return association
        del self._association_of[task.id]
        return None

    async def _judge(self, task: Task, request: CommitmentRequest) -> tuple[Findings, Report]:
        """Find out what can be said of each object."""
        if request.is_duplicate:
            failed = [(reference, DUPLICATE_TRANSACTION_UID) for reference in request.references]
            return Findings((), ()), self._report(request, [], failed)
        findings = await self._find(task, request)
        committed: list[Reference] = []
        failed = []
        for reference, custody in zip(request.references, findings.custody, strict=True):
            if custody is Custody.KEPT:
                committed.append(reference)
            else:
                failed.append((reference, self._reason(reference, custody)))
        return findings, self._report(request, committed, failed)

    def _reason(self, reference: Reference, custody: Custody) -> int:
        if custody is Custody.ABSENT and not self._is_storage_sop_class(reference.sop_class_uid):
            return SOP_CLASS_NOT_SUPPORTED
        return FAILURE_REASONS[custody]

    async def _find(self, task: Task, request: CommitmentRequest) -> Findings:
        now_s = self._clock.seconds()
        since_s, whole = self._compared.get(task.id, (now_s, set()))
        if now_s - since_s >= COMPARISONS_LAST_S:
            since_s, whole = now_s, set()
        self._compared[task.id] = (since_s, whole)
        await self._until_checkable(task, request)
        return await self._custody.check(request.references, whole)

    async def _until_checkable(self, task: Task, request: CommitmentRequest) -> None:
        """Wait for checksums; they follow the objects."""
        give_up_s = task.aged_from / 1e6 + CHECKSUM_WAIT_S
        interval_s = FIRST_LOOK_S
        while not await self._custody.is_checkable(request.references) and self._now_s() < give_up_s:
            await deferLater(self._clock, interval_s)
            interval_s = min(interval_s * LOOKS_GROW_BY, LONGEST_LOOK_S)

    def _report(
        self, request: CommitmentRequest, committed: list[Reference], failed: list[tuple[Reference, int]]
    ) -> Report:
        return Report(request.transaction_uid, self._ae_title, tuple(committed), tuple(failed))

    # -- its end

    def _ended(self, task: Task, request: CommitmentRequest, report: Report, findings: Findings) -> CommitmentCompleted:
        self._forget(task)
        outcome = "failures" if report.failed else "success"
        self._metrics.commitments_total.labels(outcome=outcome).inc()
        self._metrics.committed_instances_total.inc(len(report.committed))
        reasons = sorted({reason for _, reason in report.failed})
        if reasons:
            self.log.warn(
                "{calling_ae_title} is told that {failed} of {count} objects are not committed ({reasons}),"
                " transaction {transaction_uid}",
                calling_ae_title=request.calling_ae_title,
                failed=len(report.failed),
                count=len(request.references),
                reasons=", ".join(f"{reason:04X}" for reason in reasons),
                transaction_uid=request.transaction_uid,
            )
        if Custody.DEIDENTIFIED in findings.custody:
            self.log.warn(
                "{calling_ae_title} asks for objects of which a de-identified copy alone is kept; they are not"
                " committed (0112)",
                calling_ae_title=request.calling_ae_title,
            )
        return CommitmentCompleted(
            transaction_uid=request.transaction_uid,
            calling_ae=request.calling_ae_title,
            committed=len(report.committed),
            failed=len(report.failed),
            outcome=outcome,
            peer_address=request.peer_address,
            studies=findings.studies,
        )

    def _given_up(self, task: Task, reason: str) -> Sequence[CommitmentCompleted]:
        self._forget(task)
        request = CommitmentRequest.of_payload(task.payload)
        self._metrics.commitments_total.labels(outcome="unreported").inc()
        return [
            CommitmentCompleted(
                transaction_uid=request.transaction_uid,
                calling_ae=request.calling_ae_title,
                committed=0,
                failed=len(request.references),
                outcome="unreported",
                peer_address=request.peer_address,
                reason=reason,
            )
        ]

    def _forget(self, task: Task) -> None:
        self._association_of.pop(task.id, None)
        self._compared.pop(task.id, None)
