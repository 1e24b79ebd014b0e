"""
The durable task queue.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text, text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NOT_ENDED = text("state IN ('waiting', 'running', 'paused')")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "tasks",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
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
        sqlite_autoincrement=True,
    )
    op.create_index("tasks_by_state", "tasks", ["state", "kind", "not_before"])
    op.create_index(
        "tasks_not_ended",
        "tasks",
        ["kind", "key"],
        unique=True,
        sqlite_where=_NOT_ENDED,
        postgresql_where=_NOT_ENDED,
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("tasks")
