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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.attributes import ATTRIBUTES_OF, IndexValues, Level, index_values
from pacs.archive.candidate import Candidate, add_candidate, candidate_of_file
from pacs.archive.errors import (
    ArchiveBusy,
    ArchiveClosed,
    ArchiveError,
    DataSetMismatch,
    DuplicateInstance,
    IdentityConflict,
    StorageFailed,
    StorageFull,
)
from pacs.archive.index.writer import Existing, IndexWriter
from pacs.archive.interfaces import DuplicatePolicy, Outcome, Stored
from pacs.archive.objects.files import FileStore, same_content
from pacs.archive.objects.naming import object_path
from pacs.archive.settings import ArchiveSettings

LARGEST_BATCH: Final = 512
WAITING_OBJECTS: Final = 4096
CHECKPOINT_LOG_BYTES: Final = 64 << 20
_NO_SPACE: Final = frozenset((28, 122))  # ENOSPC, EDQUOT

_STUDY_UID, _STUDY_DATE = 0, 1
assert [a.column for a in ATTRIBUTES_OF[Level.STUDY][:2]] == ["study_instance_uid", "study_date"]
_SERIES_UID: Final = [a.column for a in ATTRIBUTES_OF[Level.SERIES]].index("series_instance_uid")
_PATIENT_ID: Final = [a.column for a in ATTRIBUTES_OF[Level.PATIENT]].index("patient_id")
_ISSUER: Final = [a.column for a in ATTRIBUTES_OF[Level.PATIENT]].index("issuer")
_INSTANCE_UID: Final = [a.column for a in ATTRIBUTES_OF[Level.IMAGE]].index("sop_instance_uid")
_CLASS_UID: Final = [a.column for a in ATTRIBUTES_OF[Level.IMAGE]].index("sop_class_uid")


@dataclass(slots=True)
class CommittedObject:
    """What the batch did for one candidate, for its event and for what is derived from it."""

    candidate: Candidate
    values: IndexValues
    pk: int
    path: str
    outcome: Outcome
    replaced: Existing | None = None


Job = Callable[[IndexWriter], None]
"""Something else that wants to write the index; rides in the next batch, and is repeated when a row of it failed."""


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
        batch = _Batch(self._settings, self._store, self._writer)
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


