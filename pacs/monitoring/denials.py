"""
What a caller's role lacks, told in the same way whatever the door: in the log, as an event, as a metric.
"""

from __future__ import annotations

from typing import ClassVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pacs.events import AccessDenied, EventBus
from pacs.monitoring.logs import RateLimited
from pacs.monitoring.metrics import Metrics
from pacs.security.access import LEAST_ROLE, Operation, Principal


class Denials:
    """Reports missing rights."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, bus: EventBus, metrics: Metrics, clock: IReactorTime) -> None:
        self._bus = bus
        self._metrics = metrics
        self._refusals = RateLimited(clock=clock)

    def denied(self, principal: Principal, operation: Operation) -> str:
        """
        Report that a principal lacks a right.

        Returns:
            what was missing, for the caller.
        """
        needed, role = LEAST_ROLE[operation].value, principal.role.value
        comment = f"{operation.value} needs role {needed}, you have {role}"
        self._metrics.access_denied_total.labels(operation=operation.value).inc()
        self._refusals.warn(
            self.log,
            f"{principal.peer_address} {principal.name} {operation.value}",
            "{operation} of {calling_ae_title} from {peer_address} is refused: it needs the role {needed}, "
            "and {because} gives {role}",
            operation=operation.value,
            calling_ae_title=principal.name,
            peer_address=principal.peer_address,
            needed=needed,
            because=principal.because,
            role=role,
        )
        if self._bus.has_subscribers(AccessDenied):
            self._bus.publish(
                AccessDenied(
                    calling_ae=principal.name,
                    operation=operation.value,
                    reason=comment,
                    peer_address=principal.peer_address,
                )
            )
        return comment
