"""
What looks after an open archive in the background: the sweep for unknown files after a crash, and the thread that
checks whether what is kept is right. Here they meet the reactor's thread; the work itself is theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.candidate import Candidate
from pacs.archive.errors import ArchiveBusy, ArchiveClosed, ArchiveError, ObjectGone, StorageFailed, StorageFull
from pacs.archive.integrity import IntegrityThread, Reporter
from pacs.archive.interfaces import Stored
from pacs.archive.objects.files import FileStore
from pacs.archive.recovery import Sweep
from pacs.archive.settings import ArchiveSettings
from pacs.archive.transaction import Job
from pacs.events import EventBus, IntegrityAlarm
from pacs.monitoring.health import ComponentHealth, Health

SWEPT_AT_ONCE: Final = 256  # a sixteenth of what may wait
ROOM_LOOK_S: Final = 0.1


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
        self._unsettled = 0  # the sweep itself, and the files that it has handed over
        self._is_left = False  # a file that the index does not know, or the sweep did not come to its end
        self._room = threading.Semaphore(SWEPT_AT_ONCE)
        self._is_stopping = False
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
        self._is_stopping = True
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
            take_in=self._hand_over_in_thread,
            ended=lambda: call(self._sweep_ended),
        )
        self._unsettled = 1
        self._sweep.start()

    def _sweep_ended(self) -> None:
        """What it found has been handed over before."""
        self._settle(is_known=self._sweep is not None and self._sweep.is_complete)

    def _settle(self, *, is_known: bool) -> None:
        self._unsettled -= 1
        self._is_left = self._is_left or not is_known
        if self._unsettled:
            return
        self.is_swept = not self._is_left
        if self.is_swept:
            self._storage.report("sweep", Health.HEALTHY, "every file is known")
        elif not self._is_stopping:
            reason = "not every file could be indexed; the log says why, and the next start tries again"
            self._storage.report("sweep", Health.DEGRADED, reason)
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

    def _hand_over_in_thread(self, candidate: Candidate) -> None:
        """Have a file taken in; a few at a time, so that objects which arrive find room in the queue."""
        while not self._room.acquire(timeout=ROOM_LOOK_S):
            if self._is_stopping:
                self._is_left = True
                return
        self._reactor.callFromThread(self._take_in_swept, candidate)

    def _take_in_swept(self, candidate: Candidate) -> None:
        self._unsettled += 1
        try:
            done = self._take_in(candidate)
        except ArchiveError as error:
            done = fail(error)
        done.addCallbacks(
            lambda _: self._settle(is_known=True),
            lambda failure: self._settle(is_known=self._is_put_aside(failure, candidate)),
        ).addBoth(lambda _: self._room.release())

    def _is_put_aside(self, failure: Failure, candidate: Candidate) -> bool:
        """Put a file that could not be taken in into quarantine, unless the fault is not its own; give whether."""
        if failure.check(ObjectGone):
            return True  # it was deleted
        uid, reason = candidate.header.sop_instance_uid, failure.getErrorMessage()
        if failure.check(StorageFailed, StorageFull, ArchiveBusy, ArchiveClosed):
            self.log.error("instance {uid} is not indexed yet: {reason}", uid=uid, reason=reason)
            return False
        self.log.warn(
            "the file of instance {sop_instance_uid} is put into quarantine: {reason}",
            sop_instance_uid=uid,
            reason=reason,
        )
        try:
            self._store.quarantine(candidate.incoming_path)
        except OSError as error:
            self.log.error("it can't be put into quarantine: {error}", error=error.strerror or str(error))
            return False
        return True
