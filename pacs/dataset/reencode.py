"""
A data set in another encoding of its elements (PS3.5 annex A): implicit and explicit VR, little and big endian.

Everything keeps its meaning: private elements, UN, nested sequences. Sequences and items are written with undefined
length, so that nothing has to be held; retired group lengths, which would be wrong, are left out (PS3.5 7.2). Bulk
passes in pieces. Compressed pixel data are replaced by what a decoder gives for them, or pass as they are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, Protocol, TypeAlias

from pacs.dataset.errors import DataSetError
from pacs.dataset.facts import (
    BITS_ALLOCATED,
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    PIXEL_REPRESENTATION,
    WAVEFORM_BITS_ALLOCATED,
    Facts,
    gather,
)
from pacs.dataset.scanner import DEFAULT_LIMITS, LONG_VRS, UNDEFINED_LENGTH, ScanLimits
from pacs.dataset.transfer_syntaxes import TransferSyntax
from pacs.dataset.walk import PIXEL_DATA, Dictionary, Kind, Token, Walk
from pacs.dataset.window import PIECE_BYTES, Window

LENGTH_TO_END: Final = 0x00080001
LUT_DATA: Final = 0x00283006
GE_PRIVATE_BIG_ENDIAN_PIXELS: Final = "1.2.840.113619.5.2"
LONGEST_SHORT_VALUE: Final = 0xFFFE

_LONG: Final = frozenset(vr.decode() for vr in LONG_VRS)
_TEXT_VRS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT")
)
_UNITS: Final[Mapping[str, str]] = {
    "US": "H", "SS": "H", "OW": "H", "AT": "H", "UL": "I", "SL": "I", "FL": "I", "OF": "I", "OL": "I",
    "FD": "Q", "OD": "Q", "SV": "Q", "UV": "Q", "OV": "Q",
}  # fmt: skip
"""The array type whose bytes are swapped between byte orders, by VR (PS3.5 7.3)."""


NewElement: TypeAlias = tuple[int, str, "NewValue"]
"""An element of our own: tag, VR and value."""
NewValue: TypeAlias = bytes | Sequence[Sequence[NewElement]]
"""A value in little endian, of even length; or the items of a sequence."""


class Output(Protocol):
    """Takes the encoded data set."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


@dataclass(frozen=True, slots=True)
class DecodedPixels:
    """
    Native pixel data in place of encapsulated ones.

    Attributes:
        vr: OB or OW.
        length: of all frames, in bytes, without padding.
        frames: little endian, one by one; their lengths add up to `length`.
        changes: new values of attributes of the same data set, by tag: VR and value, little endian.
    """

    vr: str
    length: int
    frames: Iterable[bytes]
    changes: Mapping[int, tuple[str, bytes]]


class PixelDecoder(Protocol):
    """Decodes the encapsulated pixel data of one data set, main or item."""

    def __call__(self, facts: Facts, /) -> DecodedPixels:
        """Give the pixels; the first frame may be decoded already."""


class Encoding:
    """How a transfer syntax writes what stands around values."""

    def __init__(self, syntax: TransferSyntax) -> None:
        order = "<" if syntax.is_little_endian else ">"
        self.is_implicit = syntax.is_implicit_vr
        self.is_little = syntax.is_little_endian
        self._implicit = Struct(order + "HHL")
        self._short = Struct(order + "HH2sH")
        self._long = Struct(order + "HH2sxxL")
        self.item = self._implicit.pack(0xFFFE, 0xE000, UNDEFINED_LENGTH)
        self.item_end = self._implicit.pack(0xFFFE, 0xE00D, 0)
        self.sequence_end = self._implicit.pack(0xFFFE, 0xE0DD, 0)

    def header(self, tag: int, vr: str, length: int) -> bytes:
        """Give what stands before a value."""
        group, element = tag >> 16, tag & 0xFFFF
        if self.is_implicit:
            return self._implicit.pack(group, element, length)
        if vr in _LONG:
            return self._long.pack(group, element, vr.encode(), length)
        return self._short.pack(group, element, vr.encode(), length)

    def item_of(self, length: int) -> bytes:
        """Give what stands before an item of defined length, a fragment for example."""
        return self._implicit.pack(0xFFFE, 0xE000, length)


