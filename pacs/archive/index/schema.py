"""
The tables of the index, in SQLAlchemy Core; the columns of DICOM attributes come from `pacs.archive.attributes`.

One row a patient, study, series and object. Counts and sizes are kept, not counted, so that a list costs no join.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

from pacs.archive.attributes import ATTRIBUTES_OF, Level, Matching

KEY: Final = BigInteger().with_variant(Integer, "sqlite")
METADATA: Final = MetaData()
_NOT_ENDED: Final = text("state IN ('waiting', 'running', 'paused')")
SCHEMA: Final = "0007"
"""The last migration: what a new index is made as."""


def _attribute_columns(level: Level) -> list[Column[str]]:
    """Give a column for each attribute of a level, and one in search form for each name."""
    columns: list[Column[str]] = []
    for attribute in ATTRIBUTES_OF[level]:
        columns.append(Column(attribute.column, Text, nullable=False, server_default=""))
        if attribute.matching is Matching.NAME:
            columns.append(Column(f"{attribute.column}_search", Text, nullable=False, server_default=""))
    return columns


def _behind_group(column: str) -> str:
    """Give the SQL of a name without its first component group."""
    return f"CASE WHEN instr({column}, '=') > 0 THEN substr({column}, instr({column}, '=') + 1) ELSE '' END"


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


PATIENTS: Final = Table(
    "patients",
    METADATA,
    Column("pk", KEY, primary_key=True),
    *_attribute_columns(Level.PATIENT),
    Column("character_set", Text, nullable=False, server_default=""),
    Column("is_conflict", Boolean, nullable=False, server_default="0"),
    _count("num_studies"),
    _count("num_instances"),
    Column("patient_name_ideographic", Text, Computed(_behind_group("patient_name_search"), persisted=False)),
    Column("patient_name_phonetic", Text, Computed(_behind_group("patient_name_ideographic"), persisted=False)),
    Index("patients_by_id", "patient_id", "issuer"),
    Index("patients_by_name", "patient_name_search"),
    Index("patients_by_ideographic_name", "patient_name_ideographic"),
    Index("patients_by_phonetic_name", "patient_name_phonetic"),
)

STUDIES: Final = Table(
    "studies",
    METADATA,
    Column("pk", KEY, primary_key=True),
    Column("patient_pk", KEY, ForeignKey("patients.pk"), nullable=False),
    *_attribute_columns(Level.STUDY),
    Column("modalities_in_study", Text, nullable=False, server_default=""),
    Column("sop_classes_in_study", Text, nullable=False, server_default=""),
    Column("character_set", Text, nullable=False, server_default=""),
    _count("num_series"),
    _count("num_instances"),
    _count("size_bytes"),
    Column("received_at", BigInteger, nullable=False),
    UniqueConstraint("patient_pk", "study_instance_uid"),
    Index("studies_by_uid", "study_instance_uid"),
    Index("studies_by_date", "study_date"),
    Index("studies_by_accession_number", "accession_number"),
    Index("studies_by_study_id", "study_id"),
)

SERIES: Final = Table(
    "series",
    METADATA,
    Column("pk", KEY, primary_key=True),
    Column("study_pk", KEY, ForeignKey("studies.pk"), nullable=False),
    *_attribute_columns(Level.SERIES),
    Column("character_set", Text, nullable=False, server_default=""),
    _count("num_instances"),
    _count("size_bytes"),
    UniqueConstraint("study_pk", "series_instance_uid"),
    Index("series_by_uid", "series_instance_uid"),
)

INSTANCES: Final = Table(
    "instances",
    METADATA,
    Column("pk", KEY, primary_key=True),
    Column("series_pk", KEY, ForeignKey("series.pk"), nullable=False),
    *_attribute_columns(Level.IMAGE),
    Column("copy_number", Integer, nullable=False, server_default="0"),
    Column("character_set", Text, nullable=False, server_default=""),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("data_set_offset", Integer, nullable=False),
    Column("sha256", Text),
    Column("received_at", BigInteger, nullable=False),
    Column("source_ae_title", Text, nullable=False, server_default=""),
    UniqueConstraint("sop_instance_uid", "copy_number"),
    Index("instances_by_series", "series_pk"),
)

HEADERS: Final = Table(
    "headers",
    METADATA,
    Column("instance_pk", KEY, ForeignKey("instances.pk"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

QUARANTINE: Final = Table(
    "quarantine",
    METADATA,
    Column("pk", KEY, primary_key=True),
    Column("path", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("noted_at", BigInteger, nullable=False),
)

DELETIONS: Final = Table(
    "deletions",
    METADATA,
    Column("pk", KEY, primary_key=True),
    Column("path", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    Column("noted_at", BigInteger, nullable=False),
    Index("deletions_by_path", "path"),
)
"""Files of objects that were deleted: they have no row any more and are about to go."""

ARCHIVE_STATE: Final = Table(
    "archive_state",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("id", Text, primary_key=True, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("last_used_at", BigInteger),
)

WORKLIST: Final = Table(
    "worklist",
    METADATA,
    Column("pk", KEY, primary_key=True),
    Column("status", Text, nullable=False),
    Column("step_id", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("accession_number", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("station_ae_title", Text, nullable=False),
    Column("scheduled_date", Text, nullable=False),
    Column("scheduled_time", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Index("worklist_by_date", "scheduled_date", "scheduled_time"),
    Index("worklist_by_study", "study_instance_uid"),
    sqlite_autoincrement=True,
)
"""Scheduled procedure steps; an id is never given twice. `data` is the whole item (`pacs.workflow.stored_form`)."""

PERFORMED_STEPS: Final = Table(
    "performed_steps",
    METADATA,
    Column("pk", KEY, primary_key=True),
    Column("sop_instance_uid", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("calling_ae_title", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    UniqueConstraint("sop_instance_uid"),
    Index("performed_steps_by_study", "study_instance_uid"),
)

STEP_LINKS: Final = Table(
    "step_links",
    METADATA,
    Column("worklist_pk", KEY, primary_key=True),
    Column("performed_step_pk", KEY, primary_key=True),
    Index("step_links_by_performed_step", "performed_step_pk"),
)
"""Which performed steps belong to a scheduled one, and the other way round."""

CHANGES: Final = Table(
    "changes",
    METADATA,
    Column("id", Integer, primary_key=True, nullable=False),
    Column("kind", Text, nullable=False),
    Column("happened_at", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
)
"""The change feed; ids only grow."""

TASKS: Final = Table(
    "tasks",
    METADATA,
    Column("id", KEY, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", BigInteger, nullable=False),
    Column("last_error", Text, nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("aged_from", BigInteger, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
    Index("tasks_by_state", "state", "kind", "not_before"),
    Index("tasks_not_ended", "kind", "key", unique=True, sqlite_where=_NOT_ENDED),
    sqlite_autoincrement=True,
)
"""The durable queue (`pacs.archive.index.tasks`); an id is never given twice."""


@event.listens_for(METADATA, "before_create")
def _make_partial_for_postgresql(_: MetaData, connection: Connection, **__: Any) -> None:
    """Say to PostgreSQL what SQLite was told: named with the table, it loads that dialect, 2 MB, for SQLite too."""
    if connection.dialect.name == "postgresql":
        for index in TASKS.indexes:
            if index.name == "tasks_not_ended":
                index.dialect_options["postgresql"]["where"] = _NOT_ENDED
