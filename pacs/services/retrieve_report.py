"""
What is told of a retrieval besides its responses: the events, the metric, and a line in the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pacs.archive.retrieval import Selection
from pacs.dimse import CGetRQ, CMoveRQ, Status
from pacs.events import EventBus, RetrieveCompleted, RetrieveStarted
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.services.retrieve_progress import Progress, by_study
from pacs.ul import AcceptedContext

OUTCOMES: Final = {
    Status.SUCCESS: "success",
    Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES: "warning",
    Status.UNABLE_TO_PERFORM_SUBOPERATIONS: "failure",
    Status.CANCEL: "canceled",
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where the objects go."""

    ae_title: str
    address: str


class RetrieveReporter:
    """Tells of retrievals."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, bus: EventBus, metrics: Metrics, clock: IReactorTime) -> None:
        self._bus = bus
        self._metrics = metrics
        self._clock = clock

    @contextmanager
    def watch(
        self,
        association: Association,
        context: AcceptedContext,
        request: CGetRQ | CMoveRQ,
        selection: Selection,
        receiver: Receiver,
    ) -> Iterator[Progress]:
        """Tell that a retrieval begins, and in the end what became of it, though the association were lost."""
        progress = Progress(
            association=association,
            context=context,
            request=request,
            selection=selection,
            seconds=self._clock.seconds,
        )
        started_s = self._clock.seconds()
        if self._bus.has_subscribers(RetrieveStarted):
            self._bus.publish(
                RetrieveStarted(
                    operation=request.operation,
                    calling_ae=association.calling_ae_title,
                    peer_address=association.peer_address,
                    destination_ae=receiver.ae_title,
                    destination_address=receiver.address,
                    studies=by_study(selection.count_by_kind()),
                )
            )
        try:
            yield progress
        finally:
            self._ended(association, request, progress, receiver, self._clock.seconds() - started_s)

    def _ended(
        self,
        association: Association,
        request: CGetRQ | CMoveRQ,
        progress: Progress,
        receiver: Receiver,
        duration_s: float,
    ) -> None:
        outcome = OUTCOMES[progress.status()]
        self._metrics.retrieved_instances_total.inc(progress.completed + progress.warning)
        tell = self.log.info if outcome in ("success", "canceled") else self.log.warn
        tell(
            "{operation} of {calling_ae_title}: {outcome}, {completed} of {total} objects sent to {destination}"
            " in {duration_s:.3f} s, {failed} failed, {warning} with a warning{why}",
            operation=request.operation,
            calling_ae_title=association.calling_ae_title,
            association_id=association.association_id,
            outcome=outcome,
            completed=progress.completed + progress.warning,
            total=progress.remaining + progress.completed + progress.failed + progress.warning,
            failed=progress.failed,
            warning=progress.warning,
            destination=receiver.ae_title,
            duration_s=duration_s,
            why=f": {progress.reason}" if progress.reason else "",
        )
        if self._bus.has_subscribers(RetrieveCompleted):
            self._bus.publish(
                RetrieveCompleted(
                    operation=request.operation,
                    calling_ae=association.calling_ae_title,
                    destination_ae=receiver.ae_title,
                    completed=progress.completed,
                    failed=progress.failed,
                    warning=progress.warning,
                    outcome=outcome,
                    peer_address=association.peer_address,
                    destination_address=receiver.address,
                    studies=progress.sent(),
                )
            )
