"""
The first schema of the index.

A released migration does not change: this one spells its schema by the tables of its own time.
"""

from __future__ import annotations

from alembic import op

from pacs.archive.index.schema import METADATA

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    METADATA.create_all(op.get_bind())


def downgrade() -> None:
    """Remove them."""
    METADATA.drop_all(op.get_bind())