def swapped(data: bytes, unit: str) -> bytes:
    """Give the values of an array type in the other byte order; what is no whole value at the end stays."""
    values = array(unit)
    rest = len(data) % values.itemsize
    values.frombytes(data[: len(data) - rest] if rest else data)
    values.byteswap()
    return values.tobytes() + data[len(data) - rest :] if rest else values.tobytes()


def _unit(tag: int, vr: str, facts: Facts) -> str | None:
    """Give what is swapped; of pixel data whole cells, as the writers and readers of big endian do it (PS3.5 8.1.1)."""
    if tag == PIXEL_DATA and vr == "OW":
        return {32: "I", 64: "Q"}.get(facts.numbers.get(BITS_ALLOCATED, 16), "H")
    return _UNITS.get(vr)


def reencode(
    window: Window,
    source: TransferSyntax,
    target: TransferSyntax,
    *,
    output: Output,
    dictionary: Dictionary,
    decode: PixelDecoder,
    limits: ScanLimits = DEFAULT_LIMITS,
) -> None:
    """
    Write a data set in another encoding; both are inflated.

    Raises:
        DataSetError: it has no structure, or can't be said in the target.
    """
    levels = gather(Walk(window, source, dictionary, limits), window)
    encoder = Reencoder(window, source, target, output=output, decode=decode, levels=levels)
    for token in Walk(window, source, dictionary, limits):
        encoder.take(token)
    encoder.finish()


@dataclass(slots=True)
class _Level:
    """A data set that is being written: what changes in it, those not written yet last to first."""

    facts: Facts
    pixels: DecodedPixels | None
    changes: list[tuple[int, str, bytes]]