class _Batch:
    """What one transaction does."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, settings: ArchiveSettings, store: FileStore, writer: IndexWriter) -> None:
        self._settings = settings
        self._store = store
        self._writer = writer
        self.stored: list[CommittedObject] = []
        self.postponed: list[Candidate] = []
        self.answers: list[tuple[Deferred[Any], object]] = []

    def place_all(self, candidates: list[Candidate]) -> None:
        """Place each candidate; one that fails harms no other."""
        existing = self._writer.existing([c.header.sop_instance_uid for c in candidates])
        in_batch: set[str] = set()
        for candidate in candidates:
            uid = candidate.header.sop_instance_uid
            if uid in in_batch:
                self.postponed.append(candidate)
                continue
            in_batch.add(uid)
            try:
                result = self._place(candidate, existing.get(uid, []))
            except ArchiveError as error:
                self._discard(candidate)
                self.answers.append((candidate.answer, error))
            except OSError as error:
                self._discard(candidate)
                self.answers.append((candidate.answer, self._disk_failure(error)))
            else:
                self.answers.append((candidate.answer, result))

    def _disk_failure(self, error: OSError) -> ArchiveError:
        self.log.error("an object could not be written: {error}", error=error.strerror or str(error))
        self._store.forget_directories()
        if error.errno in _NO_SPACE:
            return StorageFull("storage full")
        return StorageFailed(f"storage failed: {error.strerror}")

    def _place(self, candidate: Candidate, existing: list[Existing]) -> Stored:
        values = index_values(candidate.scanned, default_character_set=self._settings.default_character_set)
        self._check(candidate, values)
        outcome, version, replaced = Outcome.STORED, 0, None
        if existing and candidate.is_rebuilt:
            return self._already_known(candidate, existing)
        if existing:
            self._check_identity(values, existing[0])
            if any(self._is_same(candidate, known) for known in existing):
                self._discard(candidate)
                return Stored(Outcome.IDENTICAL, existing[0].path, existing[0].size_bytes)
            outcome, version, replaced = self._resolve(existing)
        path = self._give_final_name(candidate, values, version)
        if replaced is not None:
            self._writer.remove(replaced)
        copy_number = version if outcome is Outcome.RENAMED else 0
        pk = add_candidate(self._writer, candidate, values, path=path, copy_number=copy_number)
        self.stored.append(CommittedObject(candidate, values, pk, path, outcome, replaced))
        return Stored(outcome, path, candidate.size_bytes)

    def _check(self, candidate: Candidate, values: IndexValues) -> None:
        """The data set is what the request said (PS3.4 B.2.3)."""
        if values.instance[_INSTANCE_UID] != candidate.header.sop_instance_uid:
            raise DataSetMismatch("SOP Instance UID of the data set is not that of the request")
        if values.instance[_CLASS_UID] != candidate.header.sop_class_uid:
            raise DataSetMismatch("SOP Class UID of the data set is not that of the request")

    def _already_known(self, candidate: Candidate, existing: list[Existing]) -> Stored:
        """A file without a row never replaces an object that has one: that one was acknowledged, it maybe was not."""
        for known in existing:
            if known.path == candidate.incoming_path:
                return Stored(Outcome.IDENTICAL, known.path, known.size_bytes)
        raise DuplicateInstance("another file of the same SOP instance is in the index")

    def _check_identity(self, values: IndexValues, known: Existing) -> None:
        identity = (values.study[_STUDY_UID], values.patient[_PATIENT_ID], values.patient[_ISSUER])
        if identity != (known.study_instance_uid, known.patient_id, known.issuer):
            self.log.warn(
                "instance {sop_instance_uid} arrived again under another patient or study; it is refused",
                sop_instance_uid=known.sop_instance_uid,
            )
            raise IdentityConflict("SOP instance is kept under another patient or study")

    def _is_same(self, candidate: Candidate, known: Existing) -> bool:
        if (
            known.transfer_syntax_uid != candidate.header.transfer_syntax_uid
            or known.size_bytes - known.data_set_offset != candidate.size_bytes - candidate.data_set_offset
            or not self._store.exists(known.path)
        ):
            return False
        self._write_short(candidate)
        return same_content(
            self._store, known.path, known.data_set_offset, candidate.incoming_path, candidate.data_set_offset
        )

    def _resolve(self, existing: list[Existing]) -> tuple[Outcome, int, Existing | None]:
        policy = self._settings.duplicate_policy
        if policy is DuplicatePolicy.REJECT:
            raise DuplicateInstance("SOP instance is kept already with other content")
        if policy is DuplicatePolicy.RENAME:
            return Outcome.RENAMED, existing[-1].copy_number + 1, None
        return Outcome.REPLACED, 1, existing[0]

    def _write_short(self, candidate: Candidate) -> None:
        """Write an object that is still in memory, because the disk was slow."""
        if candidate.pieces:
            candidate.incoming_path = self._store.write_incoming(candidate.pieces)
            candidate.pieces = []

    def _give_final_name(self, candidate: Candidate, values: IndexValues, version: int) -> str:
        if candidate.is_rebuilt:
            return candidate.incoming_path
        self._write_short(candidate)
        received = datetime.fromtimestamp(candidate.received_at / 1e6, UTC)
        while True:
            path = object_path(
                self._settings.naming_scheme,
                study_instance_uid=values.study[_STUDY_UID],
                series_instance_uid=values.series[_SERIES_UID],
                sop_instance_uid=values.instance[_INSTANCE_UID],
                study_date=values.study[_STUDY_DATE],
                received_date=received.strftime("%Y%m%d"),
                version=version,
            )
            try:
                self._store.rename(candidate.incoming_path, path)
            except FileExistsError:
                version += 1  # a file that the index does not know, or the one to be replaced: neither is overwritten
            else:
                return path

    def _discard(self, candidate: Candidate) -> None:
        if candidate.incoming_path and not candidate.is_rebuilt:
            self._store.discard(candidate.incoming_path)

    # -- when it did not last

    def remove_files(self) -> None:
        """Remove the files of a batch that was rolled back."""
        for item in self.stored:
            if not item.candidate.is_rebuilt:
                self._store.discard(item.path)

    def take_back(self) -> None:
        """Remove the rows and files of a batch that was committed and is not durable; restore what it replaced."""
        writer = self._writer
        if writer.in_transaction:
            writer.rollback()
        else:
            writer.begin()
            for item in self.stored:
                uid = item.candidate.header.sop_instance_uid
                for known in writer.existing([uid]).get(uid, []):
                    if known.pk == item.pk:
                        writer.remove(known)
                if item.replaced is not None:
                    self._restore(item.replaced)
            writer.commit()
        self.remove_files()

    def _restore(self, replaced: Existing) -> None:
        """Put a replaced object back into the index; its file is still there."""
        candidate = candidate_of_file(self._store, replaced.path, limits=self._settings.scan_limits)
        values = index_values(candidate.scanned, default_character_set=self._settings.default_character_set)
        add_candidate(self._writer, candidate, values, path=replaced.path, copy_number=replaced.copy_number)

    def fail_stored(self, error: ArchiveError) -> None:
        """Answer all that seemed stored with an error."""
        failed = {id(item.candidate.answer) for item in self.stored}
        self.answers = [(d, error if id(d) in failed else result) for d, result in self.answers]
        self.stored = []

    def drop_replaced(self) -> None:
        """Remove the files of replaced objects, now that the new ones are durable."""
        for item in self.stored:
            if item.replaced is not None:
                self._store.discard(item.replaced.path)
