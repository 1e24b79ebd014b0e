"""
The remote nodes of the configuration, by their AE titles: where each listens, and how many associations we have with
it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as AnswerTimedOut
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from pacs.dimse import CEchoRQ
from pacs.net.association import Association, AssociationClosed
from pacs.net.requestor import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION_SOP_CLASS,
    AssociationRejected,
    Requestor,
    RequestorProtocol,
)
from pacs.security.access import Principal
from pacs.ul import PresentationContextRQ, RoleSelection

RELEASE_TIMEOUT_S: Final = 5.0
"""A peer that does not answer A-RELEASE-RQ for so long is dropped: nothing is lost by it."""


ECHO_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class RemoteNode:
    """An entry of `server.remote_nodes`."""

    ae_title: str
    host: str
    port: int
    tls: bool = False


class NodeUnavailable(Exception):
    """No association with a node; the message says why, in the words of an Error Comment."""


class RemoteNodes:
    """
    Associations with the nodes that the configuration names, and with no others.

    Args:
        endpoint_for: gives where and how to connect, with its time-out.
        associations_per_node: who wants more waits.
    """

    def __init__(
        self,
        *,
        nodes: Iterable[RemoteNode],
        requestor: Requestor,
        endpoint_for: Callable[[RemoteNode], IStreamClientEndpoint],
        associations_per_node: int,
        clock: IReactorTime,
    ) -> None:
        self._nodes = {node.ae_title: node for node in nodes}
        self._requestor = requestor
        self._endpoint_for = endpoint_for
        self._slots = {title: DeferredSemaphore(associations_per_node) for title in self._nodes}
        self._clock = clock

    def __iter__(self) -> Iterator[RemoteNode]:
        return iter(self._nodes.values())

    async def verify(self, node: RemoteNode, principal: Principal) -> int:
        """
        Send one C-ECHO to a node (PS3.4 annex A).

        Returns:
            the status of the response.

        Raises:
            NodeUnavailable: it can't be reached, does not answer, or does not accept Verification.
        """
        context = PresentationContextRQ(1, VERIFICATION_SOP_CLASS, (IMPLICIT_VR_LITTLE_ENDIAN,))
        protocol, association = await self.associate(node, [context], principal)
        try:
            if not association.contexts:
                raise NodeUnavailable(f"destination AE '{node.ae_title}' does not accept Verification")
            request = CEchoRQ(message_id=association.next_message_id(), affected_sop_class_uid=VERIFICATION_SOP_CLASS)
            answered = association.invoke(1, request).addTimeout(ECHO_TIMEOUT_S, self._clock)
            return int((await answered).command.status)
        except (AssociationClosed, AnswerTimedOut):
            raise NodeUnavailable(f"destination AE '{node.ae_title}' does not answer C-ECHO") from None
        finally:
            await self.release(protocol)

    def get(self, ae_title: str) -> RemoteNode | None:
        """Give the node of an AE title; spaces around it mean nothing (PS3.5 6.2, AE)."""
        return self._nodes.get(ae_title.strip(" "))

    async def associate(
        self,
        node: RemoteNode,
        contexts: Sequence[PresentationContextRQ],
        principal: Principal,
        *,
        role_selections: Sequence[RoleSelection] = (),
    ) -> tuple[RequestorProtocol, Association]:
        """
        Open an association with a node, when there is room for one more; `release` or abort it.

        Args:
            role_selections: where we are not the SCU alone (PS3.7 D.3.3.4).

        Raises:
            NodeUnavailable: it can't be reached, does not answer, or refuses.
        """
        slot = self._slots[node.ae_title]
        await slot.acquire()
        protocol: RequestorProtocol | None = None
        try:
            protocol, association = await self._requestor.associate(
                self._endpoint_for(node),
                called_ae_title=node.ae_title,
                contexts=contexts,
                principal=principal,
                role_selections=role_selections,
            )
        except (ConnectError, DNSLookupError, AssociationRejected, AssociationClosed) as error:
            raise NodeUnavailable(f"destination AE '{node.ae_title}' {_reason(error)}") from error
        finally:
            if protocol is None:
                slot.release()
        protocol.when_closed.addBoth(lambda _: slot.release())
        return protocol, association

    def release(self, protocol: RequestorProtocol) -> Deferred[None]:
        """End an association in order; fires when the transport is gone, which takes `RELEASE_TIMEOUT_S` at most."""
        timer = self._clock.callLater(RELEASE_TIMEOUT_S, protocol.drop)
        closed = protocol.release()

        def stop(_: None) -> None:
            if timer.active():
                timer.cancel()

        return closed.addCallback(stop)


def _reason(error: Exception) -> str:
    if isinstance(error, AssociationRejected):
        return f"rejects: result {error.result}, source {error.source}, reason {error.reason}"
    if isinstance(error, Refused):
        return "refuses connections"
    if isinstance(error, ConnectTimedOut):
        return "does not answer (connection)"
    if isinstance(error, DNSLookupError):
        return "has an unknown host"
    if isinstance(error, AssociationClosed):
        return str(error) or "closes the connection"
    return "can't be reached"
