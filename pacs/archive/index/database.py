"""
The index's SQLite file: opening it for the one writer and the readers, and bringing its schema up to date.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from pacs.archive.errors import IndexTooNew

BUSY_TIMEOUT_S: Final = 30.0
PAGE_CACHE_KIB: Final = 16 * 1024
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def connect_writer(path: Path) -> sqlite3.Connection:
    """
    Open the index for writing.

    The log is not synced at each commit (`synchronous=NORMAL`): the commit thread's barrier covers it. A checkpoint
    is synced by SQLite, and made when the commit thread asks for it.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.executescript(
        f"""
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = NORMAL;
        PRAGMA wal_autocheckpoint = 0;
        PRAGMA foreign_keys = OFF;
        PRAGMA temp_store = MEMORY;
        PRAGMA cache_size = -{PAGE_CACHE_KIB};
        """
    )
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the index for reading only."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.executescript(
        f"PRAGMA query_only = ON; PRAGMA case_sensitive_like = ON; PRAGMA cache_size = -{PAGE_CACHE_KIB // 4};"
    )
    return connection


def _alembic(path: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["url"] = f"sqlite:///{path}"
    return config


def migrate(path: Path) -> Path | None:
    """
    Bring the index to this version's schema, or make a new one.

    Returns:
        the copy of the old index that was kept, when there was something to migrate.

    Raises:
        IndexTooNew: it has a schema that this version does not know.
    """
    script = ScriptDirectory.from_config(_alembic(path))
    head = script.get_current_head()
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == head:
        return None
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise IndexTooNew(
            f"{path}: the index has schema {current}, this version knows {head} at most;"
            " start the version that wrote it, or rebuild the index with 'pacsctl reindex'"
        )
    copy = _copy(path, f"before-{head}") if current is not None else None
    command.upgrade(_alembic(path), "head")
    return copy


def _copy(path: Path, suffix: str) -> Path:
    """Copy a live index by SQLite's own means."""
    target = path.with_name(f"{path.name}.{suffix}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as destination:
        source.backup(destination)
    return target
