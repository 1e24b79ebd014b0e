"""
Who may associate: the acceptor's protocol and factory (PS3.8 section 7.1), with the limits on associations.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.events import (
    AssociationClosed,
    AssociationEvent,
    AssociationOpened,
    AssociationRejected,
    ConnectionAborted,
    EventBus,
)
from pacs.monitoring.logs import RateLimited
from pacs.monitoring.metrics import Metrics
from pacs.net.admission import (
    PERMANENT,
    SOURCE_PRESENTATION,
    SOURCE_USER,
    TRANSIENT,
    Admission,
    Admitted,
    Rejection,
)
from pacs.net.association import Association
from pacs.net.dispatch import ServiceDispatcher
from pacs.net.flood import FloodGate
from pacs.net.protocol import RELEASED, UpperLayerProtocol
from pacs.net.registry import AssociationRegistry
from pacs.net.settings import AcceptorSettings, AssociationSettings
from pacs.net.tls import TLSTransport
from pacs.security.access import Origin
from pacs.ul import (
    APPLICATION_CONTEXT_NAME,
    AAssociateAC,
    AAssociateRQ,
    AcceptedContext,
    AssociateIndication,
    Implementation,
    ProviderAbortIndication,
    ReleaseIndication,
    Role,
    State,
    negotiate,
)

REMEMBERED_ANSWERS: Final = 256
DELAYED_REJECTIONS: Final = 50  # at once; further ones are not worth a connection


class AcceptorProtocol(UpperLayerProtocol):
    """One connection that a peer opened."""

    factory: AcceptorFactory

    METHODS = {**UpperLayerProtocol.METHODS, AssociateIndication: "_associate_indicated"}

    def __init__(self, *, factory: AcceptorFactory, settings: AssociationSettings, clock: IReactorTime) -> None:
        super().__init__(role=Role.ACCEPTOR, settings=settings, clock=clock)
        self.factory = factory
        self.end_reason = "lost"

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.registry.opened(self)

    def closed(self) -> None:
        self.factory.connection_closed(self)
        self.factory.expect()

    def became_idle(self) -> None:
        super().became_idle()
        self.factory.expect()
        if self.factory.is_draining and not self._is_releasing:
            self.abort_and_close()

    def _release_indicated(self, indication: ReleaseIndication) -> None:
        super()._release_indicated(indication)
        self.factory.expect()

    def refused_bytes(self, indication: ProviderAbortIndication) -> None:
        self.factory.bytes_refused(self.peer_address, str(indication.error))

    def refused_message(self, association: Association, why: str) -> None:
        self.factory.message_refused(association, why)

    @property
    def origin(self) -> Origin:
        """Where the peer is, and who its certificate says it is."""
        transport = self.transport
        if isinstance(transport, TLSTransport):
            return Origin(self.peer_address, is_encrypted=True, certificate_names=transport.certificate_names)
        return Origin(self.peer_address)

    def _associate_indicated(self, indication: AssociateIndication) -> None:
        if not self._awaits_answer:
            return  # what came behind it in the same read has ended the connection
        request = indication.request
        try:
            admitted = self.factory.admit(request, self.origin)
        except Rejection as rejection:
            self._reject(request, rejection)
            return
        if isinstance(admitted, Deferred):
            admitted.addCallback(self._admitted, request).addErrback(self._not_admitted, request)
        else:
            self._establish(request, admitted)

    def drop_if_refused(self) -> None:
        """Wait no longer for a peer that was rejected or aborted to close the connection (Sta13)."""
        if self._upper_layer.state is State.STA13:
            self.drop()

    @property
    def _awaits_answer(self) -> bool:
        """The peer is still there and waits for our answer to its A-ASSOCIATE-RQ (Sta3)."""
        return self._wire is not None and self._upper_layer.state is State.STA3

    def _admitted(self, admitted: Admitted, request: AAssociateRQ) -> None:
        if self._awaits_answer:
            self.factory.check_limits(request, self.peer_address)
            self._establish(request, admitted)

    def _not_admitted(self, failure: Failure, request: AAssociateRQ) -> None:
        error = failure.value
        if isinstance(error, Rejection):
            self._reject(request, error)
            return
        self.log.failure("association of {peer_address} is aborted", failure, peer_address=self.peer_address)
        self.abort()

    def _reject(self, request: AAssociateRQ, rejection: Rejection) -> None:
        self.factory.rejected(request, self.origin, rejection)
        if rejection.delay_s and self.factory.delayed_rejections < DELAYED_REJECTIONS:
            self.factory.delayed_rejections += 1
            self._clock.callLater(rejection.delay_s, self._reject_late, rejection)
        else:
            self._send_rejection(rejection)

    def _reject_late(self, rejection: Rejection) -> None:
        self.factory.delayed_rejections -= 1
        self._send_rejection(rejection)

    def _send_rejection(self, rejection: Rejection) -> None:
        if self._awaits_answer:
            self._apply(self._upper_layer.reject(rejection.result, rejection.source, rejection.reason))

    def _establish(self, request: AAssociateRQ, admitted: Admitted) -> None:
        accept, contexts = self.factory.negotiate(request)
        if admitted.identity_response is not None:
            information = replace(accept.user_information, user_identity_response=admitted.identity_response)
            accept = replace(accept, user_information=information)
        association = Association(
            association_id=self.factory.next_association_id(),
            request=request,
            contexts=contexts,
            principal=admitted.principal,
            peer_address=self.peer_address,
            max_send_pdu_length=request.user_information.max_pdu_length,
            carrier=self,
            dispatcher=self.factory.dispatcher,
            command_set_bytes=self._settings.command_set_bytes,
        )
        self.established(association)
        self.factory.registry.established(self, association)
        self._apply(self._upper_layer.accept(accept))  # first of all: the peer waits
        self.factory.expect()
        self.factory.association_established(association)


class AcceptorFactory(Factory):
    """
    Makes a protocol for each connection, and decides who may associate.

    Args:
        gate: told which connections came to nothing.
        expect: called when a peer was answered, so that its next message comes soon.

    Attributes:
        is_draining: no new associations; those without a running request end.
        delayed_rejections: how many peers are being kept waiting for theirs.
    """

    log: ClassVar[Logger] = Logger()
    noisy = False

    def __init__(
        self,
        *,
        settings: AcceptorSettings,
        association_settings: AssociationSettings,
        registry: AssociationRegistry,
        dispatcher: ServiceDispatcher,
        admission: Admission,
        implementation: Implementation,
        bus: EventBus,
        metrics: Metrics,
        gate: FloodGate,
        clock: IReactorTime,
        expect: Callable[[], None],
    ) -> None:
        self.expect = expect
        self._settings = settings
        self._association_settings = association_settings
        self._admission = admission
        self._implementation = implementation
        self._bus = bus
        self._metrics = metrics
        self._gate = gate
        metrics.associations_active.set_function(lambda: len(registry))
        self._accepted = metrics.associations_total.labels(result="accepted")
        self._clock = clock
        self._ids = count(1)
        self._answers: dict[int, tuple[AAssociateRQ, tuple[AAssociateAC, dict[int, AcceptedContext]]]] = {}
        self._id_prefix = secrets.token_hex(3)
        self._refusals = RateLimited(clock=clock)
        self._all_closed: Deferred[None] | None = None
        self.registry = registry
        self.dispatcher = dispatcher
        self.is_draining = False
        self.delayed_rejections = 0

    def buildProtocol(self, addr: IAddress | None) -> AcceptorProtocol:  # type: ignore[override]
        if self.registry.half_open_count >= self._settings.max_half_open:
            address = self.registry.drop_half_open()
            self._metrics.associations_total.labels(result="refused").inc()
            self._refusals.warn(
                self.log,
                f"{address} half-open",
                "the oldest connection from {peer_address} that has not associated is closed: {limit} of them wait",
                peer_address=address,
                limit=self._settings.max_half_open,
            )
        return AcceptorProtocol(factory=self, settings=self._association_settings, clock=self._clock)

    # -- shutdown

    def drain(self) -> Deferred[None]:
        """
        Let running requests finish, end every other association.

        Returns:
            fires when no connection is left.
        """
        self.is_draining = True
        drained = self._all_closed = Deferred()
        for connection in self.registry.connections():
            if isinstance(connection, AcceptorProtocol):
                association = connection.association
                if association is None:
                    connection.drop_if_refused()
                elif not association.is_busy:
                    connection.became_idle()
        self._look_whether_all_closed()
        return drained

    def abort_all(self) -> None:
        """End what the time of grace did not suffice for (A-ABORT, source 2, reason 0)."""
        for connection in self.registry.connections():
            if isinstance(connection, AcceptorProtocol):
                connection.abort_and_close()

    def drop_all(self) -> None:
        """Close the transports of peers that do not even take the abort."""
        for connection in self.registry.connections():
            if isinstance(connection, AcceptorProtocol):
                connection.drop()

    # -- the protocol's side

    def next_association_id(self) -> str:
        """Give an identifier that no other association of this server has had."""
        return f"{self._id_prefix}-{next(self._ids)}"

    def negotiate(self, request: AAssociateRQ) -> tuple[AAssociateAC, dict[int, AcceptedContext]]:
        """Answer the presentation contexts (PS3.8 annex B, PS3.7 annex D); the same for the same request object."""
        known = self._answers.get(id(request))
        if known is not None and known[0] is request:
            return known[1]
        answer = negotiate(
            request,
            support=self.dispatcher.support,
            implementation=self._implementation,
            max_pdu_length=self._association_settings.max_pdu_length,
        )
        if request.is_remembered:
            if len(self._answers) >= REMEMBERED_ANSWERS:
                self._answers.clear()
            self._answers[id(request)] = request, answer
        return answer

    def admit(self, request: AAssociateRQ, origin: Origin) -> Admitted | Deferred[Admitted]:
        """
        Decide on an association request, at once unless a passcode is to be verified.

        Raises:
            Rejection: with the fields of the A-ASSOCIATE-RJ; from the Deferred too.
        """
        settings = self._settings
        if request.application_context != APPLICATION_CONTEXT_NAME:
            raise Rejection(PERMANENT, SOURCE_USER, 2, "application context name not supported")
        if not request.has_legal_calling_ae_title:
            raise Rejection(PERMANENT, SOURCE_USER, 3, "calling AE title is empty or has illegal characters")
        if not request.has_legal_called_ae_title:
            raise Rejection(PERMANENT, SOURCE_USER, 7, "called AE title is empty or has illegal characters")
        if not settings.accepts_any_called_ae and request.called_ae_title != settings.ae_title:
            raise Rejection(PERMANENT, SOURCE_USER, 7, f"called AE title is not {settings.ae_title}")
        self.check_limits(request, origin.peer_address)
        return self._admission.admit(request, origin)

    def check_limits(self, request: AAssociateRQ, peer_address: str) -> None:
        """
        Look whether there is room for one more association.

        Raises:
            Rejection: transient.
        """
        settings, registry = self._settings, self.registry
        if self.is_draining:
            raise Rejection(TRANSIENT, SOURCE_PRESENTATION, 1, "the server is shutting down")
        for limit, number, key in (
            (settings.max_associations, len(registry), "server.max_associations"),
            (
                settings.max_associations_per_peer,
                registry.of_peer(request.calling_ae_title),
                "server.max_associations_per_peer",
            ),
            (
                settings.max_associations_per_address,
                registry.of_address(peer_address),
                "server.limits.associations_per_address",
            ),
        ):
            if number >= limit:
                raise Rejection(TRANSIENT, SOURCE_PRESENTATION, 2, f"local limit, {key} is {limit}")

    def rejected(self, request: AAssociateRQ, origin: Origin, rejection: Rejection) -> None:
        """Log, count and publish a rejection."""
        self._metrics.associations_total.labels(result="rejected").inc()
        self._refusals.warn(
            self.log,
            f"{origin.peer_address} {rejection.why}",
            "association of {calling_ae_title} from {peer_address} is rejected: {reason}",
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            peer_address=origin.peer_address,
            reason=rejection.why,
        )
        if self._bus.has_subscribers(AssociationRejected):
            self._bus.publish(
                AssociationRejected(
                    association_id="",
                    calling_ae=request.calling_ae_title,
                    called_ae=request.called_ae_title,
                    peer_address=origin.peer_address,
                    tls=origin.is_encrypted,
                    reason=rejection.why,
                    is_transient=rejection.result == TRANSIENT,
                )
            )

    def bytes_refused(self, peer_address: str, why: str) -> None:
        """Log and count a peer that does not speak the protocol."""
        self._metrics.associations_total.labels(result="aborted").inc()
        self._refusals.warn(
            self.log,
            peer_address,
            "connection from {peer_address} is aborted: {reason}",
            peer_address=peer_address,
            reason=why,
        )
        if self._bus.has_subscribers(ConnectionAborted):
            self._bus.publish(ConnectionAborted(peer_address=peer_address, reason=why))

    def message_refused(self, association: Association, why: str) -> None:
        """Log a peer whose messages can't be read."""
        self._refusals.warn(
            self.log,
            f"{association.peer_address} {association.calling_ae_title} message",
            "association {association_id} of {calling_ae_title} from {peer_address} is aborted: {reason}",
            association_id=association.association_id,
            calling_ae_title=association.calling_ae_title,
            peer_address=association.peer_address,
            reason=why,
        )

    def handshake_refused(self, peer_address: str, why: str) -> None:
        """Log and count a peer with which no TLS connection comes about."""
        self._metrics.tls_handshakes_refused_total.inc()
        self._refusals.warn(
            self.log,
            f"{peer_address} {why}",
            "TLS connection from {peer_address} is refused: {reason}",
            peer_address=peer_address,
            reason=why,
        )
        if self._bus.has_subscribers(ConnectionAborted):
            self._bus.publish(ConnectionAborted(peer_address=peer_address, reason=why))

    def association_established(self, association: Association) -> None:
        """Count and tell."""
        self._accepted.inc()
        if self._settings.logs_associations:
            self.log.debug(
                "association {association_id}: {calling_ae_title} from {peer_address}",
                association_id=association.association_id,
                calling_ae_title=association.calling_ae_title,
                peer_address=association.peer_address,
            )
        if self._bus.has_subscribers(AssociationOpened):
            self._bus.publish(_event(AssociationOpened, association, ""))

    def connection_closed(self, connection: AcceptorProtocol) -> None:
        """Forget a connection."""
        self.registry.closed(connection)
        association = connection.association
        if association is None or not (association.served or connection.end_reason == RELEASED):
            self._gate.came_to_nothing(connection.peer_address)
        if association is not None:
            if self._settings.logs_associations:
                self.log.debug(
                    "association {association_id} of {calling_ae_title} ended: {reason}",
                    association_id=association.association_id,
                    calling_ae_title=association.calling_ae_title,
                    reason=connection.end_reason,
                )
            if self._bus.has_subscribers(AssociationClosed):
                self._bus.publish(_event(AssociationClosed, association, connection.end_reason))
        self._look_whether_all_closed()

    def _look_whether_all_closed(self) -> None:
        waiting = self._all_closed
        if waiting is not None and not self.registry.connections():
            self._all_closed = None
            waiting.callback(None)


def _event(kind: type[AssociationEvent], association: Association, reason: str) -> AssociationEvent:
    return kind(
        association_id=association.association_id,
        calling_ae=association.calling_ae_title,
        called_ae=association.called_ae_title,
        peer_address=association.peer_address,
        tls=association.principal.is_encrypted,
        reason=reason,
    )
