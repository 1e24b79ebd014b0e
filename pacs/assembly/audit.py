"""
The audit log's part of the assembly: it is opened before anything that it records, and closed after it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from pacs.config import Configuration
from pacs.config.model import AuditSyslog
from pacs.control.server import ControlCommand, Progress
from pacs.events import EventBus, StudyInstances
from pacs.monitoring.health import Health, HealthRegister
from pacs.net.dispatch import ServiceDispatcher
from pacs.security.audit import AlertKind, AuditLog, AuditSettings, Outcome
from pacs.security.audit.builders import Builder, Party
from pacs.security.audit.forwarder import Forwarder
from pacs.security.audit.messages import AuditMessage
from pacs.security.audit.spool import Spool
from pacs.security.audit.subscriber import AuditSubscriber
from pacs.security.audit.syslog import local_format
from pacs.security.audit.transports import TLSTransport, Transport, UDPTransport, client_options
from pacs.security.audit.writer import AuditWriter


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


def message_of(request: Mapping[str, Any], *, build: Builder, log_path: Path) -> AuditMessage:
    """
    Give the message of what `pacsctl` has to record.

    Args:
        request: `what` is `audit-log-used`, `export` (with `destination` and `studies`) or `restore` (with `source`);
            `user` is who did it.

    Raises:
        ValueError: it is none of these.
    """
    user = Party(str(request["user"]), is_user=True)
    match request["what"]:
        case "audit-log-used":
            return build.audit_log_used(user, log_path.absolute().as_uri())
        case "export":
            studies = [
                StudyInstances(str(uid), str(patient_id), tuple((str(kind), int(number)) for kind, number in numbers))
                for uid, patient_id, numbers in request["studies"]
            ]
            return build.export(user, str(request["destination"]), studies)
        case "restore":
            return build.security_alert(
                AlertKind.SOFTWARE_CONFIGURATION,
                "the archive was restored from a backup",
                outcome=Outcome.SUCCESS,
                party=user,
                subject=str(request["source"]),
            )
    raise ValueError("unknown record")


def audit_commands(audit: AuditLog) -> Mapping[str, ControlCommand]:
    """Give the commands by which `pacsctl` has something recorded by a running server."""

    async def record(arguments: dict[str, Any], _: Progress) -> dict[str, Any]:
        if not audit.is_recording:
            raise OSError(audit.reason or "the audit log cannot be written")
        audit.put(message_of(arguments, build=audit.build, log_path=audit.settings.log_path))
        return {}

    return {"audit-record": record}


def record_alone(configuration: Configuration, messages: Callable[[Builder], Sequence[AuditMessage]]) -> None:
    """
    Record something while no server runs; the archive's lock is the caller's business.

    Raises:
        AuditKeyError, OSError: the log can't be opened.
    """
    builder = _builder(configuration)
    writer = AuditWriter(
        settings=audit_settings(configuration), builder=builder, changed=lambda _, __: None, written=lambda _: None
    )
    writer.start()
    for message in messages(builder):
        writer.put(message)
    writer.stop()


def _builder(configuration: Configuration) -> Builder:
    return Builder(configuration.server.ae_title, socket.gethostname(), str(os.getpid()))


def make_audit_service(
    configuration: Configuration, *, dispatcher: ServiceDispatcher, health: HealthRegister, bus: EventBus, reactor: Any
) -> AuditService:
    """Build the audit log with all that feeds it, sends it on, and stops the service when it cannot be written."""
    process_id = str(os.getpid())
    gate = AuditGate(health, dispatcher)
    forwarder: Forwarder | None = None
    audit = AuditLog(
        settings=audit_settings(configuration),
        builder=_builder(configuration),
        reactor=reactor,
        changed=gate.changed,
        written=lambda _: forwarder.wake() if forwarder is not None else None,
    )
    forwarder = _forwarder(configuration, audit=audit, health=health, reactor=reactor, process_id=process_id)
    return AuditService(
        audit=audit,
        subscriber=AuditSubscriber(audit=audit, bus=bus, reactor=reactor),
        forwarder=forwarder,
        health=health,
    )


def _forwarder(
    configuration: Configuration, *, audit: AuditLog, health: HealthRegister, reactor: Any, process_id: str
) -> Forwarder | None:
    syslog = configuration.logging.audit_syslog
    if syslog is None:
        return None

    def changed(is_there: bool, reason: str) -> None:
        health.set("audit_collector", Health.HEALTHY if is_there else Health.DEGRADED, reason)

    def gave_up(count: int) -> None:
        audit.security_alert(
            AlertKind.AUDIT_RECORDING_STOPPED,
            f"{count} records were not sent to the audit collector: too many waited",
            subject=f"{syslog.host}:{syslog.port}",
            outcome=Outcome.SERIOUS_FAILURE,
        )

    return Forwarder(
        spool=Spool(
            log_path=audit.settings.log_path,
            sent_path=audit.settings.head_path.with_name("audit.sent"),
            most_bytes=syslog.spool_bytes,
        ),
        transport=_transport(syslog, configuration.server.tls.ca_certificate, reactor=reactor),
        message_format=local_format(process_id),
        reactor=reactor,
        changed=changed,
        gave_up=gave_up,
    )


def _transport(syslog: AuditSyslog, default_ca: str, *, reactor: Any) -> Transport:
    if syslog.transport == "udp":
        return UDPTransport(host=syslog.host, port=syslog.port, reactor=reactor)
    try:
        options = client_options(
            syslog.host,
            ca_certificate=Path(syslog.ca_certificate or default_ca),
            certificate=Path(syslog.certificate) if syslog.certificate else None,
            private_key=Path(syslog.private_key) if syslog.private_key else None,
        )
    except (OSError, ValueError) as error:
        print(f"productionpacs: logging.audit_syslog: {error}", file=sys.__stderr__)
        raise SystemExit(1) from None
    return TLSTransport(host=syslog.host, port=syslog.port, options=options, reactor=reactor)


class AuditGate:
    """Stops serving patient data while the audit log cannot be written (RELIABILITY S7)."""

    def __init__(self, health: HealthRegister, dispatcher: ServiceDispatcher) -> None:
        self._health = health
        self._dispatcher = dispatcher

    def changed(self, is_recording: bool, reason: str) -> None:
        """Take the audit log's state."""
        if is_recording:
            self._health.set("audit", Health.DEGRADED if reason else Health.HEALTHY, reason or "it is written")
            self._dispatcher.resume()
        else:
            self._health.set("audit", Health.UNHEALTHY, reason)
            self._dispatcher.suspend("the audit log cannot be written")


class AuditService(Service):
    """Opens the audit log first and closes it last; records the server's start and stop."""

    def __init__(
        self, *, audit: AuditLog, subscriber: AuditSubscriber, forwarder: Forwarder | None, health: HealthRegister
    ) -> None:
        self.audit = audit
        self._subscriber = subscriber
        self._forwarder = forwarder
        self._health = health

    def startService(self) -> None:
        super().startService()
        self.audit.start()
        self._health.set("audit", Health.HEALTHY)
        self._subscriber.start()
        self.audit.put(self.audit.build.application_activity(is_start=True))
        if self._forwarder is not None:
            self._forwarder.start(self.audit.last_sequence)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._subscriber.stop()
        self.audit.stop_looking()
        self.audit.put(self.audit.build.application_activity(is_start=False))
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await deferToThread(self.audit.stop)
        self.audit.tell_head()
        if self._forwarder is not None:
            await self._forwarder.finish()


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
