"""
What a caller's role lacks is refused at the message, and told: in the Error Comment, the log, an event and a metric.

A refused presentation context would not tell the user why (PS3.7 annex C: 0124, Refused: Not authorized).
"""

from __future__ import annotations

from typing import ClassVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pacs.dimse import DIMSEError, Status
from pacs.events import AccessDenied, EventBus
from pacs.monitoring.logs import RateLimited
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.security.access import LEAST_ROLE, Operation


class Authorization:
    """Asks whether a peer has the right to do what it requests."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, bus: EventBus, metrics: Metrics, clock: IReactorTime) -> None:
        self._bus = bus
        self._metrics = metrics
        self._refusals = RateLimited(clock=clock)

    def require(self, association: Association, operation: Operation) -> None:
        """
        Return when the peer of an association has a right.

        Raises:
            DIMSEError: 0124, with what was missing as its comment; it has been reported.
        """
        if not association.principal.may(operation):
            raise self._refusal(association, operation)

    def _refusal(self, association: Association, operation: Operation) -> DIMSEError:
        principal = association.principal
        needed, role = LEAST_ROLE[operation].value, principal.role.value
        comment = f"{operation.value} needs role {needed}, you have {role}"
        self._metrics.access_denied_total.labels(operation=operation.value).inc()
        self._refusals.warn(
            self.log,
            f"{principal.peer_address} {association.calling_ae_title} {operation.value}",
            "{operation} of {calling_ae_title} from {peer_address} is refused: it needs the role {needed}, "
            "and {because} gives {role}",
            operation=operation.value,
            calling_ae_title=association.calling_ae_title,
            peer_address=principal.peer_address,
            association_id=association.association_id,
            needed=needed,
            because=principal.because,
            role=role,
        )
        if self._bus.has_subscribers(AccessDenied):
            self._bus.publish(
                AccessDenied(
                    calling_ae=association.calling_ae_title,
                    operation=operation.value,
                    reason=comment,
                    peer_address=principal.peer_address,
                )
            )
        return DIMSEError(Status.NOT_AUTHORIZED, comment)
