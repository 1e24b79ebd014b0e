"""
The head: how far the chain goes, noted apart from the log, so that cutting the log's end off is seen.

It is written after the records that it names are durable; after a crash the log may be longer than the head says, never
shorter.
"""

from __future__ import annotations

import hmac
import json
import os
from pathlib import Path
from typing import Final

from pacs.security.audit.records import BadRecord, Position

HEAD_BYTES: Final = 512  # always the same, in one write within a page: it is never seen half
_PURPOSE: Final = b"head:"


def encode_head(key: bytes, position: Position) -> bytes:
    """Give the content of the head file."""
    content = f"{position.sequence}:{position.sha256}"
    mac = hmac.digest(key, _PURPOSE + content.encode(), "sha256").hex()
    text = json.dumps({"sequence": position.sequence, "sha256": position.sha256, "mac": mac})
    return text.encode().ljust(HEAD_BYTES - 1) + b"\n"


def read_head(key: bytes, path: Path) -> Position | None:
    """
    Read the head; None when there is no file.

    Raises:
        BadRecord: it is not what was written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        values = json.loads(data)
        position = Position(int(values["sequence"]), str(values["sha256"]))
    except (ValueError, KeyError, TypeError):
        raise BadRecord("the head file is not readable") from None
    if encode_head(key, position) != data:
        raise BadRecord("the head file was changed, or written without the key")
    return position


class HeadFile:
    """The head file, open for writing."""

    def __init__(self, path: Path, key: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = key
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, position: Position, *, is_urgent: bool) -> None:
        """Note the head; durable at once when it is urgent."""
        os.pwrite(self._descriptor, encode_head(self._key, position), 0)
        if is_urgent:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Make it durable and close it."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
