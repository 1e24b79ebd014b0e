"""
The assembly: every object is built here and given its collaborators; start-up in order, shutdown in reverse.

Only this module knows everyone. Nothing else reads the configuration.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Final

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.archive import Archive
from pacs.archive.settings import ArchiveSettings
from pacs.config import Configuration
from pacs.control.lock import RootPathLock, RootPathLocked
from pacs.control.server import ControlServer
from pacs.events import EventBus
from pacs.monitoring.health import LatenessWatchdog
from pacs.monitoring.logs import install_logging
from pacs.monitoring.metrics import Metrics
from pacs.net.acceptor import AcceptorFactory
from pacs.net.dispatch import ServiceDispatcher
from pacs.net.registry import AssociationRegistry
from pacs.net.settings import AcceptorSettings, AssociationSettings
from pacs.ordered_service import OrderedMultiService
from pacs.security.access import Principal, Role
from pacs.services.query import QueryService
from pacs.services.statuses import archive_failure
from pacs.services.storage import StorageService
from pacs.services.verification import VerificationService
from pacs.ul import IMPLEMENTATION, AAssociateRQ
from pacs.version import __version__

SWITCH_INTERVAL_S: Final = 0.0005  # the reactor and the commit thread share the interpreter: neither waits 5 ms for the other
LISTEN_BACKLOG: Final = 256


class ArchiveService(Service):
    """Opens the archive before the ports, and closes it after them."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def startService(self) -> Deferred[None]:
        super().startService()
        return Deferred.fromCoroutine(self._archive.start())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._archive.stop())


class AcceptorService(Service):
    """Listens for associations; at the end lets running requests finish."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        factory: AcceptorFactory,
        registry: AssociationRegistry,
        interface: str,
        port: int,
        ae_title: str,
        grace_s: float,
        reactor: Any,
    ) -> None:
        self._factory = factory
        self._registry = registry
        self._interface = interface
        self._port = port
        self._ae_title = ae_title
        self._grace_s = grace_s
        self._reactor = reactor
        self._listening: IListeningPort | None = None

    def startService(self) -> None:
        super().startService()
        self._listening = self._reactor.listenTCP(
            self._port, self._factory, backlog=LISTEN_BACKLOG, interface=self._interface
        )
        self._registry.start()
        address = self._listening.getHost()
        self.log.info(
            "{ae_title} is ready on {interface}:{port}",
            ae_title=self._ae_title,
            interface=address.host,
            port=address.port,
        )

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        self.log.info(
            "listening no longer; {count} associations get up to {grace_s:g} s to finish",
            count=len(self._registry),
            grace_s=self._grace_s,
        )
        drained = self._factory.drain()
        end_of_grace = self._reactor.callLater(self._grace_s, self._factory.abort_all)
        drop = self._reactor.callLater(self._grace_s + 2.0, self._factory.drop_all)
        await drained
        for timer in (end_of_grace, drop):
            if timer.active():
                timer.cancel()
        self._registry.stop()
