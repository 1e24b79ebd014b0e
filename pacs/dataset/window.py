"""
A file's bytes by offset, a piece of it in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from pacs.dataset.errors import DataSetError

PIECE_BYTES: Final = 256 * 1024


class Window:
    """
    Part of an open file, read by `os.pread`; offsets count from the part's first byte.

    Args:
        descriptor: stays the caller's.
        offset: of the part, in the file.
        length: of the part.
    """

    __slots__ = ("_descriptor", "_offset", "_start", "_stop", "buffer", "length")

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self.length = length
        self.buffer = b""
        self._start = self._stop = 0  # what of the part the buffer holds

    def locate(self, at: int, count: int) -> int:
        """
        Have bytes in `buffer`; give the position there of the first.

        Raises:
            DataSetError: the part ends before.
        """
        if at < self._start or at + count > self._stop:
            if at + count > self.length:
                raise DataSetError(f"{count} bytes were expected at offset {at}, the data set ends at {self.length}")
            wanted = min(max(count, PIECE_BYTES), self.length - at)
            self.buffer = self._pread(at, wanted)
            self._start, self._stop = at, at + wanted
        return at - self._start

    def read(self, at: int, count: int) -> bytes:
        """Give bytes, all of them; the piece in memory serves short ones."""
        position = self.locate(at, count)
        return self.buffer[position : position + count]

    def pieces(self, at: int, count: int) -> Iterator[bytes]:
        """Give a long run of bytes in pieces of an even, equal length, the last one shorter; none is kept."""
        if at + count > self.length:
            raise DataSetError(f"{count} bytes were expected at offset {at}, the data set ends at {self.length}")
        while count:
            piece = self._pread(at, min(PIECE_BYTES, count))
            yield piece
            at += len(piece)
            count -= len(piece)

    def _pread(self, at: int, count: int) -> bytes:
        data = os.pread(self._descriptor, count, self._offset + at)
        while len(data) < count:
            more = os.pread(self._descriptor, count - len(data), self._offset + at + len(data))
            if not more:
                raise DataSetError(f"the file ends at offset {at + len(data)} of the data set")
            data += more
        return data
