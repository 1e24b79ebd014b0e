"""
The codec of the transformer: a data set as a tree of places in its bytes, and elements written again (PS3.5 section 7).

Values are not read here, and bulk is neither read nor copied: the tree says where everything is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final

from pacs.dataset.scanner import LONG_VRS, SHORT_VRS, UNDEFINED_LENGTH, ScanLimits
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.deidentification.errors import NotDeidentifiable
from pacs.deidentification.tables import dictionary

ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
ENCAPSULATED: Final = 0x7FE00010  # its value may come as fragments

_SHORT: Final = frozenset(SHORT_VRS)
_LONG: Final = frozenset(LONG_VRS)
_NAMES: Final[Mapping[bytes, str]] = {vr: vr.decode() for vr in (*SHORT_VRS, *LONG_VRS)}
_LONGEST_SHORT: Final = 0xFFFE

Buffer = bytes | memoryview


class Encoding:
    """A byte order, and whether VRs are written."""

    def __init__(self, *, is_implicit: bool, is_little_endian: bool) -> None:
        order = "<" if is_little_endian else ">"
        self.is_implicit = is_implicit
        self.is_little_endian = is_little_endian
        self.explicit_header: Final = Struct(order + "HH2sH")
        self.implicit_header: Final = Struct(order + "HHL")
        self.long_header: Final = Struct(order + "HH2sxxL")
        self.length: Final = Struct(order + "L")

    def header(self, tag: int, vr: str, length: int) -> bytes:
        """Give an element's header."""
        if self.is_implicit or tag >> 16 == 0xFFFE:
            return self.implicit_header.pack(tag >> 16, tag & 0xFFFF, length)
        name = vr.encode()
        if name in _SHORT:
            return self.explicit_header.pack(tag >> 16, tag & 0xFFFF, name, length)
        return self.long_header.pack(tag >> 16, tag & 0xFFFF, name, length)

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Give an element; its value is padded to even length."""
        if len(value) % 2:
            value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        if len(value) > _LONGEST_SHORT and vr.encode() in _SHORT:
            vr = "UN"
        return self.header(tag, vr, len(value)) + value


IMPLICIT_LITTLE: Final = Encoding(is_implicit=True, is_little_endian=True)
EXPLICIT_LITTLE: Final = Encoding(is_implicit=False, is_little_endian=True)
EXPLICIT_BIG: Final = Encoding(is_implicit=False, is_little_endian=False)
_IMPLICIT_BIG: Final = Encoding(is_implicit=True, is_little_endian=False)


class SequencePlace:
    """
    Where a sequence is.

    Attributes:
        encoding: of its items.
        items: the elements of each, and whether its length is undefined.
        is_open: its own length is undefined.
    """

    __slots__ = ("encoding", "is_open", "items")

    def __init__(self, encoding: Encoding, items: list[tuple[list[Place], bool]], *, is_open: bool) -> None:
        self.encoding = encoding
        self.items = items
        self.is_open = is_open


class FragmentsPlace:
    """Where the fragments of an encapsulated value are, the offset table first."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self.ranges = ranges


# tag, VR ("" unless known), offsets of the element, of its value, of its end, and what is in it
Place = tuple[int, str, int, int, int, SequencePlace | FragmentsPlace | None]


@dataclass(frozen=True, slots=True)
class ParsedDataSet:
    """
    A data set and where its elements are.

    Attributes:
        buffer: its bytes, inflated.
        is_deflated: it came deflated, and is to be deflated again.
    """

    buffer: Buffer
    encoding: Encoding
    places: list[Place]
    is_deflated: bool


def unreadable(reason: str) -> NotDeidentifiable:
    """Give the error of a data set without structure."""
    return NotDeidentifiable("unreadable", reason)


@lru_cache(maxsize=64)
def _encoding_of(transfer_syntax_uid: str) -> Encoding | None:
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
    if syntax is None:
        return None
    if syntax.is_implicit_vr:
        return IMPLICIT_LITTLE if syntax.is_little_endian else _IMPLICIT_BIG
    return EXPLICIT_LITTLE if syntax.is_little_endian else EXPLICIT_BIG


