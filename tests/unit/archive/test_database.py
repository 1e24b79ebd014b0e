"""
The schema of a new index is what the migrations make; a newer one is refused; an older one is copied first.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_mock_engine, event
from sqlalchemy.dialects import postgresql

import pacs.archive.index.migrations
from pacs.archive.errors import IndexTooNew
from pacs.archive.index.database import BUSY_TIMEOUT_S, connect_reader, connect_writer, migrate
from pacs.archive.index.schema import METADATA, SCHEMA
from pacs.archive.index.writer import IndexWriter

MIGRATIONS = Path(str(pacs.archive.index.migrations.__file__)).parent


def configuration(path: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = f"sqlite:///{path}"
    return config


def schema_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Give the columns of every table, and the statements of every index."""
    with closing(sqlite3.connect(path)) as connection:
        entries = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE tbl_name NOT LIKE 'alembic%'")
        return {
            name: connection.execute(f"PRAGMA table_xinfo({name})").fetchall() if kind == "table" else [(sql,)]
            for kind, name, sql in entries.fetchall()
        }


def index_of_the_first_schema(path: Path) -> None:
    command.upgrade(configuration(path), "0001")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO patients (patient_name, patient_name_search) VALUES (?, ?)",
            ("Yamada=山田=やまだ", "yamada=山田=やまだ"),
        )


def test_an_old_index_is_migrated_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    index_of_the_first_schema(path)
    copy = migrate(path)
    assert copy is not None
    assert copy.exists()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT patient_name, patient_name_ideographic, patient_name_phonetic FROM patients")
        assert rows.fetchall() == [("Yamada=山田=やまだ", "山田=やまだ", "やまだ")]
    assert migrate(path) is None


def test_a_new_index_has_the_schema_that_the_migrations_make(tmp_path: Path) -> None:
    assert migrate(tmp_path / "new.db") is None
    command.upgrade(configuration(tmp_path / "migrated.db"), "head")
    assert schema_of(tmp_path / "new.db") == schema_of(tmp_path / "migrated.db")
    assert ScriptDirectory.from_config(configuration(tmp_path / "new.db")).get_current_head() == SCHEMA
    assert migrate(tmp_path / "new.db") is None
    assert migrate(tmp_path / "migrated.db") is None


def broken_off(path: Path, after: int) -> bool:
    """Migrate, and break off after so many changes of the schema; give whether there were so many."""
    changes = 0

    def executed(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        nonlocal changes
        changes += statement.lstrip().startswith(("CREATE", "ALTER", "INSERT", "UPDATE"))
        if changes == after:
            raise InterruptedError

    event.listen(Engine, "after_cursor_execute", executed)
    try:
        migrate(path)
    except InterruptedError:
        return True
    finally:
        event.remove(Engine, "after_cursor_execute", executed)
    return False


@pytest.mark.parametrize("is_new", [True, False])
def test_an_index_is_made_and_migrated_wholly_or_not_at_all(tmp_path: Path, is_new: bool) -> None:
    whole = tmp_path / "whole.db"
    migrate(whole)
    after = 1
    while True:
        path = tmp_path / f"{after}.db"
        if not is_new:
            index_of_the_first_schema(path)
        if not broken_off(path, after):
            break
        migrate(path)
        assert schema_of(path) == schema_of(whole)
        after += 1
    assert after > 10


def test_postgresql_is_told_that_the_index_of_tasks_is_partial() -> None:
    statements: list[str] = []
    dialect = postgresql.dialect()
    engine = create_mock_engine(
        "postgresql+psycopg://", lambda statement, *_: statements.append(str(statement.compile(dialect=dialect)))
    )
    METADATA.create_all(engine, checkfirst=False)
    (made,) = (statement for statement in statements if "tasks_not_ended" in statement)
    assert made == (
        "CREATE UNIQUE INDEX tasks_not_ended ON tasks (kind, key) WHERE state IN ('waiting', 'running', 'paused')"
    )


def test_a_server_on_sqlite_loads_no_other_database() -> None:
    code = "import sys, pacs.application; print([name for name in sys.modules if name.endswith('dialects.postgresql')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    migrate(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(IndexTooNew, match="schema 9999, this version knows"):
        migrate(path)


def test_a_reader_does_not_keep_the_writer_waiting_at_a_checkpoint(tmp_path: Path) -> None:
    """A peer that reads the answers of a query slowly holds a snapshot: objects must go on being committed."""
    path = tmp_path / "index.db"
    migrate(path)
    writer = IndexWriter(connect_writer(path), conflict_noticed=lambda: None)
    with closing(connect_reader(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM patients").fetchone()
        writer.begin()
        writer.set_state("name", "value")
        writer.commit()
        started_s = time.monotonic()
        writer.checkpoint()
        assert time.monotonic() - started_s < BUSY_TIMEOUT_S / 10
        assert path.with_name("index.db-wal").stat().st_size > 0
        reader.execute("ROLLBACK")
        writer.checkpoint()
        assert path.with_name("index.db-wal").stat().st_size == 0
    writer.close()