class Reencoder:
    """
    Writes tokens of a data set in an encoding, and what is put between them.

    Args:
        decode: None: fragments stay as they are; source and target are the same then.
        levels: what `gather` has found.
    """

    def __init__(
        self,
        window: Window,
        source: TransferSyntax,
        target: TransferSyntax,
        *,
        output: Output,
        decode: PixelDecoder | None,
        levels: Mapping[int, Facts],
    ) -> None:
        self._window = window
        self._has_big_endian_pixels = source.uid == GE_PRIVATE_BIG_ENDIAN_PIXELS
        self.encoding = Encoding(target)
        self._output = output
        self._decode = decode
        self._facts = levels
        self._levels = [self._level(0)]

    def _level(self, at: int) -> _Level:
        facts = self._facts.get(at, Facts())
        place = facts.places.get(PIXEL_DATA)
        if self._decode is None or place is None or place.kind is not Kind.FRAGMENTS:
            return _Level(facts, None, [])
        pixels = self._decode(facts)
        changes = sorted(((tag, *change) for tag, change in pixels.changes.items()), reverse=True)
        return _Level(facts, pixels, changes)

    def take(self, token: Token) -> None:
        """Write what a token stands for."""
        kind, encoding, write = token.kind, self.encoding, self._output.write
        if kind is Kind.ITEM:
            write(encoding.item)
            self._levels.append(self._level(token.value_at))
        elif kind is Kind.ITEM_END:
            self._write_changes(self._levels.pop(), None)
            write(encoding.item_end)
        elif kind is Kind.SEQUENCE_END:
            write(encoding.sequence_end)
        else:
            level = self._levels[-1]
            if level.changes and self._write_changes(level, token.tag):
                return  # the old value is dropped
            if kind is Kind.ELEMENT:
                self._element(token, level)
            elif kind is Kind.SEQUENCE:
                write(encoding.header(token.tag, "SQ", UNDEFINED_LENGTH))
            else:
                self._pixels(token, level)

    def finish(self) -> None:
        """Write what comes behind the last element."""
        self._write_changes(self._levels[0], None)

    def put(self, tag: int, vr: str, value: NewValue) -> None:
        """Write an element of our own: a value in little endian, or the items of a sequence."""
        write, encoding = self._output.write, self.encoding
        if not isinstance(value, bytes):
            write(encoding.header(tag, vr, UNDEFINED_LENGTH))
            for item in value:
                self.put_item(item)
            write(encoding.sequence_end)
            return
        is_little = encoding.is_little
        if vr not in _LONG and len(value) > LONGEST_SHORT_VALUE and not encoding.is_implicit:
            vr, is_little = "UN", True
        unit = None if is_little else _UNITS.get(vr)
        write(encoding.header(tag, vr, len(value)) + (value if unit is None else swapped(value, unit)))

    def put_item(self, elements: Iterable[NewElement]) -> None:
        """Write an item of our own."""
        self._output.write(self.encoding.item)
        for element in elements:
            self.put(*element)
        self._output.write(self.encoding.item_end)

    def _write_changes(self, level: _Level, tag: int | None) -> bool:
        """Write the changed attributes up to a tag; tell whether it is one of them."""
        changes = level.changes
        while changes and (tag is None or changes[-1][0] <= tag):
            changed, vr, value = changes.pop()
            self.put(changed, vr, value)
            if changed == tag:
                return True
        return False

    # -- elements

    def _element(self, token: Token, level: _Level) -> None:
        tag = token.tag
        if not tag & 0xFFFF or tag == LENGTH_TO_END:
            return
        if level.pixels is not None and tag in (EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS):
            return
        vr = self._vr(token, level) if " or " in token.vr else token.vr
        written_vr = vr
        is_little = self.encoding.is_little
        if vr not in _LONG and token.length > LONGEST_SHORT_VALUE and not self.encoding.is_implicit:
            written_vr, is_little = "UN", True  # PS3.5 6.2.2: too long for the VR's header, little endian always
        is_token_little = token.is_little_endian
        if tag == PIXEL_DATA and self._has_big_endian_pixels and level.facts.numbers.get(BITS_ALLOCATED, 16) > 8:
            is_token_little = False
        unit = _unit(tag, vr, level.facts) if is_token_little != is_little else None
        padding = (b" " if vr in _TEXT_VRS else b"\0") if token.length % 2 else b""
        header = self.encoding.header(tag, written_vr, token.length + len(padding))
        if token.length <= PIECE_BYTES:
            value = self._window.read(token.value_at, token.length)
            self._output.write(header + (value if unit is None else swapped(value, unit)) + padding)
            return
        self._output.write(header)
        for piece in self._window.pieces(token.value_at, token.length):
            self._output.write(piece if unit is None else swapped(piece, unit))
        self._output.write(padding)

    def _vr(self, token: Token, level: _Level) -> str:
        """Choose among the VRs that the dictionary has for a tag (PS3.5 A.1, PS3.3 of the attribute)."""
        choices: Sequence[str] = token.vr.split(" or ")
        if token.tag == LUT_DATA:
            return "US" if token.length == 2 else "OW"
        if "SS" in choices:
            return "SS" if self._nearest(PIXEL_REPRESENTATION, 0) else "US"
        if "OB" not in choices:
            return choices[-1]
        if token.tag == PIXEL_DATA:
            bits = level.facts.numbers.get(BITS_ALLOCATED, 16)
        else:
            bits = level.facts.numbers.get(WAVEFORM_BITS_ALLOCATED, 16)
        return "OB" if bits <= 8 else "OW"

    def _nearest(self, tag: int, default: int) -> int:
        for level in reversed(self._levels):
            if tag in level.facts.numbers:
                return level.facts.numbers[tag]
        return default

    # -- pixel data

    def _pixels(self, token: Token, level: _Level) -> None:
        pixels = level.pixels
        if self._decode is None:
            self._output.write(self.encoding.header(token.tag, token.vr, UNDEFINED_LENGTH))
            for piece in self._window.pieces(token.value_at, token.length):
                self._output.write(piece)
            return
        if pixels is None:
            tag = f"({token.tag >> 16:04X},{token.tag & 0xFFFF:04X})"
            raise DataSetError(f"{tag} is encapsulated and no pixel data: it can't be decoded")
        padded = pixels.length + pixels.length % 2
        if padded >= UNDEFINED_LENGTH:
            raise DataSetError("the decoded pixel data are longer than 4 GiB")
        self._output.write(self.encoding.header(token.tag, pixels.vr, padded))
        written = 0
        unit = None if self.encoding.is_little else _unit(PIXEL_DATA, pixels.vr, level.facts)
        for frame in pixels.frames:
            self._output.write(frame if unit is None else swapped(frame, unit))
            written += len(frame)
        if written != pixels.length:
            raise DataSetError(f"the frames have {written} bytes, {pixels.length} were expected")
        self._output.write(bytes(padded - written))
