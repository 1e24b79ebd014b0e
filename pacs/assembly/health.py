"""
The part of the assembly that looks after the server's health.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime

from pacs.archive.archive import Archive
from pacs.archive.checks import ArchiveChecks
from pacs.monitoring.checks import HealthChecks
from pacs.monitoring.health import ComponentHealth, HealthRegister, LatenessWatchdog


class HealthService(Service):
    """Looks at the components while the server runs; started after the archive is open."""

    def __init__(self, *, archive: Archive, register: HealthRegister, interval_s: float, clock: IReactorTime) -> None:
        checks = ArchiveChecks(archive).checks(
            database=archive.database_health,
            storage=archive.storage_health,
            queues=ComponentHealth(register, "queues"),
        )
        self._checks = HealthChecks(checks=checks, interval_s=interval_s, clock=clock)

    def startService(self) -> None:
        super().startService()
        self._checks.start()

    def stopService(self) -> None:
        super().stopService()
        self._checks.stop()


class WatchdogService(Service):
    """Runs the lateness watchdog."""

    def __init__(self, watchdog: LatenessWatchdog) -> None:
        self._watchdog = watchdog

    def startService(self) -> None:
        super().startService()
        self._watchdog.start()

    def stopService(self) -> None:
        super().stopService()
        self._watchdog.stop()
