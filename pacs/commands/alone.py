"""
A command of the control socket without a server: the archive and its audit log are opened for it alone.
"""

from __future__ import annotations

from contextlib import suppress
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
from pacs.control.server import Progress
from pacs.events import EventBus
from pacs.monitoring.health import HealthRegister
from pacs.monitoring.metrics import Metrics
from pacs.net.dispatch import ServiceDispatcher
from pacs.ordered_service import OrderedMultiService
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
        results: list[Any] = []
        interruptions: list[None] = []
        doing = Deferred.fromCoroutine(_perform(configuration, command, arguments, progress, reactor))
        doing.addBoth(results.append)
        doing.addBoth(lambda _: reactor.callLater(0, _stop, reactor))
        reactor.addSystemEventTrigger("before", "shutdown", _end, doing, interruptions)
        reactor.run()
    finally:
        lock.release()
    if isinstance(results[0], Failure):
        if interruptions:
            raise CommandFailed("interrupted")
        raise CommandFailed(results[0].getErrorMessage())
    found: dict[str, Any] = results[0]
    return found


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # a signal has stopped it
        reactor.stop()


def _end(doing: Deferred[None], interruptions: list[None]) -> Deferred[None]:
    """Interrupt what is still being done; the reactor waits until archive and audit log are closed."""
    if not doing.called:
        interruptions.append(None)
        doing.cancel()
    return doing


async def _perform(
    configuration: Configuration, command: str, arguments: dict[str, Any], progress: Progress, reactor: Any
) -> dict[str, Any]:
    bus, metrics = EventBus(reactor=reactor), Metrics()
    health = HealthRegister(bus=bus, metrics=metrics)
    settings = archive_settings(configuration)
    archive = Archive(settings=settings, reactor=reactor, bus=bus, metrics=metrics, health=health)
    dispatcher = ServiceDispatcher(services=(), translate=archive_failure, metrics=metrics, clock=reactor)
    auditing = make_audit_service(configuration, dispatcher=dispatcher, health=health, bus=bus, reactor=reactor)
    whole = OrderedMultiService()
    for child in (auditing, ArchiveService(archive)):
        child.setServiceParent(whole)
    commands = {
        **vault_commands(configuration, archive=archive, bus=bus, audit=auditing.audit),
        **import_commands(archive, bus),
        "worklist": worklist_command(Worklist(archive=archive, bus=bus)),
    }
    await maybeDeferred(whole.startService)
    try:
        await whole.when_started
        if not auditing.audit.is_recording:
            raise CommandFailed("the audit log cannot be written")
        return await commands[command](arguments, progress)
    finally:
        await whole.stopService()
