"""
The change feed's rows: written in the transaction of the change itself, read in their order (CONTRACT.md section 6).

Ids only grow. The newest row is never removed, so that a start goes on behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring as quoted
from typing import Any, Final, NamedTuple

Execute = Callable[[str, Sequence[Any]], Any]

PURGED_TO: Final = "changes_purged_to"
PURGED_AT_ONCE: Final = 5000
TAIL_ROWS: Final = 100_000


class Change(NamedTuple):
    """
    A row.

    Attributes:
        kind: the wire name of the event.
        happened_at: microseconds since 1970, UTC.
        data: the event's fields, JSON.
    """

    id: int
    kind: str
    happened_at: int
    data: str


class Bounds(NamedTuple):
    """
    What the feed has.

    Attributes:
        newest: the last id, 0 when nothing ever happened.
        purged_to: up to this id the feed was removed.
    """

    newest: int
    purged_to: int


def timestamp_of(microseconds: int) -> str:
    """Give a time as events show it, ISO 8601 in UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat().replace("+00:00", "Z")


def json_object(fields: Sequence[tuple[str, str | int | bool]]) -> str:
    """Give a flat JSON object; a third of the time that `json.dumps` takes."""
    parts = []
    for name, value in fields:
        if isinstance(value, str):
            text = quoted(value)
        elif isinstance(value, bool):
            text = "true" if value else "false"
        else:
            text = str(value)
        parts.append(f'"{name}":{text}')
    return "{" + ",".join(parts) + "}"


def bounds_in_thread(connection: sqlite3.Connection) -> Bounds:
    """Give what the feed has."""
    newest = connection.execute("SELECT coalesce(max(id), 0) FROM changes").fetchone()[0]
    purged = connection.execute("SELECT value FROM archive_state WHERE name = ?", (PURGED_TO,)).fetchone()
    return Bounds(int(newest), int(purged[0]) if purged is not None else 0)


def changes_in_thread(connection: sqlite3.Connection, after: int, limit: int) -> list[Change]:
    """Give the rows behind an id, in their order."""
    rows = connection.execute(
        "SELECT id, kind, happened_at, data FROM changes WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
    )
    return [Change(*row) for row in rows]


def news_in_thread(
    connection: sqlite3.Connection, after: int, kinds: Sequence[str], limit: int
) -> tuple[list[Change], int]:
    """Give the rows of some kinds behind an id, and up to which id that is all there is."""
    newest = bounds_in_thread(connection).newest
    marks = ", ".join("?" * len(kinds))
    rows = connection.execute(
        "SELECT id, kind, happened_at, data FROM changes"
        f" WHERE id > ? AND id <= ? AND kind IN ({marks}) ORDER BY id LIMIT ?",
        (after, newest, *kinds, limit),
    )
    changes = [Change(*row) for row in rows]
    return changes, changes[-1].id if len(changes) >= limit else newest


def forget_received(execute: Execute, sop_instance_uid: str) -> None:
    """Remove what the end of the feed says of an object that was never acknowledged."""
    execute(
        "DELETE FROM changes WHERE id > (SELECT max(id) FROM changes) - ? AND kind = 'image_received'"
        " AND json_extract(data, '$.sop_instance_uid') = ?",
        (TAIL_ROWS, sop_instance_uid),
    )


def purge_changes(execute: Execute, before: int) -> int:
    """
    Remove the oldest rows.

    Args:
        before: microseconds since 1970; what happened later stays, and the newest row.

    Returns:
        how many were removed; as many as `PURGED_AT_ONCE`: there may be more.
    """
    rows = execute(
        "SELECT id FROM changes WHERE happened_at < ? AND id < (SELECT max(id) FROM changes) ORDER BY id LIMIT ?",
        (before, PURGED_AT_ONCE),
    )
    ids = [int(row[0]) for row in rows]
    if ids:
        execute("DELETE FROM changes WHERE id <= ?", (ids[-1],))
        execute("INSERT OR REPLACE INTO archive_state (name, value) VALUES (?, ?)", (PURGED_TO, str(ids[-1])))
    return len(ids)
