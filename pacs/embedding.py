"""
The server within a Python program of your own: build it, subscribe to its events, run it.

The process is the server's: signals, umask and resource limits are set as under twistd.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorCore
from twisted.logger import globalLogBeginner

from pacs.application import make_service
from pacs.assembly.process import Server
from pacs.config import Loaded, load_configuration
from pacs.events import (
    AccessDenied,
    AssociationEvent,
    E,
    EventBus,
    Handler,
    ImageReceived,
    QueryExecuted,
)
from pacs.tap import log_warnings

Unsubscribe = Callable[[], None]


class ProductionPACS:
    """
    A server that is not started yet.

    Handlers are plain functions or coroutine functions with the event as their one argument. They run in the reactor's
    thread: what blocks belongs into `twisted.internet.threads.deferToThread`. One that fails is logged and harms no
    other. Each subscription returns a function that ends it.

    Attributes:
        bus: for events that have no shorthand.
        service: to be started by an application of Twisted's instead of `run()`.
    """

    def __init__(self, loaded: Loaded, *, reactor: Any) -> None:
        self._loaded = loaded
        self._reactor = reactor
        self.bus = EventBus(reactor=reactor)
        self.service: Server = make_service(loaded.configuration, bus=self.bus, reactor=reactor)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str] | None, *, reactor: IReactorCore, environment: Mapping[str, str] = os.environ
    ) -> ProductionPACS:
        """
        Build a server from a configuration file.

        Args:
            path: None, or one that does not exist, gives the built-in defaults.
            environment: overrides the file, `PACS_SERVER__PORT=11113` for example.

        Raises:
            ConfigurationError: with all faults of the file.
            TLSFault: a certificate or key can't be used.
        """
        return cls(load_configuration(None if path is None else Path(path), environment), reactor=reactor)

    def run(self) -> None:
        """
        Serve until SIGTERM, SIGINT or `reactor.stop()`; what was acknowledged is on disk then.

        A server that can't start ends the process with status 1 and says why in the log.
        """
        globalLogBeginner.beginLoggingTo([self.service.observer], redirectStandardIO=False)
        source = self._loaded.source
        log_warnings(self._loaded, None if source is None else str(source))
        self.service.startService()
        self._reactor.addSystemEventTrigger("before", "shutdown", self.service.stopService)
        self._reactor.run(installSignalHandlers=False)

    # -- events

    def subscribe(self, event_type: type[E], handler: Handler[E]) -> Unsubscribe:
        """Have a handler called for each event of a class of `pacs.events`."""
        return self.bus.subscribe(event_type, handler)

    def on_image_received(self, handler: Handler[ImageReceived]) -> Unsubscribe:
        """Subscribe to stored objects; they are durable and visible."""
        return self.bus.on_image_received(handler)

    def on_query_executed(self, handler: Handler[QueryExecuted]) -> Unsubscribe:
        """Subscribe to answered queries."""
        return self.bus.on_query_executed(handler)

    def on_association_event(self, handler: Handler[AssociationEvent]) -> Unsubscribe:
        """Subscribe to associations that open, close or are refused."""
        return self.bus.on_association_event(handler)

    def on_access_denied(self, handler: Handler[AccessDenied]) -> Unsubscribe:
        """Subscribe to missing rights."""
        return self.bus.on_access_denied(handler)
