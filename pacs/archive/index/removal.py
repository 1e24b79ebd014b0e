"""
Removal from the index: the rows of objects, and what lists and queries show of the series, studies and patients that
remain. A file whose row is gone is remembered in `deletions` until it is gone too.

Everything is done by a few statements for all objects at once, in the caller's transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pacs.archive.attributes import Level
from pacs.archive.index.writer import IndexWriter

_WHERE: Final[Mapping[Level, str]] = {
    Level.PATIENT: "p.patient_id",
    Level.STUDY: "t.study_instance_uid",
    Level.SERIES: "s.series_instance_uid",
    Level.IMAGE: "i.sop_instance_uid",
}
_JOINED: Final = (
    "instances i JOIN series s ON s.pk = i.series_pk JOIN studies t ON t.pk = s.study_pk"
    " JOIN patients p ON p.pk = t.patient_pk"
)
_GROUPS: Final[Mapping[Level, str]] = {
    Level.PATIENT: "'', ''",
    Level.STUDY: "'', ''",
    Level.SERIES: "s.series_instance_uid, ''",
    Level.IMAGE: "s.series_instance_uid, i.sop_instance_uid",
}
_MAKE: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS doomed"
    " (pk INTEGER PRIMARY KEY, series_pk INTEGER, study_pk INTEGER, patient_pk INTEGER, copy_number INTEGER)"
)
_OF: Final = "IN (SELECT {column} FROM temp.doomed)"


@dataclass(frozen=True, slots=True)
class Doomed:
    """
    What is to be deleted.

    Attributes:
        values: Patient IDs, or UIDs of the level.
        issuer: of the Patient IDs; None: whatever it is.
    """

    level: Level
    values: tuple[str, ...]
    issuer: str | None = None


class RemovedGroup(NamedTuple):
    """Objects of one study, series or instance that were removed, of one SOP class."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    patient_id: str
    sop_class_uid: str
    number_of_instances: int
    size_bytes: int


def remove_objects(writer: IndexWriter, doomed: Doomed) -> list[RemovedGroup]:
    """
    Remove the rows of objects, all copies of each; note their files in `deletions`.

    Returns:
        what was removed, in the order of its arrival; nothing when there was nothing.
    """
    writer.flush()
    execute = writer.execute
    execute(_MAKE)
    execute("DELETE FROM temp.doomed")
    execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
    where, parameters = f"{_WHERE[doomed.level]} IN (SELECT value FROM json_each(?))", [json.dumps(doomed.values)]
    if doomed.issuer is not None:
        where, parameters = f"{where} AND p.issuer = ?", [*parameters, doomed.issuer]
    execute(
        f"INSERT INTO temp.doomed SELECT i.pk, s.pk, t.pk, p.pk, i.copy_number FROM {_JOINED} WHERE {where}", parameters
    )
    removed = _groups(writer, doomed.level)
    if removed:
        _remove_instances(writer)
        _remove_series(writer)
        _remove_studies(writer)
        _remove_patients(writer)
        execute("DELETE FROM temp.doomed")
        writer.forget()
    execute("PRAGMA secure_delete = OFF")
    return removed


def _groups(writer: IndexWriter, level: Level) -> list[RemovedGroup]:
    rows = writer.execute(
        f"SELECT t.study_instance_uid, {_GROUPS[level]}, p.patient_id, i.sop_class_uid, count(*), sum(i.size_bytes)"
        f" FROM {_JOINED} WHERE i.pk {_OF.format(column='pk')} GROUP BY 1, 2, 3, 4, 5 ORDER BY min(i.pk)"
    )
    return [RemovedGroup(*row) for row in rows]


def _remove_instances(writer: IndexWriter) -> None:
    execute, doomed = writer.execute, _OF.format(column="pk")
    execute(
        "INSERT INTO deletions (path, sop_instance_uid, noted_at)"
        f" SELECT path, sop_instance_uid, ? FROM instances WHERE pk {doomed} ORDER BY pk",
        (time.time_ns() // 1000,),
    )
    first_copies = execute(
        f"SELECT sop_instance_uid FROM instances WHERE copy_number = 0 AND pk {doomed} AND EXISTS (SELECT 1"
        f" FROM instances o WHERE o.sop_instance_uid = instances.sop_instance_uid AND o.pk NOT {doomed})"
    )
    execute(f"DELETE FROM quarantine WHERE path IN (SELECT path FROM instances WHERE pk {doomed})")
    execute(f"DELETE FROM headers WHERE instance_pk {doomed}")
    execute(f"DELETE FROM instances WHERE pk {doomed}")
    for (uid,) in first_copies:  # a copy in another series: the next one is shown from now on
        execute(
            "UPDATE instances SET copy_number = 0 WHERE pk ="
            " (SELECT pk FROM instances WHERE sop_instance_uid = ? ORDER BY copy_number LIMIT 1)",
            (uid,),
        )


def _remove_series(writer: IndexWriter) -> None:
    doomed = _OF.format(column="series_pk")
    writer.execute(
        "UPDATE series SET (num_instances, size_bytes) = (SELECT count(*), coalesce(sum(i.size_bytes), 0)"
        f" FROM instances i WHERE i.series_pk = series.pk) WHERE pk {doomed}"
    )
    writer.execute(f"DELETE FROM series WHERE num_instances = 0 AND pk {doomed}")


def _remove_studies(writer: IndexWriter) -> None:
    doomed = _OF.format(column="study_pk")
    writer.execute(
        "UPDATE studies SET (num_series, num_instances, size_bytes) = (SELECT count(*),"
        " coalesce(sum(s.num_instances), 0), coalesce(sum(s.size_bytes), 0)"
        f" FROM series s WHERE s.study_pk = studies.pk) WHERE pk {doomed}"
    )
    writer.execute(f"DELETE FROM studies WHERE num_instances = 0 AND pk {doomed}")
    for (pk,) in writer.execute(f"SELECT pk FROM studies WHERE pk {doomed}"):
        modalities = writer.execute("SELECT DISTINCT modality FROM series WHERE study_pk = ?", (pk,))
        classes = writer.execute(
            "SELECT DISTINCT i.sop_class_uid FROM instances i JOIN series s ON s.pk = i.series_pk WHERE s.study_pk = ?",
            (pk,),
        )
        writer.execute(
            "UPDATE studies SET modalities_in_study = ?, sop_classes_in_study = ? WHERE pk = ?",
            (_list_of(modalities), _list_of(classes), pk),
        )


def _list_of(rows: Sequence[tuple[Any, ...]]) -> str:
    return "\\".join(sorted({value for (value,) in rows if value}))


def _remove_patients(writer: IndexWriter) -> None:
    doomed = _OF.format(column="patient_pk")
    execute = writer.execute
    execute(
        "UPDATE patients SET (num_studies, num_instances) = (SELECT count(*), coalesce(sum(t.num_instances), 0)"
        f" FROM studies t WHERE t.patient_pk = patients.pk) WHERE pk {doomed}"
    )
    gone = f"FROM patients WHERE num_instances = 0 AND pk {doomed}"
    conflicts = execute(f"SELECT DISTINCT patient_id, issuer {gone} AND is_conflict")
    execute(f"DELETE {gone}")
    for patient_id, issuer in conflicts:
        rows = execute("SELECT pk FROM patients WHERE patient_id = ? AND issuer = ?", (patient_id, issuer))
        if len(rows) == 1:
            execute("UPDATE patients SET is_conflict = 0 WHERE pk = ?", rows[0])
