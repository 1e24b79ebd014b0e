"""
Some frames of pixel data, copied from the source's file piece by piece: native ones, to the bit (PS3.5 8.1.1), and
encapsulated ones with new offset tables (PS3.5 A.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import pack
from typing import Final

from pacs.dataset.facts import BITS_ALLOCATED, EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS
from pacs.dataset.frames import EncapsulatedFrames, frame_bits
from pacs.dataset.reencode import Encoding, NewValue, Output, swapped
from pacs.dataset.scanner import UNDEFINED_LENGTH
from pacs.dataset.transfer_syntaxes import TransferSyntax
from pacs.dataset.walk import Token
from pacs.dataset.window import PIECE_BYTES, Window
from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.source import Source

_STREAMS: Final = ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101", "1.2.840.10008.1.2.4.102",
                   "1.2.840.10008.1.2.4.103", "1.2.840.10008.1.2.4.104", "1.2.840.10008.1.2.4.105",
                   "1.2.840.10008.1.2.4.106", "1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108")  # fmt: skip
_MULTI_COMPONENT: Final = ("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93")
_LONGEST_BASIC_OFFSET: Final = 0xFFFFFFFF


def is_one_stream(transfer_syntax_uid: str) -> bool:
    """Whether frames depend on each other: video, and JPEG 2000 Part 2 (PS3.17 MM.2.4 and MM.2.5)."""
    return transfer_syntax_uid in _MULTI_COMPONENT or any(transfer_syntax_uid in (uid, f"{uid}.1") for uid in _STREAMS)


class NativeRun:
    """
    Equally long frames in one value, native pixel data or an overlay.

    Args:
        bits: of a frame.
        frames: numbers of those to be copied.
        has_words: the value is swapped as 16-bit words where it is big endian, though its cells are shorter.

    Raises:
        ExtractionError: FRAMES, the value ends before the last of them.
    """

    def __init__(self, window: Window, token: Token, bits: int, frames: Sequence[int], *, has_words: bool) -> None:
        if frames[-1] * bits > 8 * token.length:
            raise ExtractionError(Cause.FRAMES, f"the pixel data end before frame {frames[-1]}")
        self._window = window
        self._token = token
        self._bits = bits
        self._frames = frames
        self._is_swapped = has_words and not token.is_little_endian
        self.length = (bits * len(frames) + 7) // 8

    def write(self, encoding: Encoding, output: Output) -> None:
        """Write header and value."""
        padded = self.length + self.length % 2
        output.write(encoding.header(self._token.tag, self._token.vr.split(" or ")[-1], padded))
        for piece in self._pieces(padded):
            output.write(piece)

    def _pieces(self, padded: int) -> Iterator[bytes]:
        if self._bits % 16 == 0 or (self._bits % 8 == 0 and not self._is_swapped):
            size = self._bits // 8
            for number in self._frames:
                yield from self._window.pieces(self._token.value_at + (number - 1) * size, size)
            yield bytes(padded - self.length)
            return
        rest = b""
        for piece in self._packed(padded):
            whole = rest + piece
            even = len(whole) // 2 * 2
            yield swapped(whole[:even], "H") if self._is_swapped else whole[:even]
            rest = whole[even:]

    def _packed(self, padded: int) -> Iterator[bytes]:
        """Give the bits of all frames one behind the other, the first the lowest of a byte."""
        held = held_bits = done = 0
        for number in self._frames:
            begin, end = (number - 1) * self._bits, number * self._bits
            while begin < end:
                count = min(8 * PIECE_BYTES, end - begin)
                held |= self._read_bits(begin, count) << held_bits
                held_bits += count
                whole = held_bits // 8
                yield (held & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
                held >>= 8 * whole
                held_bits -= 8 * whole
                done += whole
                begin += count
        yield held.to_bytes(padded - done, "little")

    def _read_bits(self, begin: int, count: int) -> int:
        start, stop = begin // 8, (begin + count + 7) // 8
        if self._is_swapped:
            start, stop = start // 2 * 2, min(stop + stop % 2, self._token.length)
        data = self._window.read(self._token.value_at + start, stop - start)
        if self._is_swapped:
            data = swapped(data, "H")
        return int.from_bytes(data, "little") >> (begin - 8 * start) & ((1 << count) - 1)


class NativePixels:
    """Frames of native pixel data."""

    def __init__(self, source: Source, frames: Sequence[int]) -> None:
        token = source.pixels
        bits_allocated = source.facts.numbers.get(BITS_ALLOCATED, 16)
        has_words = token.vr == "OW" and bits_allocated < 16
        self._run = NativeRun(source.window, token, frame_bits(source.facts), frames, has_words=has_words)
        self.new: dict[int, tuple[str, NewValue]] = {}

    def write(self, encoding: Encoding, output: Output) -> None:
        """Write the element."""
        self._run.write(encoding, output)


class EncapsulatedPixels:
    """
    Frames of encapsulated pixel data, each in the fragments that it had.

    Attributes:
        new: the Extended Offset Table, where the source has one.
    """

    def __init__(self, source: Source, frames: Sequence[int]) -> None:
        self._window = source.window
        self._token = source.pixels
        self._frames = frames
        self._places = EncapsulatedFrames(source.window, source.pixels, source.facts, source.count)
        self._table = b""
        self.new: dict[int, tuple[str, NewValue]] = {}
        offsets, offset = [], 0
        for number in frames:
            offsets.append(offset)
            offset += sum(8 + length + length % 2 for _, length in self._places.fragments(number))
        if self._places.has_extended_offsets:
            lengths = [self._places.length(number) for number in frames]
            self.new[EXTENDED_OFFSET_TABLE] = "OV", pack(f"<{len(offsets)}Q", *offsets)
            self.new[EXTENDED_OFFSET_TABLE_LENGTHS] = "OV", pack(f"<{len(lengths)}Q", *lengths)
        elif offsets[-1] <= _LONGEST_BASIC_OFFSET:
            self._table = pack(f"<{len(offsets)}I", *offsets)

    def write(self, encoding: Encoding, output: Output) -> None:
        """Write the element."""
        output.write(encoding.header(self._token.tag, self._token.vr, UNDEFINED_LENGTH))
        output.write(encoding.item_of(len(self._table)) + self._table)
        for number in self._frames:
            for at, length in self._places.fragments(number):
                output.write(encoding.item_of(length + length % 2))
                for piece in self._window.pieces(at, length):
                    output.write(piece)
                output.write(bytes(length % 2))
        output.write(encoding.sequence_end)


class WholePixels:
    """All frames: the value as it is, whatever is in it."""

    def __init__(self, source: Source) -> None:
        self._window = source.window
        self._token = source.pixels
        self._is_encapsulated = source.is_encapsulated
        self.new: dict[int, tuple[str, NewValue]] = {}
        for tag in (EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS):
            table = source.facts.places.get(tag)
            if table is not None:
                self.new[tag] = "OV", source.window.read(table.value_at, table.length)

    def write(self, encoding: Encoding, output: Output) -> None:
        """Write the element."""
        token = self._token
        length = UNDEFINED_LENGTH if self._is_encapsulated else token.length + token.length % 2
        output.write(encoding.header(token.tag, token.vr.split(" or ")[-1], length))
        for piece in self._window.pieces(token.value_at, token.length):
            output.write(piece)
        if not self._is_encapsulated:
            output.write(bytes(token.length % 2))


Pixels = NativePixels | EncapsulatedPixels | WholePixels


def pixels_of(source: Source, syntax: TransferSyntax, frames: Sequence[int]) -> Pixels:
    """
    Give what writes the frames.

    Raises:
        ExtractionError: FRAMES, they depend on others, or are not there.
        DataSetError: they can't be told apart.
    """
    if is_one_stream(syntax.uid):
        if len(frames) == source.count:
            return WholePixels(source)
        raise ExtractionError(Cause.FRAMES, f"frames can't be taken out of a stream ({syntax.name})")
    return EncapsulatedPixels(source, frames) if source.is_encapsulated else NativePixels(source, frames)
