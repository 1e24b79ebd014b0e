"""
What is derived from an object after it was acknowledged: the SHA-256 of its file, and its header for metadata.

One low-priority thread reads the file from the page cache, within seconds; what it finds rides in the commit thread's
batches. A checksum costs as much as the whole rest of the receive path, so it gives way to arriving objects, unless
somebody waits for it.
"""

from __future__ import annotations

import hashlib
import os
import queue
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, NamedTuple

from twisted.logger import Logger

from pacs.archive.objects.files import FileStore
from pacs.dataset.errors import DataSetError
from pacs.dataset.scanner import DataSetScanner, ScanLimits
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES

READ_BYTES: Final = 1 << 18
NICENESS: Final = 19
LARGEST_GROUP: Final = 64
GIVES_WAY_S: Final = 0.2  # after an object arrived
LONGEST_WAIT_S: Final = 3.0  # however busy the server is
HURRIES_FOR_S: Final = 0.5
LARGEST_HEADER_BYTES: Final = 16 << 20
_PAIR: Final = struct.Struct("<QQ")
_COUNT: Final = struct.Struct("<L")


class Outline(NamedTuple):
    """Where the bulk values of a data set are: what its header needs of a `ScannedDataSet`, and hundreds may wait."""

    byte_count: int
    holes: tuple[tuple[int, int], ...] | None


class Derivable(NamedTuple):
    """An object whose derived data are missing."""

    pk: int
    path: str
    data_set_offset: int
    transfer_syntax_uid: str
    outline: Outline | None = None
    """What was seen when it arrived; None at a start, which scans it again."""


class Derived(NamedTuple):
    """What was found; no header for a data set that is deflated or has an enormous one."""

    pk: int
    sha256: str
    header: bytes | None


def _pack_header(descriptor: int, start: int, outline: Outline) -> bytes | None:
    """Give a data set without its bulk values, compressed: the holes, then what is around them."""
    holes = outline.holes
    if holes is None or outline.byte_count - sum(length for _, length in holes) > LARGEST_HEADER_BYTES:
        return None
    parts = [_COUNT.pack(len(holes)), *(_PAIR.pack(*hole) for hole in holes)]
    position = 0
    for offset, length in (*holes, (outline.byte_count, 0)):
        parts.append(os.pread(descriptor, offset - position, start + position))
        position = offset + length
    return zlib.compress(b"".join(parts), 1)


def unpack_header(packed: bytes) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Give the bytes around the holes, and the holes, of a packed header."""
    data = zlib.decompress(packed)
    (count,) = _COUNT.unpack_from(data)
    end = _COUNT.size + count * _PAIR.size
    holes = tuple(_PAIR.unpack_from(data, _COUNT.size + i * _PAIR.size) for i in range(count))
    return data[end:], tuple((int(offset), int(length)) for offset, length in holes)


def derive(store: FileStore, item: Derivable, *, limits: ScanLimits) -> Derived:
    """
    Read one object.

    Raises:
        OSError: it can't be read, or is gone.
    """
    digest = hashlib.sha256()
    header: bytes | None = None
    with os.fdopen(store.open_object(item.path), "rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
        outline = item.outline or _scan(file.fileno(), item, limits)
        if outline is not None and not TRANSFER_SYNTAXES[item.transfer_syntax_uid].is_deflated:
            header = _pack_header(file.fileno(), item.data_set_offset, outline)
    return Derived(item.pk, digest.hexdigest(), header)


def _scan(descriptor: int, item: Derivable, limits: ScanLimits) -> Outline | None:
    """Scan an object again; None for what has no header to keep."""
    try:
        scanner = DataSetScanner(item.transfer_syntax_uid, wanted=frozenset(), limits=limits)
        if scanner.is_costly:
            return None
        position = item.data_set_offset
        while piece := os.pread(descriptor, READ_BYTES, position):
            scanner.feed(piece)
            position += len(piece)
        scanned = scanner.finish()
        return Outline(scanned.byte_count, scanned.holes)
    except DataSetError:
        return None


class DeriveThread:
    """
    Derives in the background.

    Args:
        found: takes a group of results.
        last_arrival_s: when an object was last committed, on the monotonic clock.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        store: FileStore,
        limits: ScanLimits,
        found: Callable[[list[Derived]], None],
        last_arrival_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._limits = limits
        self._found = found
        self._last_arrival_s = last_arrival_s
        self._queue: queue.SimpleQueue[tuple[float, Sequence[Derivable]] | None] = queue.SimpleQueue()
        self._is_stopping = threading.Event()
        self._hurries_until_s = 0.0
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-derive", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the object in hand; the others are taken up at the next start."""
        self._is_stopping.set()
        self._queue.put(None)
        self._thread.join()

    def add(self, items: Sequence[Derivable]) -> None:
        """Derive some objects' data soon; may be called from any thread."""
        self._queue.put((time.monotonic(), items))

    def hurry(self) -> None:
        """Give way to nobody for a moment; for whoever waits, who asks again and again, from any thread."""
        self._hurries_until_s = time.monotonic() + HURRIES_FOR_S

    # -- the thread

    def _run_in_thread(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        except OSError:
            self.log.debug("the derive thread keeps its priority")
        group: list[Derived] = []
        while not self._is_stopping.is_set():
            if group and (len(group) >= LARGEST_GROUP or self._queue.empty() or self._hurries):
                self._found(group)
                group = []
            entry = self._queue.get()
            if entry is None:
                break
            for item in entry[1]:
                self._give_way(entry[0])
                if self._is_stopping.is_set():
                    break
                self._derive(item, group)
        if group:
            self._found(group)

    def _derive(self, item: Derivable, group: list[Derived]) -> None:
        try:
            group.append(derive(self._store, item, limits=self._limits))
        except FileNotFoundError:
            return  # replaced or deleted in the meantime
        except OSError as error:
            self.log.error("an object can't be read: {error}", error=error.strerror or str(error))

    @property
    def _hurries(self) -> bool:
        return time.monotonic() < self._hurries_until_s

    def _give_way(self, added_s: float) -> None:
        """Wait while objects arrive, but not for ever."""
        while not self._is_stopping.is_set() and not self._hurries:
            now_s = time.monotonic()
            if now_s - added_s > LONGEST_WAIT_S or now_s - self._last_arrival_s() > GIVES_WAY_S:
                return
            self._is_stopping.wait(GIVES_WAY_S / 4)
