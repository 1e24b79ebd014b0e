"""
A batch on its way: its rows are written in one transaction, it is made durable by one sync, and it is taken back when
that fails.

The steps are apart, because different threads may take them; whoever has the turn to write the index takes the next. A
batch of new short objects goes into the journal, which is synced before the transaction is committed; any other needs a
barrier for files, names and the index's log. One object by itself needs the syncs of just these, and the disk works on
them meanwhile: on a long one's file and name while its rows are written, on the record of a short one while its file is
made, too. No reader sees a row before all of that has returned. When it fails, the batch is taken back and the archive
refuses objects, and whatever else is to be durable, until a barrier succeeds.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pacs.archive.batch import Batch, CommittedObject
from pacs.archive.candidate import Candidate
from pacs.archive.errors import StorageFailed, index_failure
from pacs.archive.index.writer import IndexWriter
from pacs.archive.objects.files import FileStore
from pacs.archive.objects.journal import Journal, Recordable
from pacs.archive.objects.syncing import SyncThread
from pacs.archive.settings import ArchiveSettings

CHECKPOINT_LOG_BYTES: Final = 64 << 20
LOG_GROWTH_BYTES: Final = 16 << 20  # until it is tried again, when a reader kept the log from being emptied
FAST_S: Final = 0.004  # a disk whose commits take longer is left to the thread
FAST_BATCHES: Final = 3  # in a row, before it counts as fast
FAILED_SYNCS: Final = frozenset((sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC))

Job = Callable[[IndexWriter], None]
"""Something else that wants to write the index; it rides in the next batch."""

Answers = Sequence[tuple[Deferred[Any], object]]
"""What fires with what, an exception for a failure."""


class Work(NamedTuple):
    """
    A job in the queue.

    Attributes:
        is_durable: `done` fires when what it wrote would survive a power cut; when it fails, nothing of it remains.
    """

    job: Job
    done: Deferred[None]
    is_durable: bool


@dataclass(slots=True)
class Transaction:
    """
    One batch between its steps.

    Attributes:
        failure: why none of it was kept.
        jobs_failure: why nothing of the jobs was kept, when there is an answer of its own for each object.
    """

    candidates: list[Candidate]
    jobs: Sequence[Work]
    batch: Batch
    started_s: float = field(default_factory=time.monotonic)
    duration_s: float = 0.0
    failure: Exception | None = None
    jobs_failure: Exception | None = None

    @property
    def is_synced(self) -> bool:
        """Its commit syncs the index's log."""
        return any(work.is_durable for work in self.jobs)


