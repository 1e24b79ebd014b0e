"""
Alembic's entry: runs the migrations on the index whose URL it is given.
"""

from __future__ import annotations

from alembic import context

from pacs.archive.index.database import all_or_nothing
from pacs.archive.index.schema import METADATA

with all_or_nothing(context.config.attributes["url"]) as connection:
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
