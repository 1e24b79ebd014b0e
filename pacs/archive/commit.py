"""
Group commit: one thread takes whatever waits as the next batch, writes its rows in one transaction, makes one
barrier for files, names and the index's log, and then answers all at once.

No timer: while one batch syncs, the next gathers. Nothing is acknowledged, and no reader sees a row, before the
barrier has returned. When it fails, the batch is taken back and the archive refuses objects until a barrier succeeds.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.batch import Batch, CommittedObject
from pacs.archive.candidate import Candidate
from pacs.archive.errors import ArchiveBusy, ArchiveClosed, StorageFailed
from pacs.archive.index.writer import IndexWriter
from pacs.archive.interfaces import Stored
from pacs.archive.objects.files import FileStore
from pacs.archive.settings import ArchiveSettings

LARGEST_BATCH: Final = 512
WAITING_OBJECTS: Final = 4096
CHECKPOINT_LOG_BYTES: Final = 64 << 20


Job = Callable[[IndexWriter], None]
"""Something else that wants to write the index; it rides in the next batch."""


class _Threads(Protocol):
    def callFromThread(self, f: Callable[..., object], *args: object) -> object: ...


class CommitThread:
    """
    The one writer of the index and of final names.

    Args:
        gate: held from the transaction's commit until the barrier has returned; readers take it to begin a snapshot.
        committed: called in the commit thread with what a batch stored, after the barrier.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        settings: ArchiveSettings,
        store: FileStore,
        writer: IndexWriter,
        gate: threading.Lock,
        reactor: _Threads,
        committed: Callable[[Sequence[CommittedObject], float], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._writer = writer
        self._gate = gate
        self._reactor = reactor
        self._committed = committed
        self._queue: queue.SimpleQueue[Candidate | tuple[Job, Deferred[None]] | None] = queue.SimpleQueue()
        self._postponed: list[Candidate] = []
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-commit", daemon=True)
        self._is_closed = False
        self._is_suspect = False
        self._log_path = f"{settings.index_path}-wal"
        self.waiting = 0
        self.last_batch_s = 0.0

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what waits, then end; blocks until that is done."""
        self._is_closed = True
        self._queue.put(None)
        self._thread.join()

    # -- the reactor's side

    def submit(self, candidate: Candidate) -> Deferred[Stored]:
        """
        Join the next batch.

        Returns:
            fires when the object is durable; fails with an `ArchiveError`.

        Raises:
            ArchiveBusy: too many wait.
        """
        if self._is_closed:
            raise ArchiveClosed("the server is shutting down")
        if self.waiting >= WAITING_OBJECTS:
            raise ArchiveBusy("too many objects wait to be stored")
        self.waiting += 1
        self._queue.put(candidate)
        return candidate.answer

    def run(self, job: Job) -> Deferred[None]:
        """Have the index written by a function, in the next batch's transaction."""
        done: Deferred[None] = Deferred()
        self._queue.put((job, done))
        return done

    def _answer(self, answers: Sequence[tuple[Deferred[Any], object]]) -> None:
        for deferred, result in answers:
            if isinstance(result, Exception):
                deferred.errback(Failure(result))
            else:
                deferred.callback(result)

    # -- the thread

    def _run_in_thread(self) -> None:
        while True:
            candidates, self._postponed = self._postponed, []
            jobs: list[tuple[Job, Deferred[None]]] = []
            is_ending = self._gather(candidates, jobs)
            if candidates or jobs:
                try:
                    self._commit_batch(candidates, jobs)
                except Exception as error:  # noqa: BLE001 - the thread's own border: it must go on
                    self.log.failure("a batch of {count} objects failed", count=len(candidates))
                    self._reply(candidates, jobs, StorageFailed(f"index error: {type(error).__name__}"))
            if is_ending and not self._postponed and self._queue.empty():
                self._checkpoint()
                return

    def _gather(self, candidates: list[Candidate], jobs: list[tuple[Job, Deferred[None]]]) -> bool:
        """Take whatever waits; wait only when nothing does."""
        waits = not candidates
        while len(candidates) + len(jobs) < LARGEST_BATCH:
            try:
                item = self._queue.get(block=waits)
            except queue.Empty:
                break
            waits = False
            if item is None:
                return True
            if isinstance(item, Candidate):
                candidates.append(item)
            else:
                jobs.append(item)
        return self._is_closed

    def _reply(
        self, candidates: Sequence[Candidate], jobs: Sequence[tuple[Job, Deferred[None]]], result: Exception
    ) -> None:
        answers: list[tuple[Deferred[Any], object]] = [(candidate.answer, result) for candidate in candidates]
        answers += [(done, result) for _, done in jobs]
        self.waiting -= len(candidates)
        self._reactor.callFromThread(self._answer, answers)

    def _commit_batch(self, candidates: list[Candidate], jobs: list[tuple[Job, Deferred[None]]]) -> None:
        started_s = time.monotonic()
        if self._is_suspect and candidates and not self._is_sound_again():
            self._reply(candidates, jobs, StorageFailed("storage failed; objects are refused until it works again"))
            return
        batch = Batch(self._settings, self._store, self._writer)
        try:
            self._writer.begin()
            batch.place_all(candidates)
            for job, _ in jobs:
                job(self._writer)
            self._gate.acquire()
            try:
                self._writer.commit()
                if batch.stored:
                    self._store.barrier()
            except OSError as error:
                self._is_suspect = True
                self.log.error(
                    "the barrier failed, {count} objects are taken back: {error}",
                    count=len(batch.stored),
                    error=str(error),
                )
                batch.take_back()
                batch.fail_stored(StorageFailed("storage failed: the object could not be made durable"))
            finally:
                self._gate.release()
        except Exception:
            self._writer.rollback()
            batch.remove_files()
            raise
        batch.drop_replaced()
        self._postponed = batch.postponed
        self.last_batch_s = time.monotonic()
        answers = batch.answers
        self.waiting -= len(answers)
        answers += [(done, None) for _, done in jobs]
        self._reactor.callFromThread(self._answer, answers)
        if batch.stored:
            self._committed(batch.stored, self.last_batch_s - started_s)
        if self._log_length() > CHECKPOINT_LOG_BYTES:
            self._checkpoint()

    def _log_length(self) -> int:
        try:
            return os.stat(self._log_path).st_size
        except FileNotFoundError:
            return 0

    def _is_sound_again(self) -> bool:
        try:
            self._writer.checkpoint()
            self._store.barrier()
        except Exception:  # noqa: BLE001 - whatever it is: objects stay refused, and the log says why
            self.log.failure("storage does not work yet")
            return False
        self._is_suspect = False
        self.log.info("storage works again")
        return True

    def _checkpoint(self) -> None:
        """Empty the index's log; what was committed before needs no look at the next start."""
        try:
            self._writer.begin()
            self._writer.set_state("checked_pk", str(self._writer.next_instance_pk))
            self._writer.commit()
            self._store.barrier()
            self._writer.checkpoint()
        except Exception:  # noqa: BLE001 - the log stays, and is tried again with the next batch
            self.log.failure("the index's log could not be emptied")
            self._writer.rollback()
