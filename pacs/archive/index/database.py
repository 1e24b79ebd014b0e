"""
The index's SQLite file: opening it for the one writer and the readers, and bringing its schema up to date.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from pacs.archive.errors import IndexTooNew
from pacs.archive.index.schema import METADATA, SCHEMA

BUSY_TIMEOUT_S: Final = 30.0
WRITER_CACHE_KIB: Final = 2 * 1024  # what a batch changes; the operating system keeps the rest, and a page costs 2 us
READER_CACHE_KIB: Final = 4 * 1024
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def connect_writer(path: Path) -> sqlite3.Connection:
    """
    Open the index for writing.

    The log is not synced at each commit (`synchronous=NORMAL`): the batch's sync covers it. A checkpoint is
    synced by SQLite, and made when the commit thread asks for it.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.executescript(
        f"""
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = NORMAL;
        PRAGMA wal_autocheckpoint = 0;
        PRAGMA foreign_keys = OFF;
        PRAGMA temp_store = MEMORY;
        PRAGMA cache_size = -{WRITER_CACHE_KIB};
        """
    )
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the index for reading only."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.executescript(
        f"PRAGMA query_only = ON; PRAGMA case_sensitive_like = ON; PRAGMA cache_size = -{READER_CACHE_KIB};"
    )
    return connection


def migrate(path: Path) -> Path | None:
    """
    Bring the index to this version's schema, or make a new one.

    Returns:
        the copy of the old index that was kept, when there was something to migrate.

    Raises:
        IndexTooNew: it has a schema that this version does not know.
    """
    current = schema_of(path)
    if current == SCHEMA:
        return None
    if current is None:
        _make(path)
        return None
    if current not in _known_schemas():
        raise IndexTooNew(
            f"{path}: the index has schema {current}, this version knows {SCHEMA} at most;"
            " start the version that wrote it, or rebuild the index with 'pacsctl reindex'"
        )
    copy = _copy(path, f"before-{SCHEMA}")
    _upgrade(path)
    return copy


def schema_of(path: Path) -> str | None:
    """Give the revision that Alembic noted in an index, or None when there is none."""
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


@contextmanager
def all_or_nothing(url: str) -> Iterator[Connection]:
    """Give a connection in a transaction: left to itself the driver would commit each change of the schema."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        connection.exec_driver_sql("COMMIT")


def _known_schemas() -> set[str]:
    return {path.name[1:5] for path in (_MIGRATIONS / "versions").glob("v[0-9]*.py")}


def _make(path: Path) -> None:
    """Make a new index, as the migrations would, and note that it is up to date."""
    with all_or_nothing(f"sqlite:///{path}") as connection:
        METADATA.create_all(connection)
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO alembic_version (version_num) VALUES (?)", (SCHEMA,))


def _upgrade(path: Path) -> None:
    """Run the migrations that are missing; Alembic is loaded for this alone, it costs 11 MB."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["url"] = f"sqlite:///{path}"
    command.upgrade(config, "head")


def _copy(path: Path, suffix: str) -> Path:
    """Copy a live index by SQLite's own means."""
    target = path.with_name(f"{path.name}.{suffix}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as destination:
        source.backup(destination)
    return target
