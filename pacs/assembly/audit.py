"""
The audit log's part of the assembly: it is opened before anything that it records, and closed after it.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from pacs.config import Configuration
from pacs.events import EventBus
from pacs.monitoring.health import Health, HealthRegister
from pacs.net.dispatch import ServiceDispatcher
from pacs.security.audit import AuditLog, AuditSettings
from pacs.security.audit.builders import Builder
from pacs.security.audit.subscriber import AuditSubscriber


def audit_settings(configuration: Configuration) -> AuditSettings:
    """Give the audit log's part of the configuration."""
    logging, root_path = configuration.logging, Path(configuration.storage.root_path)
    return AuditSettings(
        log_path=Path(logging.audit_log_path),
        key_path=Path(logging.audit_key_file) if logging.audit_key_file else root_path / "audit.key",
        head_path=root_path / "audit.head",
        reserve_bytes=logging.audit_reserve_bytes,
        rotate_bytes=logging.audit_rotate_bytes,
    )


def make_audit_log(configuration: Configuration, *, health: HealthRegister, reactor: Any) -> tuple[AuditLog, AuditGate]:
    """Build the audit log, and what stops the service when it cannot be written."""
    gate = AuditGate(health)
    audit = AuditLog(
        settings=audit_settings(configuration),
        builder=Builder(configuration.server.ae_title, socket.gethostname(), str(os.getpid())),
        reactor=reactor,
        changed=gate.changed,
    )
    return audit, gate


class AuditGate:
    """Stops serving patient data while the audit log cannot be written (RELIABILITY S7)."""

    def __init__(self, health: HealthRegister) -> None:
        self._health = health
        self._dispatcher: ServiceDispatcher | None = None

    def guard(self, dispatcher: ServiceDispatcher) -> None:
        """Have the dispatcher's services stopped and resumed."""
        self._dispatcher = dispatcher

    def changed(self, is_recording: bool, reason: str) -> None:
        """Take the audit log's state."""
        if is_recording:
            self._health.set("audit", Health.DEGRADED if reason else Health.HEALTHY, reason or "it is written")
        else:
            self._health.set("audit", Health.UNHEALTHY, reason)
        if self._dispatcher is not None:
            if is_recording:
                self._dispatcher.resume()
            else:
                self._dispatcher.suspend("the audit log cannot be written")


class AuditService(Service):
    """Opens the audit log first and closes it last; records the server's start and stop."""

    def __init__(self, *, audit: AuditLog, health: HealthRegister, bus: EventBus, reactor: Any) -> None:
        self._audit = audit
        self._health = health
        self._subscriber = AuditSubscriber(audit=audit, bus=bus, reactor=reactor)

    def startService(self) -> None:
        super().startService()
        self._audit.start()
        self._health.set("audit", Health.HEALTHY)
        self._subscriber.start()
        self._audit.put(self._audit.build.application_activity(is_start=True))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._subscriber.stop()
        self._audit.stop_looking()
        self._audit.put(self._audit.build.application_activity(is_start=False))
        return deferToThread(self._audit.stop)


class NetworkEntryService(Service):
    """Records that the server has begun to listen; the last to start and the first to stop."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def startService(self) -> None:
        super().startService()
        self._audit.put(self._audit.build.network_entry(is_attach=True))

    def stopService(self) -> None:
        super().stopService()
        self._audit.put(self._audit.build.network_entry(is_attach=False))
