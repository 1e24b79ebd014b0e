"""
The journal: short objects a second time, in one preallocated file, so that one `fdatasync` makes a whole batch durable.

A barrier for new files writes their data, their inodes, their directories and the file system's own log, one after the
other. A record of the journal holds the same facts, the bytes of each object, its name and when it was received, in
one sequential write over blocks that exist already: a third of the time for one object, a tenth for sixteen. The files
are there too, written and named as ever; the journal is read again only after a crash, to restore what they lack.

The file has two halves. When one is full the other is used, and a barrier in a thread of its own makes the files of the
first one durable, so that it can be used again. The functions block; one thread writes.

A sync that fails is told once, and the next one may succeed although what it lost stays lost. So after any failure the
journal is distrusted: it keeps its records, and takes no others, until its objects have been written again and synced.
"""

from __future__ import annotations

import errno
import os
import queue
import secrets
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import ClassVar, Final

from twisted.logger import Logger

HALF_BYTES: Final = 8 << 20  # also what a start after a crash reads again, twice
RECORD_BYTES: Final = 2 << 20  # a larger batch is made durable by a barrier
FILL_BYTES: Final = 1 << 20
BLOCK_BYTES: Final = 4096  # records begin at blocks: a torn write harms one record
MAGIC: Final = b"PACSJRN2"

_FACTS: Final = Struct("<8s8sQLL")  # magic, epoch, number, payload bytes, entries
_CHECKSUM: Final = Struct("<L")  # CRC-32 of the payload, then of the facts
_RECORD: Final = Struct("<8s8sQLLL")
_ENTRY: Final = Struct("<QLH")  # received at, file bytes, path bytes

Pieces = Sequence[bytes | memoryview]

