"""
What one transaction does: each candidate is checked, placed and named, and all of it can be taken back. Nothing here is
durable yet; that is the business of whoever has the turn to commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pacs.archive.attributes import ATTRIBUTES_OF, IndexValues, Level, index_values
from pacs.archive.candidate import Candidate, add_candidate, candidate_of_file
from pacs.archive.errors import (
    ArchiveError,
    DataSetMismatch,
    DuplicateInstance,
    IdentityConflict,
    ObjectGone,
    disk_failure,
)
from pacs.archive.feed import IMAGE_RECEIVED, note_received
from pacs.archive.index.writer import Existing, IndexWriter
from pacs.archive.interfaces import DuplicatePolicy, Outcome, Stored
from pacs.archive.objects.files import FileStore, same_content
from pacs.archive.objects.journal import Recordable
from pacs.archive.objects.naming import object_path
from pacs.archive.settings import ArchiveSettings


def _position(level: Level, column: str) -> int:
    return [attribute.column for attribute in ATTRIBUTES_OF[level]].index(column)


_STUDY_UID: Final = _position(Level.STUDY, "study_instance_uid")
_STUDY_DATE: Final = _position(Level.STUDY, "study_date")
_SERIES_UID: Final = _position(Level.SERIES, "series_instance_uid")
_PATIENT_ID: Final = _position(Level.PATIENT, "patient_id")
_ISSUER: Final = _position(Level.PATIENT, "issuer")
_INSTANCE_UID: Final = _position(Level.IMAGE, "sop_instance_uid")
_CLASS_UID: Final = _position(Level.IMAGE, "sop_class_uid")


@dataclass(slots=True)
class CommittedObject:
    """What the batch did for one candidate, for its event and for what is derived from it."""

    candidate: Candidate
    values: IndexValues
    pk: int
    path: str
    outcome: Outcome
    replaced: Existing | None = None

    def fields(self) -> tuple[tuple[str, str | int | bool], ...]:
        """Give the fields of its event, image_received, in their order."""
        candidate, values = self.candidate, self.values
        return (
            ("sop_instance_uid", candidate.header.sop_instance_uid),
            ("sop_class_uid", candidate.header.sop_class_uid),
            ("patient_id", values.patient[_PATIENT_ID]),
            ("study_instance_uid", values.study[_STUDY_UID]),
            ("series_instance_uid", values.series[_SERIES_UID]),
            ("calling_ae", candidate.source_ae_title),
            ("size_bytes", candidate.size_bytes),
            ("anonymized", candidate.is_anonymized),
        )


def _recordable(candidate: Candidate, path: str) -> Recordable:
    return path, candidate.received_at, candidate.size_bytes, candidate.pieces


class Ahead(Protocol):
    """What the disk can begin with while a lone object is placed."""

    def named(self, path: str) -> None:
        """It has its file and its name."""

    def record(self, entry: Recordable) -> bool:
        """It is in memory and about to get a file; give whether the journal takes it."""

    def forget(self) -> None:
        """What was recorded has not got that name after all."""


class Batch:
    """
    What one transaction does.

    Args:
        retire_journal: called before an object goes that the journal may hold.
        ahead: told of the one object of a batch.

    Attributes:
        stored: what was placed.
        postponed: another object of the same SOP instance is in the batch; they are for the next one.
        is_recorded: the journal has the one object already.
        known: left as `place_all` was asked to.
        answers: of all others.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        settings: ArchiveSettings,
        store: FileStore,
        writer: IndexWriter,
        *,
        retire_journal: Callable[[], None],
        ahead: Ahead | None = None,
    ) -> None:
        self._retire_journal = retire_journal
        self._ahead = ahead
        self._settings = settings
        self._store = store
        self._writer = writer
        self._is_alone = False
        self.stored: list[CommittedObject] = []
        self._first_change_id = writer.next_change_id
        self.postponed: list[Candidate] = []
        self.known: list[Candidate] = []
        self.is_recorded = False
        self.answers: list[tuple[Deferred[Any], object]] = []

    @property
    def is_short(self) -> bool:
        """All that was stored is new and in memory: the journal can hold it."""
        stored = self.stored
        return bool(stored) and all(item.candidate.pieces and item.outcome is Outcome.STORED for item in stored)

    def journal_entries(self) -> list[Recordable]:
        """Give what the journal needs to restore them."""
        return [_recordable(item.candidate, item.path) for item in self.stored]

    def place_all(self, candidates: list[Candidate], *, is_restoring: bool = False, leaves_known: bool = False) -> None:
        """
        Place each candidate; one that fails harms no other.

        Args:
            is_restoring: a crash took the rows of these objects and, with them, what the change feed said of them.
            leaves_known: leave those of which the archive has one already in `known`: to compare and to replace them
                takes long.
        """
        existing = self._writer.existing([c.header.sop_instance_uid for c in candidates])
        in_batch: set[str] = set()
        self._is_alone = len(candidates) == 1
        for candidate in candidates:
            uid = candidate.header.sop_instance_uid
            if uid in in_batch:
                self.postponed.append(candidate)
                continue
            in_batch.add(uid)
            if leaves_known and uid in existing:
                self.known.append(candidate)
                continue
            try:
                if candidate.is_rebuilt and not is_restoring:
                    self._must_be_kept(candidate, existing.get(uid, []))
                result = self._place(candidate, existing.get(uid, []))
            except ArchiveError as error:
                self._discard(candidate)
                self.answers.append((candidate.answer, error))
            except OSError as error:
                self._discard(candidate)
                self.answers.append((candidate.answer, self._disk_failure(error)))
            else:
                self.answers.append((candidate.answer, result))
        if self._settings.keeps_changes and self.stored:
            received = [item.fields() for item in self.stored if is_restoring or not item.candidate.is_rebuilt]
            note_received(self._writer, received)

    def _disk_failure(self, error: OSError) -> ArchiveError:
        self.log.error("an object could not be written: {error}", error=error.strerror or str(error))
        self._store.forget_directories()
        return disk_failure(error)

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
        if replaced is not None:
            self._retire_journal()
        ahead = self._ahead if self._is_alone and not candidate.is_rebuilt else None
        path = self._give_final_name(candidate, values, version, ahead if outcome is Outcome.STORED else None)
        if ahead is not None and not candidate.pieces:
            ahead.named(path)
        if replaced is not None:
            self._writer.remove(replaced)
        copy_number = version if outcome is Outcome.RENAMED else 0
        pk = add_candidate(self._writer, candidate, values, path=path, copy_number=copy_number)
        self.stored.append(CommittedObject(candidate, values, pk, path, outcome, replaced))
        return Stored(outcome, path, candidate.size_bytes)

    def _must_be_kept(self, candidate: Candidate, existing: list[Existing]) -> None:
        """A file that the index did not know when it was looked at may be of an object that is being deleted."""
        path, uid = candidate.incoming_path, candidate.header.sop_instance_uid
        if not self._store.exists(path):
            raise ObjectGone("the object was deleted")
        if self._writer.execute("SELECT 1 FROM deletions WHERE sop_instance_uid = ?", (uid,)):
            if all(known.path != path for known in existing):
                self._store.discard(path)  # it, or an older one that it had replaced
            raise ObjectGone("the object was deleted")

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
        if not candidate.incoming_path:
            candidate.incoming_path = self._store.write_incoming(candidate.pieces)

    def _give_final_name(self, candidate: Candidate, values: IndexValues, version: int, ahead: Ahead | None) -> str:
        if candidate.is_rebuilt:
            return candidate.incoming_path
        received = candidate.received_at
        while True:
            path = object_path(
                self._settings.naming_scheme,
                study_instance_uid=values.study[_STUDY_UID],
                series_instance_uid=values.series[_SERIES_UID],
                sop_instance_uid=values.instance[_INSTANCE_UID],
                study_date=values.study[_STUDY_DATE],
                received_at=received,
                version=version,
            )
            if ahead is not None and not candidate.incoming_path:
                self.is_recorded = ahead.record(_recordable(candidate, path))
            try:
                self._write_short(candidate)
                self._store.rename(candidate.incoming_path, path)
            except OSError as error:
                if ahead is not None and self.is_recorded:
                    self.is_recorded = False
                    ahead.forget()
                if not isinstance(error, FileExistsError):
                    raise
                version += 1  # a file that the index does not know, or the one to be replaced: neither is overwritten
            else:
                return path

    def _discard(self, candidate: Candidate) -> None:
        if candidate.incoming_path and not candidate.is_rebuilt:
            self._store.discard_if_possible(candidate.incoming_path)

    # -- when it did not last

    def remove_files(self) -> None:
        """Remove the files of a batch that was rolled back."""
        for item in self.stored:
            if not item.candidate.is_rebuilt:
                self._store.discard_if_possible(item.path)

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
            writer.execute("DELETE FROM changes WHERE id >= ? AND kind = ?", (self._first_change_id, IMAGE_RECEIVED))
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
                try:
                    self._store.discard(item.replaced.path)
                except OSError as error:
                    self.log.warn("a replaced object's file could not be removed: {error}", error=str(error))