class Transactions:
    """
    The steps, for whoever has the turn.

    Args:
        journal: makes batches of short objects durable.
        gate: held from a transaction's commit until its barrier has returned; readers take it to begin a snapshot.
        committed: called with what a batch stored, after it was answered, in whatever thread has answered it.

    Attributes:
        last_s: when the last one was durable, on the monotonic clock.
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
        committed: Callable[[Sequence[CommittedObject], float], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._journal = journal
        self._writer = writer
        self._gate = gate
        self._committed = committed
        self._syncing = SyncThread()
        self._log_path = f"{settings.index_path}-wal"
        self._checkpoint_at_bytes = CHECKPOINT_LOG_BYTES
        self._is_suspect = False
        self._left: list[Batch] = []  # could not be taken back
        self._fast_batches = 0
        self.last_s = 0.0

    def start(self) -> None:
        """Begin."""
        self._syncing.start()

    def stop(self) -> None:
        """End."""
        self._syncing.stop()

    @property
    def is_fast(self) -> bool:
        """The disk answers at once, and nothing has failed: the reactor's thread may take steps."""
        return self._fast_batches >= FAST_BATCHES and not self._is_suspect and self._journal.is_trusted

    # -- the steps

    def prepare(
        self, candidates: list[Candidate], jobs: Sequence[Work] = (), *, leaves_known: bool = False
    ) -> Transaction:
        """
        Begin: check, place and name each object.

        Args:
            leaves_known: an object of which the archive has one already is left in `batch.known`: it may take long.
        """
        batch = Batch(
            self._settings,
            self._store,
            self._writer,
            retire_journal=self.retire_journal,
            ahead=None if jobs else self,
        )
        transaction = Transaction(candidates, jobs, batch)
        is_suspect = self._is_suspect or not self._journal.is_trusted
        if is_suspect and (candidates or transaction.is_synced) and not self._is_sound_again():
            transaction.failure = StorageFailed("storage failed; nothing is taken until it works again")
            return transaction
        try:
            self._writer.begin(is_synced=transaction.is_synced)
            batch.place_all(candidates, leaves_known=leaves_known)
            for work in jobs:
                work.job(self._writer)
        except Exception as error:  # noqa: BLE001 - whoever commits must go on
            batch.known = []
            self._undo(transaction, error)
        else:
            if batch.known:
                left = set(map(id, batch.known))
                transaction.candidates = [candidate for candidate in candidates if id(candidate) not in left]
        return transaction

    def complete(self, transaction: Transaction) -> None:
        """Write the rows, make everything durable, and commit."""
        if transaction.failure is not None:
            return
        batch = transaction.batch
        try:
            try:
                if batch.is_recorded:
                    self._commit_recorded_ahead()
                elif batch.is_short and not transaction.is_synced and self._journal.append(batch.journal_entries()):
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
                failure = StorageFailed("storage failed: the object could not be made durable")
                if self._writer.in_transaction:
                    batch.take_back()
                    transaction.jobs_failure = failure  # rolled back with the objects
                batch.fail_stored(failure)
        except Exception as error:  # noqa: BLE001 - whoever commits must go on
            self._undo(transaction, error)

    def conclude(self, transaction: Transaction) -> Answers:
        """Give the answers of a batch that is durable, or has failed."""
        batch, candidates, failure = transaction.batch, transaction.candidates, transaction.failure
        if failure is not None:
            self._discard_incoming(candidates)
            return [
                *((candidate.answer, failure) for candidate in candidates),
                *((work.done, failure) for work in transaction.jobs),
            ]
        batch.drop_replaced()
        answers = batch.answers
        self.last_s = time.monotonic()
        transaction.duration_s = self.last_s - transaction.started_s
        is_fast = transaction.duration_s < FAST_S * max(1, len(answers))
        self._fast_batches = self._fast_batches + 1 if is_fast else 0
        return [*answers, *((work.done, transaction.jobs_failure) for work in transaction.jobs)]

    def publish(self, transaction: Transaction) -> None:
        """Tell what was stored, after the answers."""
        stored = transaction.batch.stored
        if transaction.failure is not None or not stored:
            return
        try:
            self._committed(stored, transaction.duration_s)
        except Exception:  # noqa: BLE001 - they are stored and answered, and others wait
            self.log.failure("it could not be told that {count} objects were stored", count=len(stored))

    # -- what the disk begins with while a lone object is placed (`Ahead`)

    def named(self, path: str) -> None:
        """Have its file and its name synced while its row is written."""
        self._syncing.begin(partial(self._store.sync_file, path))

    def record(self, entry: Recordable) -> bool:
        """
        Have its record synced while its file is made and its row is written.

        Raises:
            OSError: it can't be recorded.
        """
        try:
            if not self._journal.write([entry]):
                return False
        except OSError:
            self._is_suspect = True
            self._journal.distrust()
            raise
        self._syncing.begin(self._journal.sync)
        return True

    def forget(self) -> None:
        """Its record is of no use: it has got another name, or none."""
        self._end_sync()
        self._journal.abandon()

    # -- for jobs, and between batches

    def sync_files(self) -> None:
        """
        Make files and names durable.

        Raises:
            OSError: they may not be. The failure is told once, and belongs to everything that was not synced yet: the
                batch fails too, and objects are refused until what it may have lost was written again.
        """
        self._sync(self._store.barrier)

    def retire_journal(self) -> None:
        """
        Make the journal's objects durable where they are: an object is about to go that it may hold.

        Raises:
            OSError: they are not.
        """
        self.sync_files()
        self._journal.clear()

    def look_at_log(self) -> None:
        """Empty the index's log if it has grown long."""
        if self._log_length() > self._checkpoint_at_bytes:
            self.checkpoint()
            self._checkpoint_at_bytes = max(CHECKPOINT_LOG_BYTES, self._log_length() + LOG_GROWTH_BYTES)

    def checkpoint(self) -> None:
        """Empty the index's log; what was committed before needs no look at the next start."""
        try:
            self._writer.begin()
            self._writer.set_state("checked_pk", str(self._writer.next_instance_pk))
            self._writer.commit()
            self.sync_files()
            self._journal.clear()
            self._writer.checkpoint()
        except Exception:  # noqa: BLE001 - the log stays, and is tried again with the next batch
            self.log.failure("the index's log could not be emptied")
            self._writer.rollback()

    # -- within

    def _undo(self, transaction: Transaction, error: Exception) -> None:
        """Take a batch back that has failed for another reason than its sync; called while the error is handled."""
        self.log.failure("a batch of {count} objects failed", count=len(transaction.candidates))
        if getattr(error, "sqlite_errorcode", None) in FAILED_SYNCS:  # what was committed before may be lost, too
            self._is_suspect = True
            self._journal.distrust()
        self._writer.rollback()
        self._end_sync()
        if transaction.batch.is_recorded:
            self._journal.abandon()
        transaction.batch.remove_files()
        transaction.failure = index_failure(error)

    def _discard_incoming(self, candidates: Sequence[Candidate]) -> None:
        """Remove the files of objects that were not placed; those that were placed are gone by another name."""
        for candidate in candidates:
            if candidate.incoming_path and not candidate.is_rebuilt:
                self._store.discard_if_possible(candidate.incoming_path)

    def _commit_recorded(self) -> None:
        """Commit what the journal has made durable."""
        try:
            self._writer.commit()
        except Exception:
            self._journal.take_back()
            raise

    def _commit_recorded_ahead(self) -> None:
        """Write the row while the disk works on the record, and commit when it is durable."""
        self._writer.flush()
        try:
            self._sync(self._syncing.wait)
        except OSError:
            self._journal.abandon()
            raise
        self._journal.advance()
        self._commit_recorded()

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
                self._take_back(batch)
                raise

    def _take_back(self, batch: Batch) -> None:
        """Take back what was committed and is not durable: now, or before anything else is to be durable."""
        try:
            batch.take_back()
        except Exception:  # noqa: BLE001 - whatever it is: its rows stay till then, and its files with them
            self.log.failure("{count} objects could not be taken back yet", count=len(batch.stored))
            self._writer.rollback()
            self._left.append(copy(batch))  # what it has stored is about to be told as failed

    def _sync_log_and_wait(self) -> None:
        """Make the log durable too, and wait for the files."""
        self._store.sync_log(self._log_path)
        self._syncing.wait()

    def _sync(self, sync: Callable[[], None]) -> None:
        if self._is_suspect:
            raise OSError(errno.EIO, "an earlier sync has failed")
        try:
            sync()
        except OSError:
            self._is_suspect = True
            self._journal.distrust()
            raise

    def _log_length(self) -> int:
        try:
            return os.stat(self._log_path).st_size
        except OSError:
            return 0  # it is not there, or the disk fails: the next sync tells that

    def _is_sound_again(self) -> bool:
        """Look whether syncs work again, and write what a failed one may have lost."""
        try:
            while self._left:
                self._left[-1].take_back()
                self._left.pop()
            if not self._writer.checkpoint():  # what it lacks on the disk would hide all that comes behind
                self.log.warn("the index's log can't be emptied while somebody reads: nothing is taken until then")
                return False
            for entry in self._journal.entries():
                self._store.restore(entry.path, entry.data)
            self._store.barrier()
            self._journal.trust_again()
        except Exception:  # noqa: BLE001 - whatever it is: objects stay refused, and the log says why
            self._writer.rollback()
            self.log.failure("storage does not work yet")
            return False
        self._is_suspect = False
        self.log.info("storage works again")
        return True