Recordable = tuple[str, int, int, Pieces]
"""Of an object: path, time of receipt, bytes, and pieces of its file."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """
    An object of the journal.

    Attributes:
        path: of its file, below the archive's root.
        received_at: microseconds since 1970, UTC.
        data: the whole file.
    """

    path: str
    received_at: int
    data: bytes


class Journal:
    """
    The journal of one archive.

    Args:
        barrier: makes every file durable that was written before it was called.

    Attributes:
        is_ready: its blocks exist, records can be written; before, batches need a barrier.
        is_trusted: no sync has failed since its objects were last known to be safe.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, path: Path, *, barrier: Callable[[], None]) -> None:
        self._path = path
        self._barrier = barrier
        self._descriptor = -1
        self._epoch = secrets.token_bytes(8)
        self._number = 0
        self._half = 0
        self._position = 0
        self._last_position = 0
        self._written = 0
        self._lock = threading.Lock()  # over what says which half may be written
        self._is_free = [True, True]
        self._generation = 0
        self._full_halves: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-journal", daemon=True)
        self._is_closing = False
        self.is_ready = False
        self.is_trusted = True

    # -- life

    def open(self) -> list[JournalEntry]:
        """
        Open the file; give the objects of an earlier run, in the order in which they were stored.

        Raises:
            OSError: it can't be read.
        """
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return self._entries_up_to(HALF_BYTES, HALF_BYTES)

    def entries(self) -> list[JournalEntry]:
        """
        Give the objects that were made durable and may be in need of it, in the order in which they were stored.

        Raises:
            OSError: it can't be read.
        """
        ends = [HALF_BYTES, HALF_BYTES]
        ends[self._half] = self._position
        return self._entries_up_to(*ends)

    def _entries_up_to(self, *ends: int) -> list[JournalEntry]:
        """Give the objects of both halves, each up to an end of its own."""
        records: list[tuple[int, list[JournalEntry]]] = []
        for half, end in enumerate(ends):
            records += self._records(half * HALF_BYTES, half * HALF_BYTES + end)
        records.sort(key=lambda record: record[0])
        return [entry for _, entries in records for entry in entries]

    def start(self) -> None:
        """Make the file's blocks exist, in the background, then take records."""
        self._thread.start()

    def close(self) -> None:
        """End; what it holds is left as it is."""
        self._is_closing = True
        self.is_ready = False
        self._full_halves.put(None)
        if self._thread.is_alive():
            self._thread.join()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # -- records

    def append(self, entries: Sequence[Recordable]) -> bool:
        """
        Make objects durable.

        Returns:
            False when there is no room now: a barrier must do it.

        Raises:
            OSError: they may not be durable.
        """
        if not self.write(entries):
            return False
        try:
            self.sync()
        except OSError:
            self.abandon()
            raise
        self.advance()
        return True

    def write(self, entries: Sequence[Recordable]) -> bool:
        """
        Write a record. `sync` makes it durable, from any thread; then `advance` is to follow, or `abandon` instead.

        Returns:
            False when there is no room now.

        Raises:
            OSError: it is not written.
        """
        if not (self.is_ready and self.is_trusted):
            return False
        parts: list[bytes | memoryview] = []
        length = checksum = 0
        for path, received_at, size, pieces in entries:
            name = path.encode("utf-8", "surrogateescape")
            parts.append(_ENTRY.pack(received_at, size, len(name)) + name)
            parts += pieces
            length += _ENTRY.size + len(name) + size
        if length > RECORD_BYTES or not self._make_room(_RECORD.size + length):
            return False
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        facts = _FACTS.pack(MAGIC, self._epoch, self._number + 1, length, len(entries))
        head = facts + _CHECKSUM.pack(zlib.crc32(facts, checksum))
        self._written = _blocks(_RECORD.size + length)
        try:
            self._write([head, *parts], self._half * HALF_BYTES + self._position)
        except OSError:
            self.abandon()
            raise
        return True

    def sync(self) -> None:
        """
        Make the written record durable.

        Raises:
            OSError: it may not be.
        """
        os.fdatasync(self._descriptor)

    def advance(self) -> None:
        """The written record is durable: the next one comes behind it."""
        self._number += 1
        self._last_position = self._position
        self._position += self._written

    def take_back(self) -> None:
        """Forget the last record: what it made durable was not committed after all."""
        self._number -= 1
        self._position = self._last_position
        self.abandon()

    def abandon(self) -> None:
        """Have nobody read the record that begins where the next one will; a crash may bring it back all the same."""
        with suppress(OSError):
            os.pwrite(self._descriptor, bytes(_RECORD.size), self._half * HALF_BYTES + self._position)

    def covered(self) -> None:
        """A barrier has made every file durable: begin again, unless an earlier one has failed."""
        if not self.is_trusted:
            return
        with self._lock:
            self._generation += 1
            self._is_free = [True, True]
            self._half = self._position = 0

    def clear(self) -> None:
        """
        Forget every record, durably; the caller has made a barrier.

        Whoever removes or replaces an object does this first, or a crash would bring it back.

        Raises:
            OSError: they may come back; or a sync has failed, and they are all that is safe of their objects.
        """
        if not self.is_trusted:
            raise OSError(errno.EIO, "a sync has failed, the journal keeps what it holds")
        try:
            for start in (0, HALF_BYTES):
                os.pwrite(self._descriptor, bytes(_RECORD.size), start)
            os.fdatasync(self._descriptor)
        except OSError:
            self.distrust()  # nobody would find a record behind the first one, which may be gone
            raise
        self._epoch = secrets.token_bytes(8)
        self.covered()

    def distrust(self) -> None:
        """A sync has failed: keep every record."""
        self.is_trusted = False

    def trust_again(self) -> None:
        """Every object that it holds was written again and synced."""
        self.is_trusted = True
        self.covered()

    # -- within

    def _make_room(self, needed: int) -> bool:
        if self._position + needed <= HALF_BYTES:
            return True
        with self._lock:
            other = 1 - self._half
            if not self._is_free[other]:
                return False
            self._is_free[self._half] = False
            self._full_halves.put((self._half, self._generation))
            self._half, self._position = other, 0
        return True

    def _write(self, parts: list[bytes | memoryview], offset: int) -> None:
        for start in range(0, len(parts), 1000):  # IOV_MAX is 1024
            group = parts[start : start + 1000]
            wanted = sum(map(len, group))
            written = os.pwritev(self._descriptor, group, offset)
            if written < wanted:
                rest = memoryview(b"".join(group))[written:]
                while rest:
                    written = os.pwrite(self._descriptor, rest, offset + wanted - len(rest))
                    rest = rest[written:]
            offset += wanted

    def _records(self, start: int, end: int) -> Iterator[tuple[int, list[JournalEntry]]]:
        """Give the records of a half up to an end, one after the other while they belong together and are whole."""
        position, epoch, number = start, b"", 0
        while position + _RECORD.size <= end:
            head = os.pread(self._descriptor, _RECORD.size, position)
            if len(head) < _RECORD.size:
                return
            facts = head[: _FACTS.size]
            magic, found_epoch, found_number, length, count = _FACTS.unpack(facts)
            (checksum,) = _CHECKSUM.unpack_from(head, _FACTS.size)
            follows = not epoch or (found_epoch, found_number) == (epoch, number + 1)
            if magic != MAGIC or length > RECORD_BYTES or not follows:
                return
            payload = os.pread(self._descriptor, length, position + _RECORD.size)
            if len(payload) < length or zlib.crc32(facts, zlib.crc32(payload)) != checksum:
                return
            epoch, number = found_epoch, found_number
            yield number, list(_entries(payload, count))
            position += _blocks(_RECORD.size + length)

    # -- the thread

    def _run_in_thread(self) -> None:
        try:
            self._fill()
        except OSError as error:
            self.log.warn("the journal can't be made, each batch needs a barrier: {error}", error=str(error))
            return
        self.is_ready = not self._is_closing
        while (full := self._full_halves.get()) is not None:
            try:
                self._barrier()
            except OSError as error:
                self.distrust()
                self.log.error("a barrier failed, the journal keeps what it holds: {error}", error=str(error))
                continue
            half, generation = full
            with self._lock:
                if generation == self._generation:
                    self._is_free[half] = True

    def _fill(self) -> None:
        """Write zeros where the file has no blocks yet: later writes then change no metadata."""
        size = os.fstat(self._descriptor).st_size
        while size < 2 * HALF_BYTES and not self._is_closing:
            size += os.pwrite(self._descriptor, bytes(min(FILL_BYTES, 2 * HALF_BYTES - size)), size)
        os.fsync(self._descriptor)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _blocks(length: int) -> int:
    return (length + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES


def _entries(payload: bytes, count: int) -> Iterator[JournalEntry]:
    position = 0
    for _ in range(count):
        received_at, size, name_length = _ENTRY.unpack_from(payload, position)
        position += _ENTRY.size
        name = payload[position : position + name_length].decode("utf-8", "surrogateescape")
        position += name_length
        yield JournalEntry(name, received_at, payload[position : position + size])
        position += size
