"""
Columns and indexes for the ideographic and phonetic groups of patients' names, and an index of studies' ids.
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXES: Final = (
    ("patients_by_ideographic_name", "patients", "patient_name_ideographic"),
    ("patients_by_phonetic_name", "patients", "patient_name_phonetic"),
    ("studies_by_study_id", "studies", "study_id"),
)


def _add(column: str, source: str) -> None:
    expression = f"CASE WHEN instr({source}, '=') > 0 THEN substr({source}, instr({source}, '=') + 1) ELSE '' END"
    op.execute(f"ALTER TABLE patients ADD COLUMN {column} TEXT GENERATED ALWAYS AS ({expression}) VIRTUAL")


def upgrade() -> None:
    """Add them; the columns are computed, so that there is nothing to fill in."""
    _add("patient_name_ideographic", "patient_name_search")
    _add("patient_name_phonetic", "patient_name_ideographic")
    for name, table, column in INDEXES:
        op.create_index(name, table, [column])


def downgrade() -> None:
    """Remove them."""
    for name, table, _ in INDEXES:
        op.drop_index(name, table)
    for column in ("patient_name_phonetic", "patient_name_ideographic"):
        op.execute(f"ALTER TABLE patients DROP COLUMN {column}")
