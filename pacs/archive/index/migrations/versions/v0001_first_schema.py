"""
The first schema of the index.

A released migration does not change: this one spells the tables of its own time.
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES: Final = ("headers", "instances", "series", "studies", "patients", "quarantine", "archive_state")
STATEMENTS: Final = (
    """
    CREATE TABLE archive_state ( name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name) )
    """,
    """
    CREATE TABLE patients ( pk INTEGER NOT NULL, patient_id TEXT DEFAULT '' NOT NULL, issuer TEXT DEFAULT '' NOT
    NULL, patient_name TEXT DEFAULT '' NOT NULL, patient_name_search TEXT DEFAULT '' NOT NULL, birth_date TEXT
    DEFAULT '' NOT NULL, birth_time TEXT DEFAULT '' NOT NULL, sex TEXT DEFAULT '' NOT NULL, ethnic_group TEXT
    DEFAULT '' NOT NULL, patient_comments TEXT DEFAULT '' NOT NULL, character_set TEXT DEFAULT '' NOT NULL,
    is_conflict BOOLEAN DEFAULT '0' NOT NULL, num_studies BIGINT DEFAULT '0' NOT NULL, num_instances BIGINT
    DEFAULT '0' NOT NULL, PRIMARY KEY (pk) )
    """,
    """
    CREATE INDEX patients_by_id ON patients (patient_id, issuer)
    """,
    """
    CREATE INDEX patients_by_name ON patients (patient_name_search)
    """,
    """
    CREATE TABLE quarantine ( pk INTEGER NOT NULL, path TEXT NOT NULL, reason TEXT NOT NULL, noted_at BIGINT NOT
    NULL, PRIMARY KEY (pk) )
    """,
    """
    CREATE TABLE studies ( pk INTEGER NOT NULL, patient_pk INTEGER NOT NULL, study_instance_uid TEXT DEFAULT ''
    NOT NULL, study_date TEXT DEFAULT '' NOT NULL, study_time TEXT DEFAULT '' NOT NULL, accession_number TEXT
    DEFAULT '' NOT NULL, study_id TEXT DEFAULT '' NOT NULL, study_description TEXT DEFAULT '' NOT NULL,
    referring_physician TEXT DEFAULT '' NOT NULL, referring_physician_search TEXT DEFAULT '' NOT NULL,
    reading_physicians TEXT DEFAULT '' NOT NULL, reading_physicians_search TEXT DEFAULT '' NOT NULL,
    admitting_diagnoses TEXT DEFAULT '' NOT NULL, patient_age TEXT DEFAULT '' NOT NULL, patient_size TEXT
    DEFAULT '' NOT NULL, patient_weight TEXT DEFAULT '' NOT NULL, occupation TEXT DEFAULT '' NOT NULL,
    additional_patient_history TEXT DEFAULT '' NOT NULL, modalities_in_study TEXT DEFAULT '' NOT NULL,
    sop_classes_in_study TEXT DEFAULT '' NOT NULL, character_set TEXT DEFAULT '' NOT NULL, num_series BIGINT
    DEFAULT '0' NOT NULL, num_instances BIGINT DEFAULT '0' NOT NULL, size_bytes BIGINT DEFAULT '0' NOT NULL,
    received_at BIGINT NOT NULL, PRIMARY KEY (pk), UNIQUE (patient_pk, study_instance_uid), FOREIGN
    KEY(patient_pk) REFERENCES patients (pk) )
    """,
    """
    CREATE INDEX studies_by_accession_number ON studies (accession_number)
    """,
    """
    CREATE INDEX studies_by_date ON studies (study_date)
    """,
    """
    CREATE INDEX studies_by_uid ON studies (study_instance_uid)
    """,
    """
    CREATE TABLE series ( pk INTEGER NOT NULL, study_pk INTEGER NOT NULL, series_instance_uid TEXT DEFAULT ''
    NOT NULL, modality TEXT DEFAULT '' NOT NULL, series_number TEXT DEFAULT '' NOT NULL, series_description TEXT
    DEFAULT '' NOT NULL, series_date TEXT DEFAULT '' NOT NULL, series_time TEXT DEFAULT '' NOT NULL,
    body_part_examined TEXT DEFAULT '' NOT NULL, laterality TEXT DEFAULT '' NOT NULL, protocol_name TEXT DEFAULT
    '' NOT NULL, performing_physician TEXT DEFAULT '' NOT NULL, performing_physician_search TEXT DEFAULT '' NOT
    NULL, operators_name TEXT DEFAULT '' NOT NULL, operators_name_search TEXT DEFAULT '' NOT NULL, manufacturer
    TEXT DEFAULT '' NOT NULL, institution_name TEXT DEFAULT '' NOT NULL, station_name TEXT DEFAULT '' NOT NULL,
    performed_start_date TEXT DEFAULT '' NOT NULL, performed_start_time TEXT DEFAULT '' NOT NULL, character_set
    TEXT DEFAULT '' NOT NULL, num_instances BIGINT DEFAULT '0' NOT NULL, size_bytes BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (pk), UNIQUE (study_pk, series_instance_uid), FOREIGN KEY(study_pk) REFERENCES studies (pk) )
    """,
    """
    CREATE INDEX series_by_uid ON series (series_instance_uid)
    """,
    """
    CREATE TABLE instances ( pk INTEGER NOT NULL, series_pk INTEGER NOT NULL, sop_instance_uid TEXT DEFAULT ''
    NOT NULL, sop_class_uid TEXT DEFAULT '' NOT NULL, instance_number TEXT DEFAULT '' NOT NULL, content_date
    TEXT DEFAULT '' NOT NULL, content_time TEXT DEFAULT '' NOT NULL, acquisition_date TEXT DEFAULT '' NOT NULL,
    acquisition_time TEXT DEFAULT '' NOT NULL, acquisition_number TEXT DEFAULT '' NOT NULL, image_type TEXT
    DEFAULT '' NOT NULL, number_of_frames TEXT DEFAULT '' NOT NULL, rows TEXT DEFAULT '' NOT NULL, columns TEXT
    DEFAULT '' NOT NULL, bits_allocated TEXT DEFAULT '' NOT NULL, copy_number INTEGER DEFAULT '0' NOT NULL,
    character_set TEXT DEFAULT '' NOT NULL, transfer_syntax_uid TEXT NOT NULL, path TEXT NOT NULL, size_bytes
    BIGINT NOT NULL, data_set_offset INTEGER NOT NULL, sha256 TEXT, received_at BIGINT NOT NULL, source_ae_title
    TEXT DEFAULT '' NOT NULL, PRIMARY KEY (pk), UNIQUE (sop_instance_uid, copy_number), FOREIGN KEY(series_pk)
    REFERENCES series (pk) )
    """,
    """
    CREATE INDEX instances_by_series ON instances (series_pk)
    """,
    """
    CREATE TABLE headers ( instance_pk INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (instance_pk), FOREIGN
    KEY(instance_pk) REFERENCES instances (pk) )
    """,
)


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(" ".join(statement.split()))


def downgrade() -> None:
    """Remove them."""
    for table in TABLES:
        op.drop_table(table)
