"""
Passwords as the configuration keeps them: argon2id hashes, made and checked.
"""

from __future__ import annotations

from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

MEMORY_KIB: Final = 19456  # OWASP's least for argon2id: 19 MiB, two passes, one lane
PASSES: Final = 2
LANES: Final = 1
LONGEST_PASSWORD_BYTES: Final = 1024

_HASHER: Final = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


def hash_password(password: str) -> str:
    """Give the argon2id hash of a password, with its salt and parameters."""
    return _HASHER.hash(password)


def is_password_hash(text: str) -> bool:
    """Whether a text is an argon2id hash that can be verified."""
    try:
        _HASHER.check_needs_rehash(text)
    except InvalidHashError:
        return False
    return text.startswith("$argon2id$")


def verify_in_thread(password_hash: str, password: bytes) -> bool:
    """Whether a password is the one of a hash; takes tens of milliseconds."""
    if len(password) > LONGEST_PASSWORD_BYTES:
        return False
    try:
        return _HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False
