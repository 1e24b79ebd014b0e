"""
Statements of SQLAlchemy Core as the text and parameters of SQLite's own driver: compiled once, run many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Select, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

DIALECT: Final = sqlite.dialect(paramstyle="qmark")


def insert_text(table: Table, columns: Sequence[str]) -> str:
    """Give the INSERT of the columns, in their order."""
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks})"


def compile_select(statement: Select[Any]) -> tuple[str, tuple[Any, ...]]:
    """Give a statement's text and its parameters in order."""
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    positions = compiled.positiontup or ()
    return str(compiled), tuple(compiled.params[name] for name in positions)
