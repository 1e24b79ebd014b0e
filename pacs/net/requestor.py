"""
Associations that we request: the SCU's side (PS3.8 section 7.1.1).

The times of each are watched: for the connection (the endpoint's), for the answer to the association request
(`association_timeout_s`), and for a peer that does not read, as for the associations of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from pacs.dimse import CEchoRQ
from pacs.net.association import Association, AssociationClosed
from pacs.net.dispatch import ServiceDispatcher
from pacs.net.protocol import RELEASED, UpperLayerProtocol
from pacs.net.registry import CHECK_INTERVAL_S
from pacs.net.settings import AssociationSettings
from pacs.net.tls import explain_loss
from pacs.security.access import Principal
from pacs.ul import (
    AAssociateRQ,
    AssociateConfirmation,
    AssociateRejection,
    Implementation,
    PresentationContextRQ,
    ReleaseConfirmation,
    Role,
    RoleSelection,
    State,
    UserInformation,
    read_accepted,
)

VERIFICATION_SOP_CLASS: Final = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"


class AssociationRejected(Exception):
    """
    The peer answered A-ASSOCIATE-RJ (PS3.8 9.3.4).

    Attributes:
        result, source, reason: the fields of the PDU.
    """

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"association rejected: result {result}, source {source}, reason {reason}")
        self.result = result
        self.source = source
        self.reason = reason


class RequestorProtocol(UpperLayerProtocol):
    """
    One connection that we opened.

    Attributes:
        when_established: fires with the `Association`; fails with `AssociationRejected` or `AssociationClosed`.
        when_closed: fires when the transport is gone.
    """

    METHODS = {
        **UpperLayerProtocol.METHODS,
        AssociateConfirmation: "_confirmed",
        AssociateRejection: "_was_rejected",
        ReleaseConfirmation: "_released",
    }

    def __init__(
        self,
        *,
        request: AAssociateRQ,
        principal: Principal,
        dispatcher: ServiceDispatcher | None,
        settings: AssociationSettings,
        clock: IReactorTime,
        ended: Callable[[RequestorProtocol], None] = lambda _: None,
    ) -> None:
        super().__init__(role=Role.REQUESTOR, settings=settings, clock=clock)
        self._request = request
        self._ended = ended
        self._opened_s = clock.seconds()
        self._close_reason = "closes the connection"
        self._principal = principal
        self._dispatcher = dispatcher
        self.when_established: Deferred[Association] | None = Deferred(lambda _: self.drop())
        self.when_closed: Deferred[None] = Deferred()
        self._upper_layer.associate(request)

    @property
    def is_connected(self) -> bool:
        """Whether the transport is there."""
        return self._wire is not None

    def release(self) -> Deferred[None]:
        """Release the association; fires when the transport is closed (PS3.8 7.2)."""
        if self._wire is not None and self._upper_layer.state is State.STA6:
            self._apply(self._upper_layer.release())
        return self.when_closed

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._close_reason = explain_loss(self.transport, reason) or self._close_reason
        super().connectionLost(reason)

    def closed(self) -> None:
        waiting, self.when_established = self.when_established, None
        if waiting is not None and not waiting.called:
            waiting.errback(Failure(AssociationClosed(self._close_reason)))
        self._ended(self)
        self.when_closed.callback(None)

    def check_times(self, now_s: float) -> None:
        """Also drop a connection whose peer has not answered the association request."""
        if self.association is None and now_s - self._opened_s > self._settings.association_timeout_s:
            self._close_reason = "does not answer (association)"
            self.drop()
            return
        super().check_times(now_s)

    def _confirmed(self, indication: AssociateConfirmation) -> None:
        accept = indication.response
        association = Association(
            association_id=f"out-{id(self):x}",
            request=self._request,
            contexts=read_accepted(self._request, accept),
            principal=self._principal,
            peer_address=self.peer_address,
            max_send_pdu_length=accept.user_information.max_pdu_length,
            carrier=self,
            dispatcher=self._dispatcher,
            command_set_bytes=self._settings.command_set_bytes,
        )
        self.established(association)
        waiting, self.when_established = self.when_established, None
        if waiting is not None and not waiting.called:
            waiting.callback(association)

    def _was_rejected(self, indication: AssociateRejection) -> None:
        waiting, self.when_established = self.when_established, None
        if waiting is not None and not waiting.called:
            waiting.errback(Failure(AssociationRejected(indication.result, indication.source, indication.reason)))

    def _released(self, _: ReleaseConfirmation) -> None:
        self.end_reason = RELEASED
        self._end_association()


class _OneProtocol(Factory):
    """Gives the one protocol that was made before the connection."""

    noisy = False

    def __init__(self, protocol: RequestorProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, _: object) -> RequestorProtocol:
        return self._protocol


class Requestor:
    """
    Opens associations as `calling_ae_title`.

    Args:
        dispatcher: serves the requests of a peer that got the role of an SCU (PS3.7 D.3.3.4).
    """

    def __init__(
        self,
        *,
        calling_ae_title: str,
        implementation: Implementation,
        settings: AssociationSettings,
        clock: IReactorTime,
        dispatcher: ServiceDispatcher | None = None,
    ) -> None:
        self._calling_ae_title = calling_ae_title
        self._implementation = implementation
        self._settings = settings
        self._clock = clock
        self._dispatcher = dispatcher
        self._connections: set[RequestorProtocol] = set()
        self._watch = LoopingCall(self._check_times)
        self._watch.clock = clock

    async def associate(
        self,
        endpoint: IStreamClientEndpoint,
        *,
        called_ae_title: str,
        contexts: Sequence[PresentationContextRQ],
        principal: Principal,
        role_selections: Sequence[RoleSelection] = (),
    ) -> tuple[RequestorProtocol, Association]:
        """
        Connect and associate.

        Args:
            role_selections: where we are not the SCU alone (PS3.7 D.3.3.4).

        Raises:
            AssociationRejected, AssociationClosed, or the endpoint's connection errors.
        """
        request = AAssociateRQ(
            called_ae_title=called_ae_title,
            calling_ae_title=self._calling_ae_title,
            presentation_contexts=tuple(contexts),
            user_information=UserInformation(
                max_pdu_length=self._settings.max_pdu_length,
                implementation_class_uid=self._implementation.class_uid,
                implementation_version_name=self._implementation.version_name,
                role_selections=tuple(role_selections),
            ),
        )
        protocol = RequestorProtocol(
            request=request,
            principal=principal,
            dispatcher=self._dispatcher,
            settings=self._settings,
            clock=self._clock,
            ended=self._forget,
        )
        established = protocol.when_established
        assert established is not None
        await endpoint.connect(_OneProtocol(protocol))
        if protocol.is_connected:
            self._remember(protocol)
        return protocol, await established

    def _remember(self, protocol: RequestorProtocol) -> None:
        self._connections.add(protocol)
        if not self._watch.running:
            self._watch.start(CHECK_INTERVAL_S, now=False)

    def _forget(self, protocol: RequestorProtocol) -> None:
        self._connections.discard(protocol)
        if not self._connections and self._watch.running:
            self._watch.stop()

    def _check_times(self) -> None:
        now_s = self._clock.seconds()
        for connection in tuple(self._connections):
            connection.check_times(now_s)

    async def verify(self, endpoint: IStreamClientEndpoint, *, called_ae_title: str, principal: Principal) -> int:
        """
        Send one C-ECHO (PS3.4 annex A).

        Returns:
            the status of the response.
        """
        context = PresentationContextRQ(1, VERIFICATION_SOP_CLASS, (IMPLICIT_VR_LITTLE_ENDIAN,))
        protocol, association = await self.associate(
            endpoint, called_ae_title=called_ae_title, contexts=[context], principal=principal
        )
        if not association.contexts:
            await protocol.release()
            raise AssociationClosed("the peer does not accept the Verification SOP Class")
        message_id = association.next_message_id()
        response = await association.invoke(
            1, CEchoRQ(message_id=message_id, affected_sop_class_uid=VERIFICATION_SOP_CLASS)
        )
        await protocol.release()
        return int(response.command.status)
