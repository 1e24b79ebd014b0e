"""
Reading the audit log: records by time, user and event, newest first. Whoever reads it is recorded too; that is the
caller's duty (`AuditLog.audit_log_used`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacs.security.audit.files import log_files
from pacs.security.audit.records import BadRecord, Record, read_line

BLOCK_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Filter:
    """
    Which records are wanted; what is empty matches all.

    Attributes:
        begin, end: ISO 8601, UTC, as records have it; both inclusive. A prefix, such as a date, will do.
        user: an identifier, AE title or address of who took part.
        event: a code of PS3.15 A.5.3, such as 110112.
    """

    begin: str = ""
    end: str = ""
    user: str = ""
    event: str = ""

    def matches(self, record: Record) -> bool:
        """Whether a record is wanted."""
        return (
            record.time >= self.begin
            and (not self.end or record.time[: len(self.end)] <= self.end)
            and (not self.user or self.user in record.users)
            and (not self.event or record.event == self.event)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """
    A page of records.

    Attributes:
        total: how many match.
    """

    records: tuple[Record, ...]
    total: int


def read_records(log_path: Path, wanted: Filter, *, limit: int = 100, offset: int = 0) -> Found:
    """
    Give a page of the records that match, newest first; blocks.

    A line that is no record is left out; `verify` is there to find it.

    Raises:
        OSError: a file can't be read.
    """
    page: list[Record] = []
    total = 0
    for path in reversed(log_files(log_path)):
        for line in _lines_backwards(path):
            try:
                record = read_line(None, line)
            except BadRecord:
                continue
            if wanted.matches(record):
                if offset <= total < offset + limit:
                    page.append(record)
                total += 1
    return Found(tuple(page), total)


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Give the whole lines of a file, last first."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        rest = b""
        is_tail = True
        while position > 0:
            size = min(BLOCK_BYTES, position)
            position -= size
            file.seek(position)
            first, *lines = (file.read(size) + rest).split(b"\n")
            if is_tail and lines:
                lines.pop()  # what stands behind the last line's end: nothing, or a line that is being written
                is_tail = False
            yield from reversed(lines)
            rest = first
        if not is_tail:
            yield rest
