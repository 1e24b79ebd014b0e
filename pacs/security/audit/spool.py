"""
What the collector has not had yet. The log itself is the spool: it is durable, in order, and numbered; a small file
notes the last record that the collector has taken, so a restart goes on where the last run ended.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from pacs.security.audit.files import log_files
from pacs.security.audit.records import BadRecord, Record, read_line

READ_BYTES: Final = 1 << 16
_SEQUENCE: Final = re.compile(rb'\{"sequence":(\d+),')


@dataclass(frozen=True, slots=True)
class Portion:
    """
    Records to send next.

    Attributes:
        skipped: how many before them were given up, because more waited than may.
    """

    records: tuple[Record, ...]
    skipped: int = 0


class Spool:
    """
    Reads the log behind the writer; every function blocks.

    Args:
        sent_path: of the file that notes how far the collector is.
        most_bytes: what may wait.
    """

    def __init__(self, *, log_path: Path, sent_path: Path, most_bytes: int) -> None:
        self._log_path = log_path
        self._sent_path = sent_path
        self._most_bytes = most_bytes
        self._file: FileIO | None = None
        self._rest = b""
        self._position = 0  # the number of the last record that was given
        self.sent = self._read_sent()

    def log_goes_to(self, sequence: int) -> None:
        """Begin with the first record when the log has fewer than were sent: it is a new one."""
        if self.sent > sequence:
            self.sent = 0

    def rewind(self) -> None:
        """Begin again after the last record that the collector has certainly taken."""
        self.close()
        self._position = self.sent

    def confirm(self, sequence: int) -> None:
        """Note that the collector has taken the records up to a number."""
        if sequence > self.sent:
            self.sent = sequence
            new = self._sent_path.with_name(f"{self._sent_path.name}.new")
            new.write_text(f"{sequence}\n")
            new.replace(self._sent_path)

    def read(self) -> Portion:
        """Give what comes next; nothing when the collector has everything."""
        if self._file is None:
            self._open()
        skipped = self._skip() if self._waiting_bytes() > self._most_bytes else 0
        while True:
            records = self._read_some()
            if records or not self._next_file():
                return Portion(tuple(records), skipped)

    def close(self) -> None:
        """Close the file that is read."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._rest = b""

    # -- within

    def _read_sent(self) -> int:
        try:
            return int(self._sent_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _open(self) -> None:
        files = log_files(self._log_path)
        older = [path for path in files if path != self._log_path]
        # the last file that begins at or before the record that is wanted
        begins = [path for path in older if int(path.name.rpartition(".")[2]) <= self._position + 1]
        first = begins[-1] if begins else (files[0] if files else None)
        if first is not None:
            self._file = FileIO(first)
            self._rest = b""

    def _read_some(self) -> list[Record]:
        if self._file is None:
            return []
        data = self._rest + (self._file.read(READ_BYTES) or b"")
        *lines, self._rest = data.split(b"\n")
        records = []
        for line in lines:
            number = _SEQUENCE.match(line)
            if number is None or int(number[1]) <= self._position:
                continue
            try:
                records.append(read_line(None, line))
            except BadRecord:
                continue  # `pacsctl audit verify` is there to find it
        if records:
            self._position = records[-1].position.sequence
        elif len(data) > len(self._rest) or len(data) >= READ_BYTES:
            return self._read_some()
        return records

    def _next_file(self) -> bool:
        """Go on to the file after the one that was read to its end; False when that is the last."""
        if self._file is None:
            return False
        here = os.fstat(self._file.fileno())
        files = log_files(self._log_path)
        places = [(status.st_ino, status.st_dev) for status in map(os.stat, files)]
        try:
            place = places.index((here.st_ino, here.st_dev))
        except ValueError:
            self.close()  # it was removed; look for the place by number
            self._open()
            return False
        if place + 1 >= len(files):
            return False
        if self._file.tell() < here.st_size:
            return True
        self.close()
        self._file = FileIO(files[place + 1])
        return True

    def _waiting_bytes(self) -> int:
        if self._file is None:
            return 0
        here = os.fstat(self._file.fileno())
        waiting = here.st_size - self._file.tell()
        for path in reversed(log_files(self._log_path)):
            status = os.stat(path)
            if (status.st_ino, status.st_dev) == (here.st_ino, here.st_dev):
                break
            waiting += status.st_size
        return waiting

    def _skip(self) -> int:
        """Give up the oldest records, until half of what may wait is left."""
        before = self._position
        while self._waiting_bytes() > self._most_bytes // 2:
            if not self._read_some() and not self._next_file():
                break
        return self._position - before
