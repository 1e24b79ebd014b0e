"""
A walk over a data set while it passes (PS3.5 section 7): its structure is checked to the end, the values of a few
wanted attributes are kept, everything else is counted, neither read nor held.

It reads what real devices send: VRs that are wrong or unknown, an implicit data set in an explicit transfer syntax,
odd lengths. It refuses what has no structure: an element that reaches beyond its item, a sequence that never closes.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from pacs.dataset.errors import DataSetError
from pacs.dataset.runs import LONGEST_RUN, SHORTEST_RUN, Runs
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
WANTED_VALUE_BYTES: Final = 64 * 1024  # a longer value of a wanted attribute is not indexed
HOLE_BYTES: Final = 4096  # a longer value of a VR with a 32-bit length is bulk: not part of the header
LEARNED_FROM_BYTES: Final = 64 * 1024  # what stands further behind is no header that comes again
HOLES: Final = 100_000  # with more the header is not kept: they are fragments of an enormous multi-frame image
INFLATED_PIECE_BYTES: Final = 256 * 1024

SHORT_VRS: Final = (
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
)  # fmt: skip
LONG_VRS: Final = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")

_NO_END: Final = 1 << 62
_NOTHING: Final[Mapping[int, int]] = {}
_ELEMENTS, _ITEMS, _FRAGMENTS = range(3)  # what a frame of the walk consists of


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """
    How much structure is followed.

    Attributes:
        sequence_depth: nested sequences.
        sequence_items: items of all sequences together.
        inflate_ratio: of a deflated data set, inflated against received.
        inflate_bytes: of a deflated data set, inflated.
    """

    sequence_depth: int = 64
    sequence_items: int = 1_000_000
    inflate_ratio: int = 100
    inflate_bytes: int = 4 << 30


DEFAULT_LIMITS: Final = ScanLimits()


@dataclass(frozen=True, slots=True)
class ScannedDataSet:
    """
    What was seen.

    Attributes:
        values: raw values of the wanted attributes of the main data set, by tag.
        is_little_endian: the byte order of binary values.
        byte_count: length of the data set, inflated if it was deflated.
        holes: offset and length of each value that is too long for the header; None when there are too many.
    """

    values: Mapping[int, bytes]
    is_little_endian: bool
    byte_count: int
    holes: tuple[tuple[int, int], ...] | None


class _Encoding(NamedTuple):
    """The numbers of one byte order; tags and VRs are compared as they stand in the bytes."""

    explicit: Struct  # tag, VR, 16-bit length
    implicit: Struct  # tag, 32-bit length
    length: Struct
    short_vrs: frozenset[int]
    long_vrs: frozenset[int]
    sequence_vr: int
    unknown_vr: int
    item: int
    item_end: int
    sequence_end: int
    pixel_data: int


def _encoding(order: str) -> _Encoding:
    vr = Struct(order + "H")
    tag = Struct(order + "L")
    halves = Struct(order + "HH")

    def vr_number(name: bytes) -> int:
        number: int = vr.unpack(name)[0]
        return number

    def tag_number(value: int) -> int:
        number: int = tag.unpack(halves.pack(value >> 16, value & 0xFFFF))[0]
        return number

    return _Encoding(
        explicit=Struct(order + "LHH"),
        implicit=Struct(order + "LL"),
        length=tag,
        short_vrs=frozenset(map(vr_number, SHORT_VRS)),
        long_vrs=frozenset(map(vr_number, LONG_VRS)),
        sequence_vr=vr_number(b"SQ"),
        unknown_vr=vr_number(b"UN"),
        item=tag_number(0xFFFEE000),
        item_end=tag_number(0xFFFEE00D),
        sequence_end=tag_number(0xFFFEE0DD),
        pixel_data=tag_number(0x7FE00010),
    )


_LITTLE: Final = _encoding("<")
_BIG: Final = _encoding(">")


@lru_cache(maxsize=16)
def _raw_tags(tags: frozenset[int], is_little_endian: bool) -> Mapping[int, int]:
    """Give tags by the number that their four bytes make in a byte order."""
    return {(tag & 0xFFFF) << 16 | tag >> 16 if is_little_endian else tag: tag for tag in tags}


@lru_cache(maxsize=32)
def _runs(tags: frozenset[int], is_little_endian: bool) -> Runs:
    """Give the runs of data sets of which some tags are wanted."""
    return Runs((_LITTLE if is_little_endian else _BIG).explicit, _raw_tags(tags, is_little_endian))


def _is_vr_text(first: int, second: int) -> bool:
    return 0x41 <= first <= 0x5A and 0x41 <= second <= 0x5A


class _Walker:
    """The walk itself, over bytes that are not deflated."""

    __slots__ = (
        "_carry", "_encoding", "_frames", "_is_begun", "_is_implicit", "_items", "_limits", "_offset", "_runs",
        "_runs_of_items", "_skip", "_wanted", "holes", "values",
    )  # fmt: skip

    def __init__(
        self,
        *,
        is_implicit: bool,
        is_little_endian: bool,
        wanted: frozenset[int],
        limits: ScanLimits,
    ) -> None:
        self._encoding = _LITTLE if is_little_endian else _BIG
        self._is_implicit = is_implicit
        self._is_begun = False
        self._wanted = _raw_tags(wanted, is_little_endian)
        self._runs = _runs(wanted, is_little_endian)
        self._runs_of_items = _runs(frozenset(), is_little_endian)
        self._limits = limits
        self._offset = 0  # of the first byte that is to come
        self._skip = 0
        self._carry = b""
        self._items = 0
        # what the walk is in: kind, offset of its end, whether implicit; the main data set first
        self._frames: list[tuple[int, int, bool]] = [(_ELEMENTS, _NO_END, is_implicit)]
        self.values: dict[int, bytes] = {}
        self.holes: list[tuple[int, int]] = []

    @property
    def byte_count(self) -> int:
        return self._offset

    def feed(self, data: bytes | memoryview) -> None:
        if self._skip >= len(data):
            self._skip -= len(data)
            self._offset += len(data)
            return
        start = self._skip
        self._skip = 0
        buffer: bytes | memoryview = data
        base = self._offset
        if self._carry:
            buffer = self._carry + data
            base -= len(self._carry)
            self._carry = b""
        self._offset += len(data)
        position = self._walk(buffer, start, len(buffer), base)
        if position > len(buffer):
            self._skip = position - len(buffer)
        elif position < len(buffer):
            self._carry = bytes(buffer[position:])

    def finish(self) -> None:
        if self._skip:
            raise DataSetError(f"the last value lacks {self._skip} bytes")
        if self._carry.strip(b"\0"):
            raise DataSetError(f"{len(self._carry)} bytes at the end are no element")
        frames = self._frames
        while frames[-1][1] == self._offset:
            frames.pop()
        if len(frames) > 1:
            raise DataSetError(f"{len(frames) - 1} sequences or items are not closed")

    def _begin(self, buffer: bytes | memoryview) -> None:
        """Look at the first element: is it encoded as the transfer syntax says?"""
        self._is_begun = True
        is_explicit = _is_vr_text(buffer[4], buffer[5])
        if self._is_implicit and is_explicit:
            vr = bytes(buffer[4:6])
            is_explicit = vr in SHORT_VRS or vr in LONG_VRS
        if buffer[0] == buffer[1] == buffer[2] == buffer[3] == 0:
            raise DataSetError("the data set begins with a command element")
        if self._is_implicit == is_explicit:
            self._is_implicit = not is_explicit
            self._frames[0] = (_ELEMENTS, _NO_END, self._is_implicit)

    def _walk(self, buffer: bytes | memoryview, position: int, stop: int, base: int) -> int:
        """Walk as far as the bytes allow; give the position of the next element, maybe beyond them."""
        encoding = self._encoding
        unpack_explicit = encoding.explicit.unpack_from
        unpack_implicit = encoding.implicit.unpack_from
        unpack_length = encoding.length.unpack_from
        short_vrs, long_vrs, sequence_vr = encoding.short_vrs, encoding.long_vrs, encoding.sequence_vr
        wanted, values = self._wanted, self.values
        frames = self._frames
        if not self._is_begun:
            if stop - position < 8:
                return position
            self._begin(buffer)
        kind, end, is_implicit = frames[-1]
        last = stop - 8
        while True:
            while base + position >= end:
                if base + position > end:
                    raise DataSetError(f"an element reaches beyond the end of its item at offset {end}")
                frames.pop()
                kind, end, is_implicit = frames[-1]
            if position > last:
                return position
            if kind != _ELEMENTS:
                position = self._walk_item(buffer, position, base, kind, end)
                kind, end, is_implicit = frames[-1]
                continue
            if is_implicit:
                tag, length = unpack_implicit(buffer, position)
                value_at = position + 8
                vr = 0
            else:
                # run over what is short: the most of a data set
                is_top = len(frames) == 1
                top = wanted if is_top else _NOTHING
                runs = self._runs if is_top else self._runs_of_items
                find_run = runs.get
                limit = min(last, end - base - 8)
                reach = min(stop, end - base)
                is_learning = base + position < LEARNED_FROM_BYTES
                alone: list[bytes] = []  # headers that were read one by one
                while position <= limit:
                    header = unpack_explicit(buffer, position)
                    run = find_run(header)
                    if run is not None and position + run.byte_count <= reach:
                        heads = run.heads(buffer, position)
                        if heads != run.expected:
                            runs.differs(run, heads)
                            continue
                        if is_top and run.tags:
                            self._keep(run.tags, run.wanted_values(buffer, position))
                        position += run.byte_count
                        if len(alone) >= SHORTEST_RUN:
                            runs.learn(alone)
                        alone = []
                        continue
                    tag, vr, length = header
                    if vr not in short_vrs:
                        break
                    if tag in top:
                        value_end = position + 8 + length
                        if value_end > stop:
                            return position
                        values.setdefault(top[tag], bytes(buffer[position + 8 : value_end]))
                    if is_learning:
                        alone.append(bytes(buffer[position : position + 8]))
                        if len(alone) == LONGEST_RUN:
                            runs.learn(alone)
                            alone = []
                    position += 8 + length
                else:
                    if len(alone) >= SHORTEST_RUN:
                        runs.learn(alone)
                    if position <= last and base + position < end:
                        raise DataSetError(f"stray bytes at the end of the item that ends at offset {end}")
                    continue
                if len(alone) >= SHORTEST_RUN:
                    runs.learn(alone)
                tag, vr, length = unpack_explicit(buffer, position)
                if vr in short_vrs:
                    value_at = position + 8
                elif vr in long_vrs or (_is_vr_text(buffer[position + 4], buffer[position + 5])):
                    if stop - position < 12:
                        return position
                    length = unpack_length(buffer, position + 8)[0]
                    value_at = position + 12
                else:  # a delimiter, or an element without a VR
                    tag, length = unpack_implicit(buffer, position)
                    value_at = position + 8
                    vr = 0
            if length == UNDEFINED_LENGTH or vr == sequence_vr or tag == encoding.item_end:
                self._enter(tag, vr, length, base + position, base + value_at, is_implicit)
                kind, end, is_implicit = frames[-1]
                position = value_at
                continue
            value_end = value_at + length
            if tag in wanted and len(frames) == 1 and length <= WANTED_VALUE_BYTES:
                if value_end > stop:
                    return position
                values.setdefault(wanted[tag], bytes(buffer[value_at:value_end]))
            elif length > HOLE_BYTES:
                self._note_hole(base + value_at, length)
            if base + value_end > end:
                raise DataSetError(f"the element at offset {base + position} reaches beyond its item's end at {end}")
            position = value_end

    def _keep(self, tags: tuple[int, ...], found: tuple[bytes, ...]) -> None:
        """Keep values of wanted attributes; of one that stands there twice, the first."""
        values = self.values
        if values.keys().isdisjoint(tags):
            values.update(zip(tags, found, strict=True))
            return
        for tag, value in zip(tags, found, strict=True):
            values.setdefault(tag, value)

    def _note_hole(self, at: int, length: int) -> None:
        if len(self.holes) <= HOLES:
            self.holes.append((at, length))

    def _walk_item(self, buffer: bytes | memoryview, position: int, base: int, kind: int, end: int) -> int:
        """Take the header of an item, a fragment, or the end of their sequence."""
        encoding = self._encoding
        tag, length = encoding.implicit.unpack_from(buffer, position)
        value_at = position + 8
        if tag == encoding.sequence_end:
            if end != _NO_END:
                raise DataSetError(f"a sequence delimiter in a sequence of defined length at offset {base + position}")
            self._frames.pop()
            return value_at
        if tag != encoding.item:
            raise DataSetError(f"no item where one was expected, at offset {base + position}")
        self._items += 1
        if self._items > self._limits.sequence_items:
            raise DataSetError(f"more than {self._limits.sequence_items} sequence items")
        item_end = _NO_END if length == UNDEFINED_LENGTH else base + value_at + length
        if item_end != _NO_END and item_end > end:
            raise DataSetError(f"the item at offset {base + position} reaches beyond its sequence's end at {end}")
        if kind == _FRAGMENTS:
            if item_end == _NO_END:
                raise DataSetError(f"a fragment of undefined length at offset {base + position}")
            if length > HOLE_BYTES:
                self._note_hole(base + value_at, length)
            fragment_end: int = value_at + length
            return fragment_end
        self._frames.append((_ELEMENTS, item_end, self._frames[-1][2]))
        return value_at

    def _enter(self, tag: int, vr: int, length: int, at: int, value_at: int, is_implicit: bool) -> None:
        """Go into a sequence, into encapsulated pixel data, or out of an item."""
        encoding, frames = self._encoding, self._frames
        if tag == encoding.item_end:
            if len(frames) == 1 or frames[-1][1] != _NO_END:
                raise DataSetError(f"an item delimiter outside of an item of undefined length at offset {at}")
            frames.pop()
            return
        if len(frames) > 2 * self._limits.sequence_depth:
            raise DataSetError(f"sequences nested deeper than {self._limits.sequence_depth} levels at offset {at}")
        end = _NO_END if length == UNDEFINED_LENGTH else value_at + length
        if end != _NO_END and end > frames[-1][1]:
            raise DataSetError(f"the sequence at offset {at} reaches beyond the end of its item")
        if tag == encoding.pixel_data:
            frames.append((_FRAGMENTS, end, is_implicit))  # encapsulated (PS3.5 A.4), whatever its VR claims
        elif vr in (encoding.sequence_vr, 0):
            frames.append((_ITEMS, end, is_implicit))
        elif vr == encoding.unknown_vr:
            frames.append((_ITEMS, end, True))  # PS3.5 6.2.2: the contents are Implicit VR Little Endian
        else:
            frames.append((_FRAGMENTS, end, is_implicit))


class DataSetScanner:
    """
    Scans one data set.

    Args:
        transfer_syntax_uid: of PS3.6 table A-1.
        wanted: tags of the attributes whose values are kept.

    Raises:
        DataSetError: from `feed` and `finish`.
    """

    __slots__ = ("_inflated", "_inflater", "_is_little_endian", "_limits", "_received", "_walker")

    def __init__(
        self,
        transfer_syntax_uid: str,
        *,
        wanted: frozenset[int],
        limits: ScanLimits = DEFAULT_LIMITS,
    ) -> None:
        syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
        if syntax is None:
            raise DataSetError("unknown transfer syntax")
        self._is_little_endian = syntax.is_little_endian
        self._limits = limits
        self._walker = _Walker(
            is_implicit=syntax.is_implicit_vr,
            is_little_endian=syntax.is_little_endian,
            wanted=wanted,
            limits=limits,
        )
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if syntax.is_deflated else None
        self._received = 0
        self._inflated = 0

    @property
    def is_costly(self) -> bool:
        """Scanning takes milliseconds: it inflates."""
        return self._inflater is not None

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes, however they are split."""
        if self._inflater is None:
            self._walker.feed(data)
        else:
            self._feed_deflated(data)

    def finish(self) -> ScannedDataSet:
        """Tell that nothing more comes, and give what was seen."""
        if self._inflater is not None and not self._inflater.eof:
            raise DataSetError("the deflated data set is not complete")
        self._walker.finish()
        holes = self._walker.holes
        return ScannedDataSet(
            self._walker.values,
            self._is_little_endian,
            self._walker.byte_count,
            tuple(holes) if len(holes) <= HOLES else None,
        )

    def _feed_deflated(self, data: bytes | memoryview) -> None:
        inflater = self._inflater
        assert inflater is not None
        self._received += len(data)
        allowed = min(self._limits.inflate_bytes, self._limits.inflate_ratio * self._received + INFLATED_PIECE_BYTES)
        rest: bytes | memoryview = data
        is_held_back = False  # the last piece was full: there may be more of it, though nothing is left to inflate
        while (len(rest) or is_held_back) and not inflater.eof:
            try:
                piece = inflater.decompress(rest, INFLATED_PIECE_BYTES)
            except zlib.error as error:
                raise DataSetError("the deflated data set can't be inflated") from error
            self._inflated += len(piece)
            if self._inflated > allowed:
                raise DataSetError(
                    f"the deflated data set inflates to more than {self._limits.inflate_ratio} times its length"
                )
            self._walker.feed(piece)
            is_held_back = len(piece) == INFLATED_PIECE_BYTES
            rest = inflater.unconsumed_tail
