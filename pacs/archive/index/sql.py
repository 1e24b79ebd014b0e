"""
Statements of SQLAlchemy Core as the text and parameters of SQLite's own driver: compiled once, run many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ClauseElement, Select, Table, insert
from sqlalchemy.dialects import sqlite

DIALECT: Final = sqlite.dialect(paramstyle="qmark")  # type: ignore[no-untyped-call]


def insert_text(table: Table, columns: Sequence[str]) -> str:
    """Give the INSERT of the columns, in their order."""
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    compiled = str(insert(table).values({name: None for name in columns}).compile(dialect=DIALECT))
    head = compiled.partition("(")[0].rstrip()
    return f"{head} ({names}) VALUES ({marks})"


def compile_select(statement: Select[Any] | ClauseElement) -> tuple[str, tuple[Any, ...]]:
    """Give a statement's text and its parameters in order."""
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    positions = compiled.positiontup or ()
    return str(compiled), tuple(compiled.params[name] for name in positions)
