"""
A walk over a data set in an open file (PS3.5 section 7): what is in it, one token after the other, nothing held.

It reads what the scanner accepts: an implicit data set in an explicit transfer syntax and the other way round, elements
without a VR, UN of undefined length (PS3.5 6.2.2: its contents are Implicit VR Little Endian). What VR an element has
in an implicit encoding the caller's dictionary says.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from struct import Struct
from typing import Final, NamedTuple, Protocol

from pacs.dataset.errors import DataSetError
from pacs.dataset.scanner import DEFAULT_LIMITS, LONG_VRS, SHORT_VRS, UNDEFINED_LENGTH, ScanLimits
from pacs.dataset.transfer_syntaxes import TransferSyntax
from pacs.dataset.window import Window

PIXEL_DATA: Final = 0x7FE00010
LONGEST_CREATOR_BYTES: Final = 64

_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_SHORT: Final = frozenset(SHORT_VRS)
_LONG: Final = frozenset(LONG_VRS)
_NO_END: Final = 1 << 62


class Dictionary(Protocol):
    """Gives the VR of a tag, of a private one by its creator; None when it does not know it."""

    def __call__(self, tag: int, private_creator: str | None, /) -> str | None:
        """May give several VRs joined by ' or '."""


class Kind(Enum):
    """What a token stands for."""

    ELEMENT = auto()
    SEQUENCE = auto()
    ITEM = auto()
    ITEM_END = auto()
    SEQUENCE_END = auto()
    FRAGMENTS = auto()


class Token(NamedTuple):
    """
    One step of the walk.

    Attributes:
        vr: as encoded, or the dictionary's; of a sequence "SQ", of an item "".
        value_at: offset of the value; of an item that of its first element.
        length: of the value; of fragments that of all items and the delimiter; of sequences and items without meaning.
        is_little_endian: the byte order of the value.
        is_implicit: whether the VR is the dictionary's.
    """

    kind: Kind
    tag: int
    vr: str
    value_at: int
    length: int
    is_little_endian: bool
    is_implicit: bool


class _Order:
    def __init__(self, order: str) -> None:
        self.tag = Struct(order + "HH")
        self.short = Struct(order + "H")
        self.long = Struct(order + "L")


_LITTLE: Final = _Order("<")
_BIG: Final = _Order(">")


class _Level:
    """A sequence or a data set that the walk is in."""

    __slots__ = ("creators", "end", "is_implicit", "is_items", "is_little")

    def __init__(self, *, is_items: bool, end: int, is_implicit: bool, is_little: bool) -> None:
        self.is_items = is_items
        self.end = end
        self.is_implicit = is_implicit
        self.is_little = is_little
        self.creators: dict[int, str] = {}  # private creators by group and block


class Walk:
    """
    Walks one data set; iterate it once.

    Raises:
        DataSetError: from the iteration; the data set has no structure, or more than the limits allow.
    """

    def __init__(
        self, window: Window, syntax: TransferSyntax, dictionary: Dictionary, limits: ScanLimits = DEFAULT_LIMITS
    ) -> None:
        self._window = window
        self._dictionary = dictionary
        self._limits = limits
        self._items = 0
        self._levels = [
            _Level(
                is_items=False,
                end=window.length,
                is_implicit=self._looks_implicit(syntax),
                is_little=syntax.is_little_endian,
            )
        ]

    def __iter__(self) -> Iterator[Token]:
        levels = self._levels
        position = 0
        while True:
            level = levels[-1]
            if position >= level.end:
                if position > level.end:
                    raise DataSetError(f"an element reaches beyond the end of its item at offset {level.end}")
                if len(levels) == 1:
                    return
                yield self._leave()
                continue
            if self._window.length - position < 8:
                if len(levels) == 1 and not self._window.read(position, self._window.length - position).strip(b"\0"):
                    return
                if position < self._window.length:
                    raise DataSetError(f"stray bytes at offset {position}")
                raise DataSetError(f"{len(levels) - 1} sequences or items are not closed")
            if level.is_items:
                position, token = self._item(position, level)
            else:
                position, token = self._element(position, level)
            yield token

    def _looks_implicit(self, syntax: TransferSyntax) -> bool:
        """Look at the first element: is it encoded as the transfer syntax says?"""
        if self._window.length < 8:
            return syntax.is_implicit_vr
        vr = self._window.read(4, 2)
        if syntax.is_implicit_vr:
            return not (vr in _SHORT or vr in _LONG)
        return not (vr.isalpha() and vr.isupper())

    def _leave(self) -> Token:
        level = self._levels.pop()
        kind = Kind.SEQUENCE_END if level.is_items else Kind.ITEM_END
        return Token(kind, 0, "", 0, 0, level.is_little, level.is_implicit)

    def _item(self, position: int, level: _Level) -> tuple[int, Token]:
        tag, length = self._tag_and_length(position, level)
        value_at = position + 8
        if tag == _SEQUENCE_END:
            if level.end != _NO_END:
                raise DataSetError(f"a sequence delimiter in a sequence of defined length at offset {position}")
            return value_at, self._leave()
        if tag != _ITEM:
            raise DataSetError(f"no item where one was expected, at offset {position}")
        self._count_item()
        end = _NO_END if length == UNDEFINED_LENGTH else value_at + length
        if end != _NO_END and end > min(level.end, self._window.length):
            raise DataSetError(f"the item at offset {position} reaches beyond its sequence's end")
        self._levels.append(_Level(is_items=False, end=end, is_implicit=level.is_implicit, is_little=level.is_little))
        return value_at, Token(Kind.ITEM, _ITEM, "", value_at, length, level.is_little, level.is_implicit)

    def _count_item(self) -> None:
        self._items += 1
        if self._items > self._limits.sequence_items:
            raise DataSetError(f"more than {self._limits.sequence_items} sequence items")

    def _tag_and_length(self, position: int, level: _Level) -> tuple[int, int]:
        order = _LITTLE if level.is_little else _BIG
        at = self._window.locate(position, 8)
        group, element = order.tag.unpack_from(self._window.buffer, at)
        return group << 16 | element, order.long.unpack_from(self._window.buffer, at + 4)[0]

    def _element(self, position: int, level: _Level) -> tuple[int, Token]:
        window = self._window
        order = _LITTLE if level.is_little else _BIG
        at = window.locate(position, 8)
        buffer = window.buffer
        group, element = order.tag.unpack_from(buffer, at)
        tag = group << 16 | element
        is_implicit = level.is_implicit
        vr: str | None = None
        if tag == _ITEM_END:
            if level.end != _NO_END or len(self._levels) == 1:
                raise DataSetError(f"an item delimiter outside of an item of undefined length at offset {position}")
            return position + 8, self._leave()
        raw_vr = buffer[at + 4 : at + 6]
        if not is_implicit and raw_vr in _SHORT:
            vr = raw_vr.decode()
            length = order.short.unpack_from(buffer, at + 6)[0]
            value_at = position + 8
        elif not is_implicit and (raw_vr in _LONG or (raw_vr.isalpha() and raw_vr.isupper())):
            vr = raw_vr.decode() if raw_vr in _LONG else "UN"  # a VR of a later edition has the long form too
            length = order.long.unpack(window.read(position + 8, 4))[0]
            value_at = position + 12
        else:
            length = order.long.unpack_from(buffer, at + 4)[0]
            value_at = position + 8
            is_implicit = True
            vr = self._look_up(tag, level)
        if length == UNDEFINED_LENGTH or vr == "SQ":
            return self._enter(tag, vr, length, position, value_at, level, is_implicit)
        value_end = value_at + length
        if value_end > min(level.end, window.length):
            raise DataSetError(f"the element at offset {position} reaches beyond its item or the data set")
        if group % 2 and 0x10 <= element <= 0xFF and length <= LONGEST_CREATOR_BYTES:
            creator = window.read(value_at, length).decode("latin-1").strip("\0 ")
            level.creators[group << 8 | element] = creator
        return value_end, Token(Kind.ELEMENT, tag, vr or "UN", value_at, length, level.is_little, is_implicit)

    def _look_up(self, tag: int, level: _Level) -> str | None:
        group, element = tag >> 16, tag & 0xFFFF
        if element == 0:
            return "UL"
        if group % 2 == 0:
            return self._dictionary(tag, None)
        if 0x10 <= element <= 0xFF:
            return "LO"
        creator = level.creators.get(group << 8 | element >> 8)
        return None if creator is None else self._dictionary(tag, creator)

    def _enter(
        self, tag: int, vr: str | None, length: int, position: int, value_at: int, level: _Level, is_implicit: bool
    ) -> tuple[int, Token]:
        """Go into a sequence, or over fragments."""
        is_undefined = length == UNDEFINED_LENGTH
        is_binary = not is_implicit and vr not in ("SQ", "UN")
        if is_undefined and (tag == PIXEL_DATA or is_binary):
            end = self._fragments_end(value_at, level)
            return end, Token(Kind.FRAGMENTS, tag, vr or "OB", value_at, end - value_at, level.is_little, is_implicit)
        if len(self._levels) > 2 * self._limits.sequence_depth:
            raise DataSetError(
                f"sequences nested deeper than {self._limits.sequence_depth} levels at offset {position}"
            )
        end = _NO_END if is_undefined else value_at + length
        if not is_undefined and end > min(level.end, self._window.length):
            raise DataSetError(f"the sequence at offset {position} reaches beyond the end of its item")
        is_unknown = vr == "UN" and not is_implicit
        self._levels.append(
            _Level(
                is_items=True,
                end=end,
                is_implicit=level.is_implicit or is_unknown,
                is_little=level.is_little or is_unknown,
            )
        )
        return value_at, Token(Kind.SEQUENCE, tag, "SQ", value_at, length, level.is_little, is_implicit)

    def _fragments_end(self, position: int, level: _Level) -> int:
        while True:
            tag, length = self._tag_and_length(position, level)
            position += 8
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM or length == UNDEFINED_LENGTH:
                raise DataSetError(f"no fragment where one was expected, at offset {position - 8}")
            self._count_item()
            position += length
