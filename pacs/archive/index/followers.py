"""
Who follows the change feed by itself, and how far it has come; kept with what it makes of the changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

Execute = Callable[[str, Sequence[Any]], Any]
"""Runs a statement; gives its rows."""

_PREFIX: Final = "follower:"


def positions(execute: Execute) -> dict[str, int]:
    """Give the last id that each follower has seen."""
    rows = execute("SELECT name, value FROM archive_state WHERE name LIKE ?", (f"{_PREFIX}%",))
    return {name.removeprefix(_PREFIX): int(value) for name, value in rows}


def set_position(execute: Execute, follower: str, change_id: int) -> None:
    """Have a follower begin behind an id."""
    execute(
        "INSERT OR REPLACE INTO archive_state (name, value) VALUES (?, ?)", (f"{_PREFIX}{follower}", str(change_id))
    )


def advance(execute: Execute, follower: str, before: int, change_id: int) -> bool:
    """Move a follower on, if it still is where it was; False: another process has moved it."""
    rows = execute(
        "UPDATE archive_state SET value = ? WHERE name = ? AND value = ? RETURNING name",
        (str(change_id), f"{_PREFIX}{follower}", str(before)),
    )
    return bool(list(rows))


def forget_follower(execute: Execute, follower: str) -> None:
    """Remove a follower."""
    execute("DELETE FROM archive_state WHERE name = ?", (f"{_PREFIX}{follower}",))
