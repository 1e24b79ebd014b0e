"""
Key derivation: HKDF-SHA-256 (RFC 5869) for keys of 256 bits, and keyed hashes.
"""

from __future__ import annotations

import hmac
from typing import Final

KEY_BYTES: Final = 32
_SALT: Final = bytes(KEY_BYTES)


def derive_key(secret: bytes, label: bytes) -> bytes:
    """Give the key of a label: HKDF without salt, one block long."""
    extracted = hmac.digest(_SALT, secret, "sha256")
    return hmac.digest(extracted, label + b"\1", "sha256")


def keyed_hash(key: bytes, data: bytes) -> bytes:
    """Give HMAC-SHA-256."""
    return hmac.digest(key, data, "sha256")
