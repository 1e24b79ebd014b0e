"""
Statements of SQLAlchemy Core as the text and parameters of SQLite's own driver: compiled once, run many times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
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


GROUP_SIZES: Final = (64, 16, 4, 1)
"""Statements for many rows exist in these sizes, so that each is prepared once."""


@lru_cache(maxsize=64)
def insert_many_text(table: Table, columns: tuple[str, ...], rows: int) -> str:
    """Give the INSERT of some rows."""
    marks = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([marks] * rows)}"


@lru_cache(maxsize=64)
def add_text(table: Table, columns: tuple[str, ...]) -> str:
    """Give the UPDATE that adds to columns of one row; parameters are the numbers, then the key."""
    return f"UPDATE {table.name} SET {', '.join(f'{name} = {name} + ?' for name in columns)} WHERE pk = ?"


@lru_cache(maxsize=64)
def add_many_text(table: Table, columns: tuple[str, ...], rows: int) -> str:
    """Give the UPDATE that adds to columns of some rows; parameters are key and numbers, row by row."""
    marks = f"({', '.join('?' * (len(columns) + 1))})"
    changes = ", ".join(f"{name} = {table.name}.{name} + d.{name}" for name in columns)
    return (
        f"WITH d (pk, {', '.join(columns)}) AS (VALUES {', '.join([marks] * rows)})"
        f" UPDATE {table.name} SET {changes} FROM d WHERE {table.name}.pk = d.pk"
    )


def in_groups(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[int, list[Any]]]:
    """Cut rows into groups of the sizes for which statements exist; give size and all parameters of each."""
    if len(rows) == 1:
        yield 1, list(rows[0])
        return
    start = 0
    for size in GROUP_SIZES:
        while len(rows) - start >= size:
            yield size, [value for row in rows[start : start + size] for value in row]
            start += size


def compile_select(statement: Select[Any]) -> tuple[str, tuple[Any, ...]]:
    """Give a statement's text and its parameters in order."""
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    positions = compiled.positiontup or ()
    return str(compiled), tuple(compiled.params[name] for name in positions)


def compile_shape(statement: Select[Any]) -> tuple[str, tuple[int, ...] | None]:
    """
    Give the text of a statement whose parameters are named p0, p1 and so on.

    Returns:
        the text, and the numbers of the parameters in their order in the text; None when that is 0, 1 and so on.
    """
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    order = tuple(int(name[1:]) for name in compiled.positiontup or ())
    return str(compiled), None if order == tuple(range(len(order))) else order
