"""
The part of the assembly that speaks DICOM over the network: who listens, and how remote nodes are reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from pacs.assembly.tls import Contexts, endpoint_for, listeners
from pacs.config import Configuration
from pacs.events import EventBus
from pacs.monitoring.metrics import Metrics
from pacs.net.acceptor import AcceptorFactory
from pacs.net.admission import Admission
from pacs.net.attention import attend
from pacs.net.dispatch import ServiceDispatcher
from pacs.net.flood import FloodGate
from pacs.net.listening import listen
from pacs.net.nodes import RemoteNode, RemoteNodes
from pacs.net.privileged import Bound, bind_if_privileged
from pacs.net.registry import AssociationRegistry
from pacs.net.requestor import Requestor
from pacs.net.settings import AcceptorSettings, AssociationSettings
from pacs.ul import IMPLEMENTATION_CLASS_UID, Implementation
from pacs.version import IMPLEMENTATION_VERSION_NAME

LISTEN_BACKLOG: Final = 256
DROP_AFTER_S: Final = 2.0  # after the aborts, for peers that do not even take those


class AcceptorService(Service):
    """
    Listens for associations; at the end lets running requests finish.

    Args:
        listeners: port, factory and a word for the log of each way to us.
        gate: holds the connections of who floods them.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        factory: AcceptorFactory,
        listeners: Sequence[tuple[int, Any, str]],
        gate: FloodGate,
        registry: AssociationRegistry,
        configuration: Configuration,
        reactor: Any,
    ) -> None:
        self._factory = factory
        self._listeners = listeners
        self._gate = gate
        self.registry = self._registry = registry
        self._server = configuration.server
        self._reactor = reactor
        self._bound: dict[int, Bound | None] = {}
        self._listening: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """Take what root alone may have before twistd gives that up."""
        super().privilegedStartService()
        self._bound = {port: bind_if_privileged(port, self._server.interface) for port, _, _ in self._listeners}

    def startService(self) -> None:
        super().startService()
        server = self._server
        self._registry.start()
        for port, factory, how in self._listeners:
            listening = listen(
                port,
                factory,
                backlog=LISTEN_BACKLOG,
                interface=server.interface,
                gate=self._gate,
                reactor=self._reactor,
                bound=self._bound.pop(port, None),
            )
            self._listening.append(listening)
            address = listening.getHost()
            self.log.info(
                "{ae_title} is ready on {interface}:{port}{how}",
                ae_title=server.ae_title,
                interface=address.host,
                port=address.port,
                how=how,
            )

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        listening, self._listening = self._listening, []
        for port in listening:
            await maybeDeferred(port.stopListening)
        self._factory.is_draining = True  # who is let in now is told so (RELIABILITY P1)
        self._gate.let_all_in()
        grace_s = self._server.shutdown_grace_seconds
        if len(self._registry):
            self.log.info(
                "listening no longer; {count} associations get up to {grace_s:g} s to finish",
                count=len(self._registry),
                grace_s=grace_s,
            )
        timers = (
            self._reactor.callLater(grace_s, self._factory.abort_all),
            self._reactor.callLater(grace_s + DROP_AFTER_S, self._factory.drop_all),
        )
        await self._factory.drain()
        for timer in timers:
            if timer.active():
                timer.cancel()
        self._registry.stop()


def association_settings(configuration: Configuration) -> AssociationSettings:
    """Give the associations' part of the configuration."""
    server = configuration.server
    return AssociationSettings(
        artim_timeout_s=server.artim_timeout_seconds,
        association_timeout_s=server.limits.association_timeout_seconds,
        idle_timeout_s=server.idle_timeout_seconds,
        fragment_timeout_s=server.limits.fragment_timeout_seconds,
        unread_timeout_s=server.limits.unread_response_seconds,
        command_set_bytes=server.limits.command_set_bytes,
        max_pdu_length=server.max_pdu_length,
        associate_pdu_bytes=server.limits.associate_pdu_bytes,
    )


def make_acceptor(
    configuration: Configuration,
    *,
    dispatcher: ServiceDispatcher,
    admission: Admission,
    contexts: Contexts,
    registry: AssociationRegistry,
    bus: EventBus,
    metrics: Metrics,
    reactor: Any,
) -> AcceptorService:
    """Give what accepts associations, on every port that is configured."""
    server = configuration.server
    gate = FloodGate(clock=reactor, metrics=metrics)
    factory = AcceptorFactory(
        settings=AcceptorSettings(
            ae_title=server.ae_title,
            accepts_any_called_ae=server.accept_any_called_ae,
            max_associations=server.max_associations,
            max_associations_per_peer=server.max_associations_per_peer,
            max_associations_per_address=server.limits.associations_per_address,
            max_half_open=server.limits.half_open_connections,
            logs_associations=configuration.logging.level == "debug",
        ),
        association_settings=association_settings(configuration),
        registry=registry,
        dispatcher=dispatcher,
        admission=admission,
        implementation=Implementation(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME),
        bus=bus,
        metrics=metrics,
        gate=gate,
        clock=reactor,
        expect=attend(reactor),
    )
    return AcceptorService(
        factory=factory,
        listeners=listeners(configuration, contexts, factory, reactor=reactor),
        gate=gate,
        registry=registry,
        configuration=configuration,
        reactor=reactor,
    )


def make_remote_nodes(configuration: Configuration, *, contexts: Contexts, reactor: Any) -> RemoteNodes:
    """Give the configured nodes, reached over TLS where they say so."""
    server = configuration.server
    requestor = Requestor(
        calling_ae_title=server.ae_title,
        implementation=Implementation(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME),
        settings=association_settings(configuration),
        clock=reactor,
    )

    return RemoteNodes(
        nodes=[RemoteNode(node.ae_title, node.host, node.port, node.tls) for node in server.remote_nodes],
        requestor=requestor,
        endpoint_for=partial(
            endpoint_for, contexts=contexts, timeout_s=server.limits.connect_timeout_seconds, reactor=reactor
        ),
        associations_per_node=server.limits.associations_per_remote_node,
        clock=reactor,
    )
