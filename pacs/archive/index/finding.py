"""
The rows of a query, page by page, in a reader thread: what the statement gives, completed from the headers and
reduced to what really matches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from pacs.archive.evaluate import matches, wanted_items
from pacs.archive.headers import HeaderReader
from pacs.archive.index.search import Statement, statement_for
from pacs.archive.keys import is_of_header, key_vr
from pacs.archive.query import Query, SequenceKey, needs_header, tags_of
from pacs.dataset.values import Value

Row = tuple[Any, ...]
"""A value for each wanted attribute: text, or a `Value` of the header; None where the header lacks it."""

_EMPTY: Final[Mapping[int, Value]] = {}


class Finding:
    """
    Answers one query.

    Attributes:
        statement: what the index is asked.
        is_plain: its rows are the answer as they come.
    """

    def __init__(self, query: Query, *, headers: HeaderReader) -> None:
        self.statement: Statement = statement_for(query)
        self._query = query
        self._headers = headers
        self._needs_header = needs_header(query)
        self._rest = self.statement.rest
        self.is_plain = not self._needs_header and not self._rest
        columns = [tag for tag in query.wanted if not is_of_header(tag)]
        columns += [tag for c in self._rest for tag in tags_of(c) if not is_of_header(tag)]
        self._columns = tuple((tag, key_vr(tag)) for tag in columns)
        self._header_tags = frozenset(
            tag for tag in (*query.wanted, *(t for c in self._rest for t in tags_of(c))) if is_of_header(tag)
        )
        self._sequences = {c.tag: c for c in query.conditions if isinstance(c, SequenceKey)}
        self._offset = query.offset if self._rest else 0
        self._left = query.limit if self._rest else None

    def complete(self, connection: sqlite3.Connection, rows: list[Row]) -> list[Row]:
        """Give the answer's rows of some rows of the statement, in their order."""
        if self.is_plain:
            return rows
        found = [row for row in (self._complete(connection, row) for row in rows) if row is not None]
        if self._offset:
            skipped = min(self._offset, len(found))
            self._offset -= skipped
            del found[:skipped]
        if self._left is not None:
            del found[self._left :]
            self._left -= len(found)
        return found

    @property
    def is_exhausted(self) -> bool:
        """As many rows were found as are wanted."""
        return self._left == 0

    def _complete(self, connection: sqlite3.Connection, row: Row) -> Row | None:
        values = {tag: Value(vr, row[i]) for i, (tag, vr) in enumerate(self._columns)}
        if self._needs_header:
            values |= self._headers.values(connection, row[-1], self._header_tags)
        if not all(matches(condition, values) for condition in self._rest):
            return None
        found: list[Any] = []
        for tag in self._query.wanted:
            value = values.get(tag)
            if not is_of_header(tag):
                found.append("" if value is None else value.text)
            elif value is not None and tag in self._sequences:
                found.append(wanted_items(self._sequences[tag], value))
            else:
                found.append(value)
        return tuple(found)
