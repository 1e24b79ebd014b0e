"""
API tokens: 256 random bits that are shown once and kept as their SHA-256 (RELIABILITY A4).

A token is `pacs_<id>_<secret>`; the id finds its record, and may be shown. A secret of so many bits needs no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pacs.security.access import Role

_FORM: Final = re.compile(r"pacs_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Token:
    """
    What is kept of a token.

    Attributes:
        sha256: of the token as its holder has it; hexadecimal.
        created_at, expires_at, last_used_at: seconds since 1970, UTC; None: never.
    """

    id: str
    name: str
    role: Role
    sha256: str
    created_at: int
    expires_at: int | None = None
    last_used_at: int | None = None

    def matches(self, secret: str, now_s: float) -> bool:
        """Whether a secret is this token's, and may still be used."""
        return hmac.compare_digest(hash_token(secret), self.sha256) and not self.has_expired(now_s)

    def has_expired(self, now_s: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now_s >= self.expires_at

    def shown(self) -> dict[str, object]:
        """Give what its owner may see; times in ISO 8601."""
        return {
            "id": self.id,
            "name": self.name,
            "role": self.role.value,
            "created_at": _iso(self.created_at),
            "expires_at": _iso(self.expires_at),
            "last_used_at": _iso(self.last_used_at),
        }


def make_token(name: str, role: Role, *, now_s: float, expires_at: int | None = None) -> tuple[Token, str]:
    """
    Make a token.

    Returns:
        its record, and the token itself, which is not kept.
    """
    token_id = secrets.token_hex(6)
    secret = f"pacs_{token_id}_{secrets.token_urlsafe(32)}"
    return Token(token_id, name, role, hash_token(secret), int(now_s), expires_at), secret


def hash_token(secret: str) -> str:
    """Give what is kept of a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


def token_id_of(secret: str) -> str | None:
    """Give the id in a token, or None when it does not look like one."""
    match = _FORM.fullmatch(secret)
    return None if match is None else match[1]


def check_name(name: object) -> str:
    """
    Give a token's name.

    Raises:
        ValueError: it can't be one.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a name has 1 to {LONGEST_NAME} printable characters")
    return name


def parse_expiry(text: object, now_s: float) -> int | None:
    """
    Give seconds since 1970 of an ISO 8601 date or time; without an offset it is UTC.

    Raises:
        ValueError: it is none, or past.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError("is not a time in ISO 8601")
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the year 10000, in UTC
        raise ValueError("is not a time in ISO 8601") from None
    expires_at = int(moment.timestamp())
    if expires_at <= now_s:
        raise ValueError("is past")
    return expires_at


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
