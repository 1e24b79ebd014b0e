"""
The change feed.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "changes",
        Column("id", Integer, primary_key=True, nullable=False),
        Column("kind", Text, nullable=False),
        Column("happened_at", BigInteger, nullable=False),
        Column("data", Text, nullable=False),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("changes")
