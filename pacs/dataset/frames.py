"""
Where the frames of pixel data are: in a run of bits (PS3.5 8.1.1), or in fragments (PS3.5 A.4).

Fragments are told apart by the Extended Offset Table, else by the Basic Offset Table, else there is one a frame, else
each frame begins with a fragment that begins a codestream.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final

from pacs.dataset.errors import DataSetError
from pacs.dataset.facts import (
    BITS_ALLOCATED,
    COLUMNS,
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    NUMBER_OF_FRAMES,
    PHOTOMETRIC_INTERPRETATION,
    ROWS,
    SAMPLES_PER_PIXEL,
    Facts,
)
from pacs.dataset.walk import Token
from pacs.dataset.window import Window

SUBSAMPLED: Final = "YBR_FULL_422"  # native: two samples a pixel instead of three (PS3.3 C.7.6.3.1.2)
_CODESTREAM_BEGINS: Final = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ", b"\xff\x0a")
_LONGEST_BEGINNING: Final = 8
_ITEM: Final = Struct("<HHL")
_ITEM_BYTES: Final = 8
_FRAGMENT: Final = (0xFFFE, 0xE000)


def number_of_frames(facts: Facts) -> int:
    """
    Give how many frames a data set says that it has, 1 where it says nothing.

    Raises:
        DataSetError: it is no number.
    """
    try:
        return max(1, int(facts.texts.get(NUMBER_OF_FRAMES) or 1))
    except ValueError:
        raise DataSetError("Number of Frames (0028,0008) is no number") from None


def frame_bits(facts: Facts) -> int:
    """
    Give the length of a native frame (PS3.3 C.7.6.3, PS3.5 8.1.1).

    Raises:
        DataSetError: the Image Pixel module's attributes are missing.
    """
    numbers = facts.numbers
    if not all(numbers.get(tag) for tag in (ROWS, COLUMNS, BITS_ALLOCATED)):
        raise DataSetError("the length of a frame is unknown without Rows, Columns and Bits Allocated")
    samples = numbers.get(SAMPLES_PER_PIXEL, 1)
    if samples == 3 and facts.texts.get(PHOTOMETRIC_INTERPRETATION) == SUBSAMPLED:
        samples = 2
    return numbers[ROWS] * numbers[COLUMNS] * numbers[BITS_ALLOCATED] * samples


class EncapsulatedFrames:
    """
    The fragments of each frame of encapsulated pixel data; their headers alone are read.

    Args:
        token: of the pixel data.
        facts: of the data set that they stand in.
        count: how many frames there should be.

    Attributes:
        has_extended_offsets: an Extended Offset Table says where they are.

    Raises:
        DataSetError: they can't be told apart.
    """

    def __init__(self, window: Window, token: Token, facts: Facts, count: int) -> None:
        self._window = window
        self._items = array("Q")  # offsets of the fragments' headers
        self._lengths = array("I")  # of their values
        self._frame_lengths: Sequence[int] = ()
        table = self._read_items(token)
        first = self._by_extended_offsets(facts, count)
        self.has_extended_offsets = first is not None
        if first is None:
            first = self._by_offsets(table, count) or self._without_offsets(count)
        self._first = [*first, len(self._items)]

    def fragments(self, number: int) -> Iterator[tuple[int, int]]:
        """Give offset and length of the fragments of a frame, the first frame being 1."""
        for index in range(self._first[number - 1], self._first[number]):
            yield self._items[index] + _ITEM_BYTES, self._lengths[index]

    def length(self, number: int) -> int:
        """Give the length of a frame's codestream: as the Extended Offset Table has it, or with padding."""
        if self._frame_lengths:
            return self._frame_lengths[number - 1]
        return sum(length for _, length in self.fragments(number))

    def _read_items(self, token: Token) -> Sequence[int]:
        """Note where the fragments are; give the Basic Offset Table."""
        read = self._window.read
        position, end = token.value_at, token.value_at + token.length - _ITEM_BYTES  # a delimiter ends them
        table: Sequence[int] = ()
        is_table = True
        while position < end:
            group, element, length = _ITEM.unpack(read(position, _ITEM_BYTES))
            if (group, element) != _FRAGMENT:
                raise DataSetError("no fragment where one was expected")
            if is_table:
                table = _numbers(read(position + _ITEM_BYTES, length), "I")
                is_table = False
            else:
                self._items.append(position)
                self._lengths.append(length)
            position += _ITEM_BYTES + length
        return table

    def _by_extended_offsets(self, facts: Facts, count: int) -> list[int] | None:
        tables = []
        for tag in (EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS):
            place = facts.places.get(tag)
            if place is None or place.length != 8 * count:
                return None
            tables.append(_numbers(self._window.read(place.value_at, place.length), "Q"))
        first = self._by_offsets(tables[0], count)
        if first is not None:
            self._frame_lengths = tables[1]
        return first

    def _by_offsets(self, offsets: Sequence[int], count: int) -> list[int] | None:
        """Give the index of each frame's first fragment; None when the table does not fit."""
        if len(offsets) != count or not self._items:
            return None
        base = self._items[0]
        first: list[int] = []
        for offset in offsets:
            index = bisect_left(self._items, base + offset)
            if index == len(self._items) or self._items[index] != base + offset or (first and index <= first[-1]):
                return None
            first.append(index)
        return first if first[0] == 0 else None

    def _without_offsets(self, count: int) -> list[int]:
        if len(self._items) == count:
            return list(range(count))
        if count == 1 and self._items:
            return [0]
        if len(self._items) < count:
            raise DataSetError(f"{count} frames should be in {len(self._items)} fragments")
        first = [index for index in range(len(self._items)) if self._begins_codestream(index)]
        if len(first) != count or first[0] != 0:
            raise DataSetError(f"{len(self._items)} fragments can't be told apart as {count} frames")
        return first

    def _begins_codestream(self, index: int) -> bool:
        head = self._window.read(self._items[index] + _ITEM_BYTES, min(_LONGEST_BEGINNING, self._lengths[index]))
        return head.startswith(_CODESTREAM_BEGINS)


def _numbers(data: bytes, kind: str) -> Sequence[int]:
    """Give the values of a little-endian table."""
    values = array(kind)
    values.frombytes(data[: len(data) // values.itemsize * values.itemsize])
    return values
