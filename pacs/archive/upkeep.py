"""
What looks after an open archive in the background: the sweep for unknown files after a crash, and the thread that
checks whether what is kept is right. Here they meet the reactor's thread; the work itself is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.candidate import Candidate
from pacs.archive.errors import ArchiveClosed, ObjectGone
from pacs.archive.integrity import IntegrityThread, Reporter
from pacs.archive.interfaces import Stored
from pacs.archive.objects.files import FileStore
from pacs.archive.recovery import Sweep
from pacs.archive.settings import ArchiveSettings
from pacs.archive.transaction import Job
from pacs.events import EventBus, IntegrityAlarm
from pacs.monitoring.health import ComponentHealth, Health


class Upkeep:
    """
    Starts and stops it.

    Args:
        storage, database: where it is told how they are.
        take_in: indexes a file that has its final name already.
        write: has the commit thread run a job.
        swept: called when the sweep has ended.

    Attributes:
        is_swept: no file may be unknown to the index.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        settings: ArchiveSettings,
        store: FileStore,
        reactor: Any,
        bus: EventBus,
        storage: ComponentHealth,
        database: ComponentHealth,
        take_in: Callable[[Candidate], Deferred[Stored]],
        write: Callable[[Job], Deferred[None]],
        swept: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._reactor = reactor
        self._bus = bus
        self._storage = storage
        self._database = database
        self._take_in = take_in
        self._write = write
        self._swept = swept
        self._sweep: Sweep | None = None
        self._integrity: IntegrityThread | None = None
        self.is_swept = False

    def start(self, *, was_clean: bool) -> None:
        """
        Begin.

        Args:
            was_clean: the last run ended in order, there is nothing to sweep.
        """
        self.is_swept = was_clean
        if was_clean:
            self._storage.report("sweep", Health.HEALTHY)
        else:
            self._start_sweep()
        self._start_integrity()

    def stop_in_thread(self) -> None:
        """End, done or not."""
        if self._integrity is not None:
            self._integrity.stop()
        if self._sweep is not None:
            self._sweep.stop()

    def _start_sweep(self) -> None:
        call = self._reactor.callFromThread
        self._storage.report("sweep", Health.RECOVERING, "looking for files that the index does not know")
        self._sweep = Sweep(
            settings=self._settings,
            store=self._store,
            take_in=lambda candidate: call(self._take_in_swept, candidate),
            ended=lambda: call(self._sweep_ended),
        )
        self._sweep.start()

    def _sweep_ended(self) -> None:
        """What it found has been handed over before."""
        self.is_swept = self._sweep is not None and self._sweep.is_complete
        self._storage.report("sweep", Health.HEALTHY, "every file is known")
        self._swept()

    def _start_integrity(self) -> None:
        call = self._reactor.callFromThread
        self._integrity = IntegrityThread(
            index_path=self._settings.index_path,
            store=self._store,
            scrub_interval_s=self._settings.scrub_interval_s,
            reporter=Reporter(
                write=self._write_aside,
                database=lambda *report: call(self._database.report, *report),
                storage=lambda *report: call(self._storage.report, *report),
                alarm=lambda description, subject: self._bus.publish(
                    IntegrityAlarm(description=description, subject=subject)
                ),
            ),
        )
        self._integrity.start()

    def _write_aside(self, job: Job) -> None:
        self._write(job).addErrback(
            lambda failure: self.log.failure("a finding could not be noted in the index", failure)
        )

    def _take_in_swept(self, candidate: Candidate) -> None:
        try:
            self._take_in(candidate).addErrback(self._not_taken_in, candidate)
        except ArchiveClosed:
            return

    def _not_taken_in(self, failure: Failure, candidate: Candidate) -> None:
        if failure.check(ObjectGone):
            return  # it was deleted
        self.log.warn(
            "the file of instance {sop_instance_uid} is put into quarantine: {reason}",
            sop_instance_uid=candidate.header.sop_instance_uid,
            reason=failure.getErrorMessage(),
        )
        self._store.quarantine(candidate.incoming_path)
