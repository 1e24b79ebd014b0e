"""
Files of deleted objects that are about to go.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "deletions",
        Column("pk", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, nullable=False),
        Column("path", Text, nullable=False),
        Column("sop_instance_uid", Text, nullable=False),
        Column("noted_at", BigInteger, nullable=False),
    )
    op.create_index("deletions_by_path", "deletions", ["path"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("deletions")
