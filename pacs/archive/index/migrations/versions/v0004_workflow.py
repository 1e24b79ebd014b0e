"""
Tables for the worklist, for performed procedure steps, and for what belongs together of both.
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES: Final = ("worklist", "performed_steps", "step_links")
STATEMENTS: Final = (
    """
    CREATE TABLE worklist ( pk INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, status TEXT NOT NULL, step_id TEXT NOT NULL,
    study_instance_uid TEXT NOT NULL, patient_id TEXT NOT NULL, accession_number TEXT NOT NULL, modality TEXT NOT
    NULL, station_ae_title TEXT NOT NULL, scheduled_date TEXT NOT NULL, scheduled_time TEXT NOT NULL, data TEXT
    NOT NULL, changed_at BIGINT NOT NULL )
    """,
    """
    CREATE INDEX worklist_by_date ON worklist (scheduled_date, scheduled_time)
    """,
    """
    CREATE INDEX worklist_by_study ON worklist (study_instance_uid)
    """,
    """
    CREATE TABLE performed_steps ( pk INTEGER NOT NULL, sop_instance_uid TEXT NOT NULL, status TEXT NOT NULL,
    study_instance_uid TEXT NOT NULL, patient_id TEXT NOT NULL, calling_ae_title TEXT NOT NULL, data TEXT NOT NULL,
    created_at BIGINT NOT NULL, changed_at BIGINT NOT NULL, PRIMARY KEY (pk), UNIQUE (sop_instance_uid) )
    """,
    """
    CREATE INDEX performed_steps_by_study ON performed_steps (study_instance_uid)
    """,
    """
    CREATE TABLE step_links ( worklist_pk INTEGER NOT NULL, performed_step_pk INTEGER NOT NULL, PRIMARY KEY
    (worklist_pk, performed_step_pk) )
    """,
    """
    CREATE INDEX step_links_by_performed_step ON step_links (performed_step_pk)
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