def parse_data_set(buffer: Buffer, transfer_syntax_uid: str, limits: ScanLimits) -> ParsedDataSet:
    """
    Find every element.

    Raises:
        NotDeidentifiable: it has no structure, or more than the limits allow.
    """
    encoding = _encoding_of(transfer_syntax_uid)
    if encoding is None:
        raise NotDeidentifiable("unreadable", "the transfer syntax is unknown")
    is_deflated = TRANSFER_SYNTAXES[transfer_syntax_uid].is_deflated
    if is_deflated:
        buffer = _inflate(buffer, limits)
    encoding = _as_written(buffer, encoding)
    parser = _Parser(buffer, limits)
    places, _ = parser.elements(0, len(buffer), encoding, 0, is_open=False)
    return ParsedDataSet(buffer, encoding, places, is_deflated)


def _inflate(buffer: Buffer, limits: ScanLimits) -> bytes:
    most = min(limits.inflate_bytes, limits.inflate_ratio * len(buffer) + (1 << 18))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(buffer, most)
    except zlib.error:
        raise unreadable("the deflated data set can't be inflated") from None
    if not inflater.eof:
        raise unreadable("the deflated data set is cut off, or inflates to more than is allowed")
    return inflated


def _as_written(buffer: Buffer, encoding: Encoding) -> Encoding:
    """Look at the first element: some data sets are not encoded as their transfer syntax says."""
    is_explicit = bytes(buffer[4:6]) in _NAMES
    if not encoding.is_implicit and not is_explicit:
        return IMPLICIT_LITTLE if encoding.is_little_endian else _IMPLICIT_BIG
    if encoding.is_implicit and is_explicit:
        return EXPLICIT_LITTLE if encoding.is_little_endian else EXPLICIT_BIG
    return encoding


