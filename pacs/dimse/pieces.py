"""
A data set that is sent piece by piece out of memory that is used again: room for the bytes of a file with the heads of
P-DATA-TF PDUs already between them (PS3.8 9.3.5), so that one scattered read and one write send many PDUs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pacs.dimse.fragments import PDV_HEADER, PDV_LAST, fragment_bytes

PDUS_AT_MOST: Final = 1000  # places of one scattered read; IOV_MAX is 1024


class PieceBuffer:
    """
    Room for one piece of a data set.

    Args:
        max_pdu_length: the peer's; 0 is unlimited.
        piece_bytes: how much is wanted; it becomes a whole number of PDUs, one at least.

    Attributes:
        capacity: of bytes of the data set.
    """

    def __init__(self, *, max_pdu_length: int, piece_bytes: int) -> None:
        self._size = size = fragment_bytes(max_pdu_length)
        count = min(max(1, piece_bytes // size), PDUS_AT_MOST)
        self.capacity = count * size
        step = size + PDV_HEADER.size
        self._step = step
        self._memory = bytearray(count * step)
        self._view = memoryview(self._memory)
        self._places = [self._view[i * step + PDV_HEADER.size : (i + 1) * step] for i in range(count)]
        self._context_id = -1
        self._changed: int | None = None

    def places(self, length: int) -> list[memoryview]:
        """Give where `length` bytes of the data set are to be written, in order; at most `capacity`."""
        whole, rest = divmod(length, self._size)
        places = self._places[:whole]
        if rest:
            places.append(self._places[whole][:rest])
        return places

    def pad(self, length: int) -> int:
        """Put a null behind the first `length` bytes if that is an odd number; give the even one."""
        if length % 2:
            index, offset = divmod(length, self._size)
            self._places[index][offset] = 0
        return length + length % 2

    def pdus(self, context_id: int, length: int, *, is_last: bool) -> memoryview:
        """
        Give the PDUs with the first `length` bytes; the memory is the buffer's own.

        Args:
            is_last: they end the data set. A piece that does not fills the buffer.
        """
        self._write_heads(context_id)
        if not is_last:
            return self._view[: length // self._size * self._step]
        index = max(0, (length - 1) // self._size)
        rest = length - index * self._size
        PDV_HEADER.pack_into(self._memory, index * self._step, 4, rest + 6, rest + 2, context_id, PDV_LAST)
        self._changed = index
        return self._view[: index * self._step + PDV_HEADER.size + rest]

    def _write_heads(self, context_id: int) -> None:
        """Write the heads of PDUs that are full and not the last, where they are not there from the last time."""
        if context_id == self._context_id:
            changed: Iterable[int] = () if self._changed is None else (self._changed,)
        else:
            changed = range(len(self._places))
            self._context_id = context_id
        self._changed = None
        for index in changed:
            PDV_HEADER.pack_into(self._memory, index * self._step, 4, self._size + 6, self._size + 2, context_id, 0)
