"""
A command of the control socket without a server: the archive and its audit log are opened for it alone.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from pacs.archive.archive import Archive
from pacs.assembly.archive import ArchiveService, archive_settings
from pacs.assembly.audit import make_audit_service
from pacs.assembly.importing import import_commands
from pacs.assembly.pseudonyms import vault_commands
from pacs.assembly.workflow import worklist_command
from pacs.config import Configuration
from pacs.control.client import CommandFailed
from pacs.control.lock import RootPathLock
from pacs.control.server import ControlCommand, Progress
from pacs.events import EventBus
from pacs.monitoring.health import HealthRegister
from pacs.monitoring.metrics import Metrics
from pacs.net.dispatch import ServiceDispatcher
from pacs.ordered_service import OrderedMultiService
from pacs.security.audit import AuditLog
from pacs.services.statuses import archive_failure
from pacs.workflow.worklist import Worklist


def perform_alone(
    configuration: Configuration, command: str, arguments: dict[str, Any], progress: Progress = lambda _: None
) -> dict[str, Any]:
    """
    Do it in this process, with the archive's lock.

    Raises:
        RootPathLocked: another process works on the archive.
        CommandFailed: it could not be done.
        OSError: the archive can't be used.
    """
    from twisted.internet import reactor

    lock = RootPathLock(archive_settings(configuration).root_path)
    lock.acquire()
    try:
        performance = _Performance(configuration, command, arguments, progress, reactor)
        reactor.addSystemEventTrigger("before", "shutdown", performance.end)
        reactor.callWhenRunning(performance.begin)  # when a signal stops the reactor, and is no KeyboardInterrupt
        reactor.run()
    finally:
        lock.release()
    if isinstance(performance.result, Failure):
        if performance.is_interrupted:
            raise CommandFailed("interrupted")
        raise CommandFailed(performance.result.getErrorMessage())
    return performance.result


class _Performance:
    """
    A command and the archive around it: who interrupts ends the command; the archive opens and closes all the same.

    Attributes:
        result: the command's, or why there is none.
    """

    def __init__(
        self, configuration: Configuration, command: str, arguments: dict[str, Any], progress: Progress, reactor: Any
    ) -> None:
        self._whole, self._audit, commands = _build(configuration, reactor)
        self._command = partial(commands[command], arguments, progress)
        self._reactor = reactor
        self._all: Deferred[None] | None = None
        self._commanding: Deferred[dict[str, Any]] | None = None
        self.is_interrupted = False
        self.result: dict[str, Any] | Failure = Failure(CommandFailed("interrupted"))

    def begin(self) -> None:
        """Open the archive, do it, close the archive, and stop the reactor."""
        if self.is_interrupted:
            return
        self._all = Deferred.fromCoroutine(self._perform())
        self._all.addErrback(self._failed)
        self._all.addBoth(lambda _: self._reactor.callLater(0, self._stop))

    def end(self) -> Deferred[None] | None:
        """Interrupt what is still being done; the reactor waits until archive and audit log are closed."""
        if self._all is None or not self._all.called:
            self.is_interrupted = True
        if self._commanding is not None:
            self._commanding.cancel()
        return self._all

    def _failed(self, failure: Failure) -> None:
        self.result = failure

    def _stop(self) -> None:
        with suppress(ReactorNotRunning):  # a signal has stopped it
            self._reactor.stop()

    async def _perform(self) -> None:
        await maybeDeferred(self._whole.startService)
        try:
            await self._whole.when_started
            if self.is_interrupted:
                raise CommandFailed("interrupted")
            if not self._audit.is_recording:
                raise CommandFailed("the audit log cannot be written")
            self._commanding = Deferred.fromCoroutine(self._obey())
            self.result = await self._commanding
        finally:
            await self._whole.stopService()

    async def _obey(self) -> dict[str, Any]:
        return await self._command()


def _build(
    configuration: Configuration, reactor: Any
) -> tuple[OrderedMultiService, AuditLog, dict[str, ControlCommand]]:
    """Give what is started and stopped, and the commands."""
    bus, metrics = EventBus(reactor=reactor), Metrics()
    health = HealthRegister(bus=bus, metrics=metrics)
    settings = archive_settings(configuration)
    archive = Archive(settings=settings, reactor=reactor, bus=bus, metrics=metrics, health=health)
    dispatcher = ServiceDispatcher(services=(), translate=archive_failure, metrics=metrics, clock=reactor)
    auditing = make_audit_service(configuration, dispatcher=dispatcher, health=health, bus=bus, reactor=reactor)
    whole = OrderedMultiService()
    for child in (auditing, ArchiveService(archive)):
        child.setServiceParent(whole)
    commands: dict[str, ControlCommand] = {
        **vault_commands(configuration, archive=archive, bus=bus, audit=auditing.audit),
        **import_commands(archive, bus),
        "worklist": worklist_command(Worklist(archive=archive, bus=bus)),
    }
    return whole, auditing.audit, commands
