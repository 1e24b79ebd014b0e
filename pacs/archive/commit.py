"""
Group commit: one thread takes whatever waits as the next batch, writes its rows in one transaction, makes the batch
durable by one sync, and then answers all at once.

An object that arrives alone on a disk that answers at once is committed where it is, in the reactor's thread: two
switches of threads would take as long as the sync of a short one itself, and a fifth of that of a long one.

No timer: while one batch syncs, the next gathers. A batch of new short objects goes into the journal, which is synced
before the transaction is committed; any other needs a barrier for files, names and the index's log. One object by
itself needs the syncs of just these: the disk works on its file and its name while its rows are written. Nothing is
acknowledged, and no reader sees a row, before all of that has returned. When it fails, the batch is taken back and the
archive refuses objects until a barrier succeeds.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.arrivals import Arrivals
from pacs.archive.batch import Batch, CommittedObject
from pacs.archive.candidate import Candidate
from pacs.archive.errors import ArchiveBusy, ArchiveClosed, StorageFailed, index_failure
from pacs.archive.inbox import Inbox
from pacs.archive.index.writer import IndexWriter
from pacs.archive.interfaces import Stored
from pacs.archive.objects.files import FileStore
from pacs.archive.objects.journal import Journal
from pacs.archive.objects.syncing import SyncThread
from pacs.archive.settings import ArchiveSettings

LARGEST_BATCH: Final = 512
WAITING_OBJECTS: Final = 4096
CHECKPOINT_LOG_BYTES: Final = 64 << 20
LOG_GROWTH_BYTES: Final = 16 << 20  # until it is tried again, when a reader kept the log from being emptied
BATCHES_BETWEEN_LOOKS: Final = 64
FAST_S: Final = 0.004  # a disk whose commits take longer is left to the thread
FAST_BATCHES: Final = 3  # in a row, before it counts as fast


Job = Callable[[IndexWriter], None]
"""Something else that wants to write the index; it rides in the next batch."""


class Work(NamedTuple):
    """
    A job in the queue.

    Attributes:
        is_durable: `done` fires when what it wrote would survive a power cut; when it fails, nothing of it remains.
    """

    job: Job
    done: Deferred[None]
    is_durable: bool


_Reply = Callable[[Sequence[tuple[Deferred[Any], object]]], None]


def _nothing(writer: IndexWriter) -> None:
    """Have the commit thread make an empty batch."""


class CommitThread:
    """
    The one writer of the index and of final names.

    Args:
        journal: makes batches of short objects durable.
        gate: held from the transaction's commit until the barrier has returned; readers take it to begin a snapshot.
        committed: called in the commit thread with what a batch stored, after the barrier.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        settings: ArchiveSettings,
        store: FileStore,
        journal: Journal,
        writer: IndexWriter,
        gate: threading.Lock,
        reactor: Any,
        committed: Callable[[Sequence[CommittedObject], float], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._writer = writer
        self._gate = gate
        self._journal = journal
        self._inbox: Inbox[Sequence[tuple[Deferred[Any], object]]] = Inbox(reactor=reactor, deliver=self._answer)
        self._committed = committed
        self._queue: queue.SimpleQueue[Candidate | Work | None] = queue.SimpleQueue()
        self._postponed: list[Candidate] = []
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-commit", daemon=True)
        self._is_closed = False
        self._is_suspect = False
        self._syncing = SyncThread()
        self._log_path = f"{settings.index_path}-wal"
        self._turn = threading.Lock()  # who has it writes the index
        self._checkpoint_at_bytes = CHECKPOINT_LOG_BYTES
        self._fast_batches = 0
        self._batches = 0
        self.waiting = 0
        self.arrivals = Arrivals()
        self.last_batch_s = 0.0

    def start(self) -> None:
        """Begin to commit; called by the reactor's thread."""
        self._inbox.start()
        self._syncing.start()
        self._thread.start()

    def stop(self) -> None:
        """Commit what waits, then end; blocks until that is done. `answer_last` is to follow."""
        self._is_closed = True
        self._queue.put(None)
        self._thread.join()
        self._syncing.stop()

    def answer_last(self) -> None:
        """Give the last answers; called by the reactor's thread."""
        self._inbox.stop()

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
        if not (self._is_alone(candidate) and self._commit_here(candidate)):
            self._queue.put(candidate)
        return candidate.answer

    def _is_alone(self, candidate: Candidate) -> bool:
        return (
            self.waiting == 1
            and not self.arrivals.are_several()
            and bool(candidate.incoming_path)
            and self._fast_batches >= FAST_BATCHES
            and not self._is_suspect
            and self._journal.is_trusted
        )

    def _commit_here(self, candidate: Candidate) -> bool:
        """Commit one object in the reactor's thread, if the commit thread has nothing to do."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._commit_or_fail([candidate], [], self._answer)
        finally:
            self._turn.release()
        if self._batches % BATCHES_BETWEEN_LOOKS == 0:
            self.run(_nothing).addErrback(lambda _: None)  # the thread looks at the log, and tells what fails
        return True

    def run(self, job: Job, *, is_durable: bool = False) -> Deferred[None]:
        """
        Have the index written by a function, in the next batch's transaction; it must not raise.

        Args:
            is_durable: the Deferred fires when what it wrote would survive a power cut. The log is synced with the
                commit: when that fails, nothing of the batch remains.
        """
        done: Deferred[None] = Deferred()
        self._queue.put(Work(job, done, is_durable))
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
            jobs: list[Work] = []
            is_ending = self._gather(candidates, jobs)
            if candidates or jobs:
                with self._turn:
                    self._postponed = self._commit_or_fail(candidates, jobs, self._inbox.put)
                    if self._log_length() > self._checkpoint_at_bytes:
                        self._checkpoint()
                        self._checkpoint_at_bytes = max(CHECKPOINT_LOG_BYTES, self._log_length() + LOG_GROWTH_BYTES)
            if is_ending and not self._postponed and self._queue.empty():
                self._checkpoint()
                return

    def _gather(self, candidates: list[Candidate], jobs: list[Work]) -> bool:
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

    def _commit_or_fail(self, candidates: list[Candidate], jobs: list[Work], reply: _Reply) -> list[Candidate]:
        """Commit a batch and answer it; give what must wait for the next one."""
        failure: Exception
        try:
            is_suspect = self._is_suspect or not self._journal.is_trusted
            if not (is_suspect and candidates) or self._is_sound_again():
                return self._commit_batch(candidates, jobs, reply)
            failure = StorageFailed("storage failed; objects are refused until it works again")
        except Exception as error:  # noqa: BLE001 - the border of whoever commits: it must go on
            self.log.failure("a batch of {count} objects failed", count=len(candidates))
            failure = index_failure(error)
        self._discard_incoming(candidates)
        self.waiting -= len(candidates)
        answers: list[tuple[Deferred[Any], object]] = [(candidate.answer, failure) for candidate in candidates]
        reply([*answers, *((work.done, failure) for work in jobs)])
        return []

    def _discard_incoming(self, candidates: Sequence[Candidate]) -> None:
        """Remove the files of objects that were not placed; those that were placed are gone by another name."""
        for candidate in candidates:
            if candidate.incoming_path and not candidate.is_rebuilt:
                self._store.discard(candidate.incoming_path)

    def _commit_batch(self, candidates: list[Candidate], jobs: list[Work], reply: _Reply) -> list[Candidate]:
        started_s = time.monotonic()
        is_synced = any(work.is_durable for work in jobs)
        batch = Batch(
            self._settings, self._store, self._writer, retire_journal=self.retire_journal, named=self._begin_sync_of
        )
        try:
            self._writer.begin(is_synced=is_synced)
            batch.place_all(candidates)
            for work in jobs:
                work.job(self._writer)
            try:
                if batch.is_short and not is_synced and self._journal.append(batch.journal_entries()):
                    self._commit_recorded()
                else:
                    self._commit_by_barrier(batch)
            except OSError as error:
                self._is_suspect = True
                self._journal.distrust()
                self.log.error(
                    "the barrier failed, {count} objects are taken back: {error}",
                    count=len(batch.stored),
                    error=str(error),
                )
                if self._writer.in_transaction:
                    batch.take_back()
                batch.fail_stored(StorageFailed("storage failed: the object could not be made durable"))
        except Exception:
            self._writer.rollback()
            self._end_sync()
            batch.remove_files()
            raise
        batch.drop_replaced()
        self.last_batch_s = time.monotonic()
        duration_s = self.last_batch_s - started_s
        self._batches += 1
        self._fast_batches = self._fast_batches + 1 if duration_s < FAST_S * max(1, len(batch.answers)) else 0
        answers = batch.answers
        self.waiting -= len(answers)
        answers += [(work.done, None) for work in jobs]
        reply(answers)
        if batch.stored:
            self._committed(batch.stored, duration_s)
        return batch.postponed

    def _commit_recorded(self) -> None:
        """Commit what the journal has made durable."""
        try:
            self._writer.commit()
        except Exception:
            self._journal.take_back()
            raise

    def _begin_sync_of(self, path: str) -> None:
        """The lone object of a batch has its name: the disk can work on it while its rows are written."""
        self._syncing.begin(partial(self._store.sync_file, path))

    def _end_sync(self) -> None:
        """The batch has failed for another reason; what a sync tells now, it tells once."""
        try:
            self._syncing.wait()
        except OSError as error:
            self._is_suspect = True
            self._journal.distrust()
            self.log.error("a sync failed: {error}", error=str(error))

    def _commit_by_barrier(self, batch: Batch) -> None:
        """Commit, then sync; no reader begins in between."""
        with self._gate:
            try:
                self._writer.commit()
                if self._syncing.is_running:
                    self._sync(self._sync_log_and_wait)
                elif batch.stored:
                    self.sync_files()
                    self._journal.covered()
            except OSError:
                self._end_sync()
                batch.take_back()
                raise

    def _sync_log_and_wait(self) -> None:
        """Make the log durable too, and wait for the files."""
        self._store.sync_log(self._log_path)
        self._syncing.wait()

    # -- for jobs, in the thread

    def sync_files(self) -> None:
        """
        Make files and names durable.

        Raises:
            OSError: they may not be. The failure is told once, and belongs to everything that was not synced yet: the
                batch fails too, and objects are refused until what it may have lost was written again.
        """
        self._sync(self._store.barrier)

    def _sync(self, sync: Callable[[], None]) -> None:
        if self._is_suspect:
            raise OSError(errno.EIO, "an earlier sync has failed")
        try:
            sync()
        except OSError:
            self._is_suspect = True
            self._journal.distrust()
            raise

    def retire_journal(self) -> None:
        """
        Make the journal's objects durable where they are: an object is about to go that it may hold.

        Raises:
            OSError: they are not.
        """
        self.sync_files()
        self._journal.clear()

    # -- within

    def _log_length(self) -> int:
        try:
            return os.stat(self._log_path).st_size
        except FileNotFoundError:
            return 0

    def _is_sound_again(self) -> bool:
        """Look whether syncs work again, and write what a failed one may have lost."""
        try:
            self._writer.checkpoint()
            for entry in self._journal.entries():
                self._store.restore(entry.path, entry.data)
            self._store.barrier()
            self._journal.trust_again()
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
            self._journal.clear()
            self._writer.checkpoint()
        except Exception:  # noqa: BLE001 - the log stays, and is tried again with the next batch
            self.log.failure("the index's log could not be emptied")
            self._writer.rollback()
