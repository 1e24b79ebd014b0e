"""
One record of the audit log: a line of JSON that is chained to the line before it and sealed with a key.

`previous` is the SHA-256 of the whole line before; `mac` is an HMAC-SHA256 over everything in front of it. Whoever
changes, removes, swaps or inserts a line without the key is found; who cuts lines off at the end is found by the head,
which is noted in a file of its own and in each syslog message.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, Final

from pacs.security.audit.messages import END, REMEMBERED_PARTS, ActiveParticipant, AuditMessage

KEY_BYTES: Final = 32
SHORTEST_KEY_BYTES: Final = 16
NOTHING_BEFORE: Final = "0" * 64
_MAC_BEGIN: Final = b',"mac":"'
_MAC_END: Final = b'"}'
_HEX: Final = 64


class AuditKeyError(Exception):
    """The key of the audit log can't be used."""


class BadRecord(Exception):
    """A line is not what was written; the reason is its text."""


def load_key(path: Path, *, may_make: bool) -> bytes:
    """
    Read the key; make one when there is none yet.

    Args:
        may_make: False when there are records already, which need the key that they were written with.

    Raises:
        AuditKeyError: it is missing, too short, or others may read it.
        OSError: it can't be read or made.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read().strip()
    except FileNotFoundError:
        if not may_make:
            raise AuditKeyError(
                f"{path} is missing, but the audit log has records that need it; restore it, or move the log away"
            ) from None
        return _make_key(path)
    if mode & 0o077:
        raise AuditKeyError(f"{path} can be read by others; chmod 600")
    if len(key) < SHORTEST_KEY_BYTES:
        raise AuditKeyError(f"{path} is too short: {SHORTEST_KEY_BYTES} bytes at least")
    return key


def _make_key(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_hex(KEY_BYTES).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, key + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)
    return key


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Position:
    """
    The end of the chain after some record.

    Attributes:
        sequence: of that record; 0 before the first.
        sha256: of its line, in hex.
    """

    sequence: int = 0
    sha256: str = NOTHING_BEFORE


@dataclass(frozen=True, slots=True)
class Record:
    """
    A record as it was read.

    Attributes:
        event: the code of its EventID.
        users: identifiers and AE titles of who took part.
        message: the audit message, XML.
    """

    position: Position
    previous: str
    time: str
    event: str
    outcome: str
    users: tuple[str, ...]
    message: str


def seal(key: bytes, before: Position, message: AuditMessage, source_id: str) -> tuple[bytes, Position]:
    """Give the line of a message, and the end of the chain after it."""
    time = message.time
    before_time, behind_time = message.around_time(source_id)
    content = (  # as json.dumps would give it, in a fifth of the time
        f'{{"sequence":{before.sequence + 1},"previous":"{before.sha256}","time":"{time}"'
        f',"event":"{message.event.value}","outcome":"{message.outcome.value}"'
        f',"users":[{_users(message.participants)}],"message":"{_escaped(before_time)}{time}{_escaped(behind_time)}'
        f'{quoted(message.objects_xml())[1:-1]}{END}"'
    ).encode()
    line = content + _MAC_BEGIN + _mac(key, content) + _MAC_END
    return line, Position(before.sequence + 1, hashlib.sha256(line).hexdigest())


@lru_cache(maxsize=4)
def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod="sha256")


def _mac(key: bytes, content: bytes) -> bytes:
    """Give the HMAC in hex. `hmac.digest` would let another thread run each time, which takes longer than the HMAC."""
    mac = _keyed(key).copy()
    mac.update(content)
    return mac.hexdigest().encode()


@lru_cache(maxsize=REMEMBERED_PARTS)
def _escaped(text: str) -> str:
    """Give the inside of a JSON string."""
    return quoted(text)[1:-1]


@lru_cache(maxsize=REMEMBERED_PARTS)
def _users(participants: tuple[ActiveParticipant, ...]) -> str:
    """Give the identifiers and AE titles of who took part as elements of a JSON array."""
    names = dict.fromkeys(name for p in participants for name in (*p.ae_titles, p.user_id, p.address) if name)
    return ",".join(map(quoted, names))


def read_line(key: bytes | None, line: bytes) -> Record:
    """
    Check a line's seal and read it.

    Args:
        key: None to read without checking.

    Raises:
        BadRecord: it is not what was written.
    """
    end = len(line) - _HEX - len(_MAC_BEGIN) - len(_MAC_END)
    content, mac = line[:end] if end > 0 else b"", line[-_HEX - len(_MAC_END) : -len(_MAC_END)]
    if end <= 0 or line[end : end + len(_MAC_BEGIN)] != _MAC_BEGIN or not line.endswith(_MAC_END):
        raise BadRecord("it is no record")
    if key is not None and not hmac.compare_digest(hmac.digest(key, content, "sha256").hex().encode(), mac):
        raise BadRecord("its seal is wrong: it was changed, or written without the key")
    try:
        values: dict[str, Any] = json.loads(content + b"}")
        return Record(
            position=Position(values["sequence"], hashlib.sha256(line).hexdigest()),
            previous=values["previous"],
            time=values["time"],
            event=values["event"],
            outcome=values["outcome"],
            users=tuple(values["users"]),
            message=values["message"],
        )
    except (ValueError, KeyError, TypeError):
        raise BadRecord("it is no record") from None
