"""
Is the audit log whole and unchanged? Every record's seal and link, and the head.

It works beside a running server: the head is read first, and the log may by then be longer, never shorter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacs.security.audit.files import log_files
from pacs.security.audit.head import read_head
from pacs.security.audit.records import NOTHING_BEFORE, BadRecord, Position, Record, read_line

LONGEST_LINE_BYTES: Final = 1 << 20
LOOKS: Final = 20  # at a line whose end is just being written
LOOK_INTERVAL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What is to be said about the log.

    Attributes:
        records: how many are sound.
        fault: what is wrong with the first bad record; "" when all is well.
        bad_sequence, file, line: the number that the first bad record has or should have, and where it stands.
        unfinished_bytes: of a record at the end that was never completed, as a crash leaves it; no fault.
    """

    records: int
    first_sequence: int
    last_sequence: int
    fault: str = ""
    bad_sequence: int = 0
    file: str = ""
    line: int = 0
    unfinished_bytes: int = 0

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.fault


@dataclass(slots=True)
class _Place:
    """Where the reading is."""

    file: Path
    line: int = 0
    rest: bytes = b""  # of the last line, when it has no end


def verify(log_path: Path, *, key: bytes, head_path: Path, first_sequence: int = 1, is_live: bool = False) -> Verdict:
    """
    Check all records; blocks.

    Args:
        first_sequence: of the oldest record that should be here; more than 1 when older files were archived elsewhere.
        is_live: a server may be writing; a line whose end is missing is looked at again for a second.

    Raises:
        OSError: a file can't be read.
    """
    head_fault, head = "", None
    try:
        head = read_head(key, head_path)
    except BadRecord as error:
        head_fault = str(error)
    place = _Place(log_path)
    end, count, first = Position(first_sequence - 1, NOTHING_BEFORE), 0, 0

    def found(fault: str, sequence: int) -> Verdict:
        return Verdict(count, first, end.sequence, fault, sequence, str(place.file), place.line)

    for line in _lines(log_path, place, LOOKS if is_live else 0):
        expected = end.sequence + 1
        try:
            record = read_line(key, line)
        except BadRecord as error:
            return found(str(error), expected)
        fault = _link_fault(record, end, is_first=count == 0 and first_sequence > 1)
        if fault:
            return found(fault, expected)
        if head is not None and record.position.sequence == head.sequence and record.position != head:
            return found("it is not the one that the head names", expected)
        end = record.position
        first = first or end.sequence
        count += 1
    if head_fault or (head is None and end.sequence >= first_sequence):
        return found(head_fault or "the head file is missing", end.sequence + 1)
    if head is not None and head.sequence > end.sequence:
        return found(f"records {end.sequence + 1} to {head.sequence} are missing at the end", end.sequence + 1)
    return Verdict(count, first, end.sequence, unfinished_bytes=len(place.rest))


def _link_fault(record: Record, end: Position, *, is_first: bool) -> str:
    sequence, expected = record.position.sequence, end.sequence + 1
    if sequence > expected:
        return f"records {expected} to {sequence - 1} are missing before it"
    if sequence < expected:
        return f"record {sequence} stands where {expected} should be"
    if record.previous != end.sha256 and not is_first:
        return "it does not follow the record before it"
    return ""


def _lines(log_path: Path, place: _Place, most_looks: int) -> Iterator[bytes]:
    """Give the whole lines of all files in order; what has no end is left in `place`."""
    for path in log_files(log_path):
        place.file, place.line, place.rest = path, 0, b""
        with path.open("rb") as file:
            looks = 0
            while True:
                piece = file.readline(LONGEST_LINE_BYTES)
                if piece.endswith(b"\n"):
                    place.line += 1
                    yield place.rest + piece[:-1]
                    place.rest, looks = b"", 0
                    continue
                place.rest += piece
                if not place.rest or looks >= most_looks or len(place.rest) > LONGEST_LINE_BYTES:
                    break
                looks += 1
                time.sleep(LOOK_INTERVAL_S)
        if place.rest and path != log_path:
            place.line += 1
            yield place.rest  # an older file ends with a whole line
