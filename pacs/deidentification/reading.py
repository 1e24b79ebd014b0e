"""
The verifier's own reading of a file: a flat list of the elements of its data set (PS3.5 section 7, PS3.10 section 7.1).
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.deidentification.errors import VerificationFailed
from pacs.deidentification.tables import dictionary

_LONG_FORM: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT_FORM: Final = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip
_SAMPLES: Final = frozenset(("OD", "OF", "OL", "OV", "OW"))
_LONG_SAMPLES_BYTES: Final = 4096
_OPEN: Final = 0xFFFFFFFF
_PIXELS: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_DEPTH: Final = 256
_MOST_INFLATED: Final = 4 << 30
_FORBIDDEN_META: Final = frozenset((0x0016, 0x0017, 0x0018, 0x0026, 0x0027, 0x0028, 0x0100, 0x0102))

Buffer = Any  # bytes, a memory map: what can be sliced to bytes
# an element, in the order of the bytes: tag, VR, offsets of its value and its end, the number of its items (-1: it is
# no sequence), how deep it stands, its character set
Seen = tuple[int, str, int, int, int, int, str]


_STRUCTS: Final = {
    order: (
        struct.Struct(order + "HH2sH").unpack_from,
        struct.Struct(order + "L").unpack_from,
        struct.Struct(order + "HH").unpack_from,
    )
    for order in "<>"
}


class Reading:
    """Reads a data set to a flat list."""

    def __init__(self, buffer: Buffer, start: int, end: int, transfer_syntax_uid: str, *, skips_private: bool) -> None:
        syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
        if syntax is None:
            raise VerificationFailed("structure", "unknown transfer syntax")
        if syntax.is_deflated:
            inflater = zlib.decompressobj(-15)
            buffer = inflater.decompress(bytes(buffer[start:end]), _MOST_INFLATED)
            start, end = 0, len(buffer)
        self.buffer = buffer
        self.start, self.end = start, end
        self.seen: list[Seen] = []
        self.pixels: list[tuple[int, int]] = []
        self.frames: list[tuple[int, int]] = []
        self._order = "<" if syntax.is_little_endian else ">"
        self._known = dictionary()
        self._skips_private = skips_private
        first = bytes(buffer[start + 4 : start + 6])
        is_explicit = first in _SHORT_FORM or first in _LONG_FORM
        try:
            self._data_set(start, end, is_explicit, 0, "", is_item=False)
        except (struct.error, IndexError):
            raise VerificationFailed("structure", "cut off") from None

    def _data_set(
        self, at: int, end: int, is_explicit: bool, depth: int, character_set: str, *, is_item: bool, order: str = ""
    ) -> int:
        buffer, known = self.buffer, self._known
        add, skips_private = self.seen.append, self._skips_private
        order = order or self._order
        head, long, tags = _STRUCTS[order]
        if depth > _DEPTH:
            raise VerificationFailed("structure", "nested too deep")
        while at + 8 <= end:
            if is_explicit:
                group, element, form, length = head(buffer, at)
                tag = group << 16 | element
                if form in _SHORT_FORM:
                    begin = at + 8
                    at = begin + length
                    if at > end:
                        raise VerificationFailed("structure", "an element reaches beyond its end", tag)
                    if tag == 0x00080005:
                        character_set = bytes(buffer[begin:at]).decode("latin-1").strip(" \0")
                    if not (skips_private and group & 1):
                        add((tag, form.decode(), begin, at, -1, depth, character_set))
                    continue
                if form in _LONG_FORM:
                    vr = form.decode()
                    begin = at + 12
                    (length,) = long(buffer, at + 8)
                else:
                    vr = known.get(tag, "UN")
                    begin = at + 8
                    (length,) = long(buffer, at + 4)
                    if tag != 0xFFFEE00D and form.isalpha() and form.isupper():
                        vr, begin = "UN", at + 12
                        (length,) = long(buffer, at + 8)
            else:
                group, element = tags(buffer, at)
                tag = group << 16 | element
                vr = known.get(tag, "UN")
                begin = at + 8
                (length,) = long(buffer, at + 4)
            if tag == 0xFFFEE00D and is_item:
                return begin
            if length == _OPEN and tag in _PIXELS:
                at = self._fragments(begin, end, order)
                self.seen.append((tag, "OB", begin, at, -1, depth, character_set))
                self.pixels.append((begin, at))
                continue
            is_foreign = vr == "UN"
            if is_foreign and known.get(tag) == "SQ":
                vr = "SQ"
            if vr == "SQ" or length == _OPEN:
                place = len(self.seen)
                self.seen.append((tag, vr, begin, begin, 0, depth, character_set))
                inside_explicit = is_explicit and not (is_foreign and self._is_implicit_item(begin))
                inside_order = "<" if is_foreign and not inside_explicit else order
                after, count = self._items(begin, end, length, inside_explicit, depth + 1, character_set, inside_order)
                self.seen[place] = (tag, vr, begin, after, count, depth, character_set)
                at = after
                continue
            at = begin + length
            if at > end:
                raise VerificationFailed("structure", "an element reaches beyond its end", tag)
            if tag == 0x00080005:
                character_set = bytes(buffer[begin:at]).decode("latin-1").strip(" \0")
            if tag in _PIXELS or (vr in _SAMPLES and length > _LONG_SAMPLES_BYTES):
                self.pixels.append((begin, at))
            add((tag, vr, begin, at, -1, depth, character_set))
        if is_item and end == self.end and at != end:
            raise VerificationFailed("structure", "an item is not closed")
        return at

    def _is_implicit_item(self, at: int) -> bool:
        form = bytes(self.buffer[at + 12 : at + 14])
        return form not in _SHORT_FORM and form not in _LONG_FORM

    def _items(
        self, at: int, limit: int, length: int, is_explicit: bool, depth: int, character_set: str, order: str
    ) -> tuple[int, int]:
        header = struct.Struct(order + "HHL").unpack_from
        end = limit if length == _OPEN else at + length
        if end > limit:
            raise VerificationFailed("structure", "a sequence reaches beyond its end")
        count = 0
        while at < end:
            group, element, item_length = header(self.buffer, at)
            at += 8
            tag = group << 16 | element
            if tag == 0xFFFEE0DD:
                return at, count
            if tag != 0xFFFEE000:
                raise VerificationFailed("structure", "no item")
            count += 1
            is_open = item_length == _OPEN
            item_end = end if is_open else at + item_length
            if item_end > end:
                raise VerificationFailed("structure", "an item reaches beyond its end")
            at = self._data_set(at, item_end, is_explicit, depth, character_set, is_item=is_open, order=order)
        return at, count

    def _fragments(self, at: int, end: int, order: str) -> int:
        header = struct.Struct(order + "HHL").unpack_from
        while at + 8 <= end:
            group, element, length = header(self.buffer, at)
            at += 8
            if (group, element) == (0xFFFE, 0xE0DD):
                return at
            self.frames.append((at, at + length))
            at += length
        raise VerificationFailed("structure", "fragments are not closed")


def read_meta(output: Buffer) -> tuple[dict[int, bytes], int]:
    """Give the elements of group 0002 without padding, and where the data set begins; refuse what must not be there."""
    if bytes(output[:128]).strip(b"\0") or bytes(output[128:132]) != b"DICM":
        raise VerificationFailed("file_meta", "the preamble is not empty")
    at = 132
    meta: dict[int, bytes] = {}
    while True:
        group, element, form, length = struct.unpack_from("<HH2sH", output, at)
        if group != 2:
            return meta, at
        at += 8
        if form in _LONG_FORM:
            (length,) = struct.unpack_from("<L", output, at)
            at += 4
        if element in _FORBIDDEN_META:
            raise VerificationFailed("file_meta", "an element that names a place", 0x00020000 | element)
        meta[element] = bytes(output[at : at + length]).strip(b"\0 ")
        at += length
