"""
API tokens in the index: they are written by the commit thread, or by `pacsctl` when no server runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from pacs.security.access import Role
from pacs.security.tokens import Token

Execute = Callable[[str, Sequence[Any]], Any]
"""Runs a statement; gives its rows."""

_COLUMNS: Final = "id, name, role, sha256, created_at, expires_at, last_used_at"


def all_tokens(execute: Execute) -> list[Token]:
    """Give all tokens, oldest first."""
    rows = execute(f"SELECT {_COLUMNS} FROM tokens ORDER BY created_at, id", ())
    return [Token(row[0], row[1], Role(row[2]), *row[3:]) for row in rows]


def insert_token(execute: Execute, token: Token) -> None:
    """Keep a token."""
    execute(
        f"INSERT INTO tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            token.id,
            token.name,
            token.role.value,
            token.sha256,
            token.created_at,
            token.expires_at,
            token.last_used_at,
        ),
    )


def delete_token(execute: Execute, token_id: str) -> bool:
    """Remove a token; give whether there was one."""
    found = list(execute("SELECT 1 FROM tokens WHERE id = ?", (token_id,)))
    execute("DELETE FROM tokens WHERE id = ?", (token_id,))
    return bool(found)


def note_use(execute: Execute, token_id: str, used_at: int) -> None:
    """Note when a token was used last."""
    execute("UPDATE tokens SET last_used_at = ? WHERE id = ?", (used_at, token_id))