class _Parser:
    """Walks one buffer."""

    __slots__ = ("_buffer", "_dictionary", "_items", "_limits")

    def __init__(self, buffer: Buffer, limits: ScanLimits) -> None:
        self._buffer = buffer
        self._limits = limits
        self._items = 0
        self._dictionary = dictionary()

    def elements(
        self, position: int, end: int, encoding: Encoding, depth: int, *, is_open: bool
    ) -> tuple[list[Place], int]:
        """Find elements up to `end`, or to the delimiter of an item of undefined length."""
        try:
            if encoding.is_implicit:
                return self._implicit(position, end, encoding, depth, is_open)
            return self._explicit(position, end, encoding, depth, is_open)
        except (StructError, IndexError):
            raise unreadable("the data set is cut off") from None

    def _explicit(
        self, position: int, end: int, encoding: Encoding, depth: int, is_open: bool
    ) -> tuple[list[Place], int]:
        buffer, names, short = self._buffer, _NAMES, _SHORT
        unpack, unpack_length = encoding.explicit_header.unpack_from, encoding.length.unpack_from
        found: list[Place] = []
        add = found.append
        last = end - 8
        while position <= last:
            group, element, name, length = unpack(buffer, position)
            if name in short:
                value_at = position + 8
                value_end = value_at + length
                if value_end > end:
                    raise unreadable("an element reaches beyond its end")
                add((group << 16 | element, names[name], position, value_at, value_end, None))
                position = value_end
                continue
            tag = group << 16 | element
            if group == 0xFFFE:
                if tag == ITEM_END and is_open:
                    return found, position + 8
                raise unreadable("a delimiter outside of its item")
            if name in names:
                (length,) = unpack_length(buffer, position + 8)
                value_at, vr = position + 12, names[name]
            elif name[:1].isupper() and name[1:].isupper():  # a VR of a later edition: 32-bit length (PS3.5 6.2)
                (length,) = unpack_length(buffer, position + 8)
                value_at, vr = position + 12, "UN"
            else:  # an element without a VR
                (length,) = unpack_length(buffer, position + 4)
                value_at, vr = position + 8, self._dictionary.get(tag, "")
            place = self._long(tag, vr, position, value_at, length, end, encoding, depth)
            add(place)
            position = place[4]
        return self._closed(found, position, end, is_open)

    def _implicit(
        self, position: int, end: int, encoding: Encoding, depth: int, is_open: bool
    ) -> tuple[list[Place], int]:
        buffer, vr_of = self._buffer, self._dictionary.get
        unpack = encoding.implicit_header.unpack_from
        found: list[Place] = []
        add = found.append
        last = end - 8
        while position <= last:
            group, element, length = unpack(buffer, position)
            tag = group << 16 | element
            vr = vr_of(tag, "")
            value_at = position + 8
            value_end = value_at + length
            if vr == "SQ" or value_end > end or group == 0xFFFE:
                if tag == ITEM_END and is_open:
                    return found, value_at
                if group == 0xFFFE:
                    raise unreadable("a delimiter outside of its item")
                place = self._long(tag, vr, position, value_at, length, end, encoding, depth)
                add(place)
                position = place[4]
                continue
            add((tag, vr, position, value_at, value_end, None))
            position = value_end
        return self._closed(found, position, end, is_open)

    def _closed(self, found: list[Place], position: int, end: int, is_open: bool) -> tuple[list[Place], int]:
        if is_open:
            raise unreadable("an item is not closed")
        if bytes(self._buffer[position:end]).strip(b"\0"):
            raise unreadable("stray bytes at the end")
        return found, end

    def _long(
        self, tag: int, vr: str, start: int, value_at: int, length: int, end: int, encoding: Encoding, depth: int
    ) -> Place:
        """Place an element that may have others in it."""
        is_open = length == UNDEFINED_LENGTH
        value_end = end if is_open else value_at + length
        if value_end > end:
            raise unreadable("an element reaches beyond its end")
        if tag == ENCAPSULATED and is_open:
            fragments, after = self._fragments(value_at, end, encoding)
            return tag, vr or "OB", start, value_at, after, fragments
        is_unknown = vr in ("UN", "")
        known = self._dictionary.get(tag, "")
        if vr == "SQ" or is_open:
            inner = IMPLICIT_LITTLE if vr == "UN" else encoding  # PS3.5 6.2.2
            sequence, after = self._sequence(value_at, value_end, inner, depth + 1, is_open=is_open)
            return tag, "SQ" if known == "SQ" or not is_unknown else vr, start, value_at, after, sequence
        if vr == "UN" and known == "SQ":
            return tag, "SQ", start, value_at, value_end, self._unknown(value_at, value_end, depth)
        return tag, vr, start, value_at, value_end, None

    def _unknown(self, value_at: int, value_end: int, depth: int) -> SequencePlace:
        """Enter a known sequence that was written as UN: implicit by PS3.5 6.2.2, explicit by some writers."""
        for encoding in (IMPLICIT_LITTLE, EXPLICIT_LITTLE):
            try:
                return self._sequence(value_at, value_end, encoding, depth + 1, is_open=False)[0]
            except NotDeidentifiable:
                continue
        raise unreadable("a sequence of VR UN has no items")

    def _sequence(
        self, position: int, end: int, encoding: Encoding, depth: int, *, is_open: bool
    ) -> tuple[SequencePlace, int]:
        if depth > self._limits.sequence_depth:
            raise unreadable(f"sequences nested deeper than {self._limits.sequence_depth} levels")
        items: list[tuple[list[Place], bool]] = []
        unpack = encoding.implicit_header.unpack_from
        while position < end:
            group, element, length = unpack(self._buffer, position)
            tag = group << 16 | element
            position += 8
            if tag == SEQUENCE_END and is_open:
                return SequencePlace(encoding, items, is_open=True), position
            self._items += 1
            if tag != ITEM or self._items > self._limits.sequence_items:
                raise unreadable("no item where one was expected, or too many")
            is_open_item = length == UNDEFINED_LENGTH
            item_end = end if is_open_item else position + length
            if item_end > end:
                raise unreadable("an item reaches beyond its sequence")
            places, position = self.elements(position, item_end, encoding, depth, is_open=is_open_item)
            items.append((places, is_open_item))
        if is_open:
            raise unreadable("a sequence is not closed")
        return SequencePlace(encoding, items, is_open=False), position

    def _fragments(self, position: int, end: int, encoding: Encoding) -> tuple[FragmentsPlace, int]:
        ranges: list[tuple[int, int]] = []
        unpack = encoding.implicit_header.unpack_from
        while True:
            group, element, length = unpack(self._buffer, position)
            position += 8
            tag = group << 16 | element
            if tag == SEQUENCE_END:
                return FragmentsPlace(ranges), position
            if tag != ITEM or position + length > end:
                raise unreadable("a fragment is cut off")
            ranges.append((position, position + length))
            position += length
