"""
The index's one writer: rows for objects, a batch at a time, inside the transaction of whoever has the turn.

Rows of patients, studies and series are found once and remembered; instances go in by one statement; counts are
added up over the batch and written once for each row that they belong to.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pacs.archive.attributes import ATTRIBUTES_OF, IndexValues, Level, Matching, name_search_key
from pacs.archive.index.database import BUSY_TIMEOUT_S
from pacs.archive.index.schema import CHANGES, INSTANCES, PATIENTS, SERIES, STUDIES
from pacs.archive.index.sql import GROUP_SIZES, add_many_text, add_text, in_groups, insert_many_text, insert_text

REMEMBERED: Final = 20_000
CHECKPOINT_WAIT_MS: Final = 50

_NAMES: Final = {
    level: tuple(i for i, a in enumerate(attributes) if a.matching is Matching.NAME)
    for level, attributes in ATTRIBUTES_OF.items()
}


def _columns(level: Level) -> list[str]:
    attributes = ATTRIBUTES_OF[level]
    return [a.column for a in attributes] + [f"{attributes[i].column}_search" for i in _NAMES[level]]


def _with_search_keys(level: Level, values: tuple[str, ...]) -> tuple[str, ...]:
    return values + tuple(name_search_key(values[i]) for i in _NAMES[level])


def _position(level: Level, column: str) -> int:
    return [a.column for a in ATTRIBUTES_OF[level]].index(column)


_PATIENT_ID: Final = _position(Level.PATIENT, "patient_id")
_ISSUER: Final = _position(Level.PATIENT, "issuer")
_PATIENT_NAME: Final = _position(Level.PATIENT, "patient_name")
_BIRTH_DATE: Final = _position(Level.PATIENT, "birth_date")
_STUDY_UID: Final = _position(Level.STUDY, "study_instance_uid")
_SERIES_UID: Final = _position(Level.SERIES, "series_instance_uid")
_MODALITY: Final = _position(Level.SERIES, "modality")
_SOP_CLASS_UID: Final = _position(Level.IMAGE, "sop_class_uid")

_INSERT_PATIENT: Final = insert_text(PATIENTS, ["pk", *_columns(Level.PATIENT), "character_set"])
_INSERT_STUDY: Final = insert_text(
    STUDIES, ["pk", "patient_pk", *_columns(Level.STUDY), "character_set", "received_at"]
)
_INSERT_SERIES: Final = insert_text(SERIES, ["pk", "study_pk", *_columns(Level.SERIES), "character_set"])
_INSTANCE_COLUMNS: Final = (
    "pk",
    "series_pk",
    *_columns(Level.IMAGE),
    "copy_number",
    "character_set",
    "transfer_syntax_uid",
    "path",
    "size_bytes",
    "data_set_offset",
    "received_at",
    "source_ae_title",
)
_CHANGE_COLUMNS: Final = ("id", "kind", "happened_at", "data")
# Many rows by one statement: the interpreter's lock is given up once for all of them, not once for each.
_COUNTED: Final = (
    (SERIES, ("num_instances", "size_bytes")),
    (STUDIES, ("num_instances", "size_bytes", "num_series")),
    (PATIENTS, ("num_instances", "num_studies")),
)
_KNOWN: Final = {
    size: f"SELECT sop_instance_uid FROM instances WHERE sop_instance_uid IN ({', '.join('?' * size)})"
    for size in GROUP_SIZES
}
_EXISTING: Final = (
    "SELECT i.pk, i.sop_instance_uid, i.copy_number, i.path, i.size_bytes, i.data_set_offset, i.transfer_syntax_uid,"
    " s.pk, t.pk, t.study_instance_uid, p.pk, p.patient_id, p.issuer"
    " FROM instances i JOIN series s ON s.pk = i.series_pk JOIN studies t ON t.pk = s.study_pk"
    " JOIN patients p ON p.pk = t.patient_pk WHERE i.sop_instance_uid IN (SELECT value FROM json_each(?))"
    " ORDER BY i.copy_number"
)


_KEYS_OF_THE_PAST: Final = (("checked_pk", 0), ("derived_pk", 1))
_INSERT_HEADER: Final = "INSERT OR REPLACE INTO headers (instance_pk, data) SELECT pk, ? FROM instances WHERE pk = ?"


@dataclass(frozen=True, slots=True)
class Place:
    """The rows that an object belongs to."""

    patient_pk: int
    study_pk: int
    series_pk: int


@dataclass(frozen=True, slots=True)
class Existing:
    """An object that is in the index."""

    pk: int
    sop_instance_uid: str
    copy_number: int
    path: str
    size_bytes: int
    data_set_offset: int
    transfer_syntax_uid: str
    place: Place
    study_instance_uid: str
    patient_id: str
    issuer: str


@dataclass(slots=True)
class _Counts:
    num_studies: int = 0
    num_series: int = 0
    num_instances: int = 0
    size_bytes: int = 0


class IndexWriter:
    """
    Writes the index.

    Args:
        connection: from `connect_writer`; used by one thread at a time.
        conflict_noticed: called when a Patient ID turns out to be several patients'.
    """

    def __init__(self, connection: sqlite3.Connection, *, conflict_noticed: Callable[[], None]) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._conflict_noticed = conflict_noticed
        self._patients: dict[tuple[str, str, str, str], int] = {}
        self._studies: dict[tuple[int, str], int] = {}
        self._series: dict[tuple[int, str], int] = {}
        self._modalities: dict[int, set[str]] = {}
        self._sop_classes: dict[int, set[str]] = {}
        self._instance_rows: list[tuple[Any, ...]] = []
        self._counts: dict[str, dict[int, _Counts]] = {}
        self._is_synced = False
        self._changes: list[tuple[int, str, int, str]] = []
        self.next_change_id = int(self._execute("SELECT coalesce(max(id), 0) + 1 FROM changes").fetchone()[0])
        self._next_pk = {
            table: int(self._execute(f"SELECT coalesce(max(pk), 0) + 1 FROM {table}").fetchone()[0])
            for table in ("patients", "studies", "series", "instances")
        }
        for name, beyond in _KEYS_OF_THE_PAST:  # the newest rows may have been deleted: their keys do not come again
            self._next_pk["instances"] = max(self._next_pk["instances"], int(self.state(name) or 0) + beyond)

    # -- transactions

    def begin(self, *, is_synced: bool = False) -> None:
        """
        Begin a transaction.

        Args:
            is_synced: its commit syncs the log, and fails when that fails; else durability is the barrier's business.
        """
        if is_synced is not self._is_synced:
            self._execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
            self._is_synced = is_synced
        if len(self._patients) + len(self._studies) + len(self._series) > REMEMBERED:
            self.forget()
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Write what was added and commit; the log's durability is the barrier's business."""
        self.flush()
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction."""
        if self._connection.in_transaction:
            self._execute("ROLLBACK")
        self._instance_rows = []
        self._counts = {}
        self._changes = []
        self.forget()

    def checkpoint(self) -> bool:
        """
        Move the log into the database file, synced by SQLite, and empty it; give whether it is empty.

        It waits for no reader: what a snapshot still needs stays in the log until the next time.
        """
        self._execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        try:
            (is_busy, _, _) = self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not is_busy
        finally:
            self._execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")

    @property
    def in_transaction(self) -> bool:
        """Between `begin` and `commit`."""
        return self._connection.in_transaction

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def next_instance_pk(self) -> int:
        """The key that the next instance will get; keys only grow."""
        return self._next_pk["instances"]

    # -- objects

    def existing(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Existing]]:
        """Give what is kept already under some SOP Instance UIDs, copies in their order."""
        found: dict[str, list[Existing]] = {}
        known = [
            uid
            for size, parameters in in_groups([(uid,) for uid in sop_instance_uids])
            for (uid,) in self._execute(_KNOWN[size], parameters).fetchall()
        ]
        if not known:  # the usual case, and a tenth of the work
            return found
        for row in self._execute(_EXISTING, (json.dumps(known),)):
            place = Place(patient_pk=row[10], study_pk=row[8], series_pk=row[7])
            existing = Existing(row[0], row[1], row[2], row[3], row[4], row[5], row[6], place, row[9], row[11], row[12])
            found.setdefault(existing.sop_instance_uid, []).append(existing)
        return found

    def place(self, values: IndexValues, received_at: int) -> Place:
        """Give the patient, study and series of an object, making what is new."""
        patient_pk = self._patient(values)
        study_pk = self._study(patient_pk, values, received_at)
        return Place(patient_pk, study_pk, self._series_of(study_pk, values))

    def add(
        self,
        place: Place,
        values: IndexValues,
        *,
        copy_number: int,
        transfer_syntax_uid: str,
        path: str,
        size_bytes: int,
        data_set_offset: int,
        received_at: int,
        source_ae_title: str,
    ) -> int:
        """Add an object; give its key."""
        pk = self._new_pk("instances")
        self._instance_rows.append(
            (
                pk,
                place.series_pk,
                *_with_search_keys(Level.IMAGE, values.instance),
                copy_number,
                values.character_set,
                transfer_syntax_uid,
                path,
                size_bytes,
                data_set_offset,
                received_at,
                source_ae_title,
            )
        )
        self._count(place, 1, size_bytes)
        self._note_sop_class(place.study_pk, values.instance[_SOP_CLASS_UID])
        return pk

    def remove(self, existing: Existing) -> None:
        """Remove an object, and the series, study and patient that are empty without it."""
        self.flush()
        place = existing.place
        self._execute("DELETE FROM headers WHERE instance_pk = ?", (existing.pk,))
        self._execute("DELETE FROM instances WHERE pk = ?", (existing.pk,))
        self._count(place, -1, -existing.size_bytes)
        self.flush()
        self.forget()
        if self._execute("DELETE FROM series WHERE pk = ? AND num_instances <= 0", (place.series_pk,)).rowcount:
            self._execute("UPDATE studies SET num_series = num_series - 1 WHERE pk = ?", (place.study_pk,))
        if self._execute("DELETE FROM studies WHERE pk = ? AND num_instances <= 0", (place.study_pk,)).rowcount:
            self._execute("UPDATE patients SET num_studies = num_studies - 1 WHERE pk = ?", (place.patient_pk,))
        self._execute("DELETE FROM patients WHERE pk = ? AND num_instances <= 0", (place.patient_pk,))

    def forget(self) -> None:
        """Look up rows of patients, studies and series again: some may be gone."""
        for remembered in (self._patients, self._studies, self._series, self._modalities, self._sop_classes):
            remembered.clear()

    def set_derived(self, rows: Sequence[tuple[int, str, bytes | None]]) -> None:
        """Note checksum and header of objects; of one that is gone, nothing."""
        self._connection.executemany(
            "UPDATE instances SET sha256 = ? WHERE pk = ?", [(sha256, pk) for pk, sha256, _ in rows]
        )
        self._connection.executemany(_INSERT_HEADER, [(header, pk) for pk, _, header in rows if header is not None])

    def add_change(self, kind: str, happened_at: int, data: str) -> None:
        """Note something in the change feed, in this transaction; `data` is JSON."""
        self._changes.append((self.next_change_id, kind, happened_at, data))
        self.next_change_id += 1

    def drop_changes(self, first_id: int) -> None:
        """Forget changes that were noted since and are not written yet."""
        self._changes = [row for row in self._changes if row[0] < first_id]

    def set_state(self, name: str, value: str) -> None:
        """Keep a value of the archive's own."""
        self._execute("INSERT OR REPLACE INTO archive_state (name, value) VALUES (?, ?)", (name, value))

    def state(self, name: str) -> str | None:
        """Give a value of the archive's own."""
        row = self._execute("SELECT value FROM archive_state WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement of recovery; give its rows."""
        return self._execute(statement, parameters).fetchall()

    # -- within

    def _new_pk(self, table: str) -> int:
        pk = self._next_pk[table]
        self._next_pk[table] = pk + 1
        return pk

    def _patient(self, values: IndexValues) -> int:
        patient = values.patient
        name = name_search_key(patient[_PATIENT_NAME])
        key = (patient[_PATIENT_ID], patient[_ISSUER], name, patient[_BIRTH_DATE])
        pk = self._patients.get(key)
        if pk is None:
            pk = self._find_patient(values, name)
            self._patients[key] = pk
        return pk

    def _find_patient(self, values: IndexValues, name: str) -> int:
        """Find the patient of an identifier, or make one; another name or birth date is another patient."""
        patient = values.patient
        patient_id, birth_date = patient[_PATIENT_ID], patient[_BIRTH_DATE]
        rows = self._execute(
            "SELECT pk, patient_name_search, birth_date FROM patients WHERE patient_id = ? AND issuer = ? ORDER BY pk",
            (patient_id, patient[_ISSUER]),
        ).fetchall()
        for pk, known_name, known_birth_date in rows:
            if (known_name, known_birth_date) == (name, birth_date):
                return int(pk)
        for pk, known_name, known_birth_date in rows:
            names_agree = not name or not known_name or name == known_name
            dates_agree = not birth_date or not known_birth_date or birth_date == known_birth_date
            if patient_id and names_agree and dates_agree:
                self._fill_patient(pk, patient)
                return int(pk)
        pk = self._new_pk("patients")
        row = (pk, *_with_search_keys(Level.PATIENT, patient), values.character_set)
        self._execute(_INSERT_PATIENT, row)
        if rows and patient_id:
            self._execute(
                "UPDATE patients SET is_conflict = 1 WHERE patient_id = ? AND issuer = ?",
                (patient_id, patient[_ISSUER]),
            )
            self._conflict_noticed()
        return pk

    def _fill_patient(self, pk: int, patient: tuple[str, ...]) -> None:
        """Fill in what the patient's earlier objects left empty."""
        for column, value in zip(_columns(Level.PATIENT), _with_search_keys(Level.PATIENT, patient), strict=True):
            if value:
                self._execute(f"UPDATE patients SET {column} = ? WHERE pk = ? AND {column} = ''", (value, pk))
        self._patients.clear()

    def _study(self, patient_pk: int, values: IndexValues, received_at: int) -> int:
        uid = values.study[_STUDY_UID]
        pk = self._studies.get((patient_pk, uid))
        if pk is not None:
            return pk
        row = self._execute(
            "SELECT pk, modalities_in_study, sop_classes_in_study FROM studies"
            " WHERE patient_pk = ? AND study_instance_uid = ?",
            (patient_pk, uid),
        ).fetchone()
        if row is None:
            pk = self._new_pk("studies")
            study = _with_search_keys(Level.STUDY, values.study)
            self._execute(_INSERT_STUDY, (pk, patient_pk, *study, values.character_set, received_at))
            self._counts_of("patients", patient_pk).num_studies += 1
            modalities, sop_classes = "", ""
        else:
            pk, modalities, sop_classes = int(row[0]), row[1], row[2]
        self._modalities[pk] = set(modalities.split("\\")) - {""}
        self._sop_classes[pk] = set(sop_classes.split("\\")) - {""}
        self._studies[patient_pk, uid] = pk
        return pk

    def _series_of(self, study_pk: int, values: IndexValues) -> int:
        uid = values.series[_SERIES_UID]
        pk = self._series.get((study_pk, uid))
        if pk is not None:
            return pk
        row = self._execute(
            "SELECT pk FROM series WHERE study_pk = ? AND series_instance_uid = ?", (study_pk, uid)
        ).fetchone()
        if row is None:
            pk = self._new_pk("series")
            series = _with_search_keys(Level.SERIES, values.series)
            self._execute(_INSERT_SERIES, (pk, study_pk, *series, values.character_set))
            self._counts_of("studies", study_pk).num_series += 1
        else:
            pk = int(row[0])
        self._note(self._modalities, "modalities_in_study", study_pk, values.series[_MODALITY])
        self._series[study_pk, uid] = pk
        return pk

    def _note_sop_class(self, study_pk: int, sop_class_uid: str) -> None:
        if sop_class_uid not in self._sop_classes.get(study_pk, ()):
            self._note(self._sop_classes, "sop_classes_in_study", study_pk, sop_class_uid)

    def _note(self, known: dict[int, set[str]], column: str, study_pk: int, value: str) -> None:
        """Add a value to a list that a study keeps."""
        values = known.get(study_pk)
        if values is None:
            row = self._execute(f"SELECT {column} FROM studies WHERE pk = ?", (study_pk,)).fetchone()
            values = known[study_pk] = set(row[0].split("\\")) - {""}
        if value and value not in values:
            values.add(value)
            self._execute(f"UPDATE studies SET {column} = ? WHERE pk = ?", ("\\".join(sorted(values)), study_pk))

    def _counts_of(self, table: str, pk: int) -> _Counts:
        rows = self._counts.setdefault(table, {})
        counts = rows.get(pk)
        if counts is None:
            counts = rows[pk] = _Counts()
        return counts

    def _count(self, place: Place, instances: int, size_bytes: int) -> None:
        for table, pk in (("series", place.series_pk), ("studies", place.study_pk), ("patients", place.patient_pk)):
            counts = self._counts_of(table, pk)
            counts.num_instances += instances
            counts.size_bytes += size_bytes

    def flush(self) -> None:
        """Write what `add` gathered."""
        rows, self._instance_rows = self._instance_rows, []
        for size, parameters in in_groups(rows):
            self._execute(insert_many_text(INSTANCES, _INSTANCE_COLUMNS, size), parameters)
        noted, self._changes = self._changes, []
        for size, parameters in in_groups(noted):
            self._execute(insert_many_text(CHANGES, _CHANGE_COLUMNS, size), parameters)
        counts, self._counts = self._counts, {}
        for table, columns in _COUNTED:
            changed = counts.get(table.name)
            if not changed:
                continue
            changes = [(pk, *[getattr(count, name) for name in columns]) for pk, count in changed.items()]
            if len(changes) == 1:
                pk, *numbers = changes[0]
                self._execute(add_text(table, columns), (*numbers, pk))
                continue
            for size, parameters in in_groups(changes):
                self._execute(add_many_text(table, columns, size), parameters)
