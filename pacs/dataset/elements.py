"""
A small codec for short data sets: identifiers in, responses out (PS3.5 section 7). Objects never pass here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final, NamedTuple

from pacs.dataset.dictionary import vr_of
from pacs.dataset.errors import DataSetError
from pacs.dataset.scanner import LONG_VRS, SHORT_VRS, UNDEFINED_LENGTH
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES

_LONG: Final = frozenset(vr.decode() for vr in LONG_VRS)
_KNOWN: Final = frozenset((*SHORT_VRS, *LONG_VRS))
_SHORT_NAMES: Final = {vr: vr.decode() for vr in SHORT_VRS}
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_DEPTH: Final = 64


class _Order:
    """The structures of one byte order."""

    def __init__(self, order: str) -> None:
        self.tag = Struct(order + "HH")
        self.implicit = Struct(order + "HHL")
        self.short = Struct(order + "HH2sH")
        self.long = Struct(order + "HH2sxxL")
        self.length = Struct(order + "L")


_LITTLE: Final = _Order("<")
_BIG: Final = _Order(">")


class Element(NamedTuple):
    """
    One data element.

    Attributes:
        vr: as encoded; "" in an implicit transfer syntax.
        value: without its padding being looked at; "" for a sequence.
        items: of a sequence, else None.
    """

    tag: int
    vr: str
    value: bytes
    items: tuple[tuple[Element, ...], ...] | None = None


class ElementEncoder:
    """Encodes elements in one transfer syntax."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        syntax = TRANSFER_SYNTAXES[transfer_syntax_uid]
        self._order = _LITTLE if syntax.is_little_endian else _BIG
        self._is_implicit = syntax.is_implicit_vr
        self.is_little_endian = syntax.is_little_endian

    def head(self, tag: int, vr: str, length: int) -> bytes:
        """Give what stands before a value of some even length."""
        if self._is_implicit:
            return self._order.implicit.pack(tag >> 16, tag & 0xFFFF, length)
        if vr in _LONG:
            return self._order.long.pack(tag >> 16, tag & 0xFFFF, vr.encode(), length)
        return self._order.short.pack(tag >> 16, tag & 0xFFFF, vr.encode(), length)

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Give one element; its value has even length."""
        if not self._is_implicit and vr not in _LONG:
            value = value[:0xFFFE]
        return self.head(tag, vr, len(value)) + value

    def data_set(self, elements: Iterable[tuple[int, str, bytes]]) -> bytes:
        """Give elements one after the other; the caller has them in the order of their tags."""
        element = self.element
        return b"".join([element(tag, vr, value) for tag, vr, value in elements])

    def sequence(self, tag: int, items: Sequence[bytes]) -> bytes:
        """Give a sequence of encoded items, all lengths defined."""
        body = b"".join([self._order.implicit.pack(0xFFFE, 0xE000, len(item)) + item for item in items])
        return self.element(tag, "SQ", body)


class _Reader:
    def __init__(self, data: bytes, *, order: _Order, is_implicit: bool, at_most: int) -> None:
        self._at_most = self._left = at_most
        self._data = data
        self._order = order
        self._is_implicit = is_implicit

    def elements(self, position: int, end: int, depth: int, *, is_open: bool) -> tuple[tuple[Element, ...], int]:
        """Read elements up to `end`, or to the delimiter of an item whose length is undefined."""
        found: list[Element] = []
        if not self._is_implicit:
            position = self._short_elements(position, end, found)
        while position < end:
            self._check_number(len(found))
            tag, vr, length, value_at = self._header(position, end)
            if tag == _ITEM_END and is_open:
                self._left -= len(found)
                return tuple(found), value_at
            if length == UNDEFINED_LENGTH or vr == "SQ" or (not vr and vr_of(tag) == "SQ"):
                if depth >= _DEPTH:
                    raise DataSetError(f"sequences nested deeper than {_DEPTH} levels")
                items, position = self._items(value_at, length, end, depth + 1)
                found.append(Element(tag, vr or "SQ", b"", items))
                continue
            if length > end - value_at:
                raise DataSetError(f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) reaches beyond the end")
            position = value_at + length
            found.append(Element(tag, vr, self._data[value_at:position]))
        if is_open:
            raise DataSetError("an item is not closed")
        self._check_number(len(found))
        self._left -= len(found)
        return tuple(found), position

    def _check_number(self, number: int) -> None:
        if number > self._left:
            raise DataSetError(f"more than {self._at_most} elements")

    def _short_elements(self, position: int, end: int, found: list[Element]) -> int:
        """Read what needs no second look, the most of an identifier; give where the rest begins."""
        data, unpack = self._data, self._order.short.unpack_from
        while position + 8 <= end and len(found) <= self._left:
            group, element, vr, length = unpack(data, position)
            value_end = position + 8 + length
            name = _SHORT_NAMES.get(vr)
            if name is None or value_end > end:
                break
            found.append(Element(group << 16 | element, name, data[position + 8 : value_end]))
            position = value_end
        return position

    def _header(self, position: int, end: int) -> tuple[int, str, int, int]:
        order, data = self._order, self._data
        if end - position < 8:
            raise DataSetError(f"{end - position} stray bytes at the end")
        group, element = order.tag.unpack_from(data, position)
        vr = data[position + 4 : position + 6]
        if self._is_implicit or group == 0xFFFE or vr not in _KNOWN:
            return group << 16 | element, "", order.length.unpack_from(data, position + 4)[0], position + 8
        if vr in LONG_VRS:
            if end - position < 12:
                raise DataSetError("an element's header is cut off")
            return group << 16 | element, vr.decode(), order.long.unpack_from(data, position)[3], position + 12
        return group << 16 | element, vr.decode(), order.short.unpack_from(data, position)[3], position + 8

    def _items(self, position: int, length: int, limit: int, depth: int) -> tuple[tuple[tuple[Element, ...], ...], int]:
        is_open = length == UNDEFINED_LENGTH
        end = limit if is_open else position + length
        if end > limit:
            raise DataSetError("a sequence reaches beyond the end")
        items: list[tuple[Element, ...]] = []
        while position < end:
            self._check_number(1)
            tag, _, item_length, value_at = self._header(position, end)
            if tag == _SEQUENCE_END and is_open:
                return tuple(items), value_at
            if tag != _ITEM:
                raise DataSetError("no item where one was expected")
            is_open_item = item_length == UNDEFINED_LENGTH
            item_end = end if is_open_item else value_at + item_length
            if item_end > end:
                raise DataSetError("an item reaches beyond its sequence")
            item, position = self.elements(value_at, item_end, depth, is_open=is_open_item)
            items.append(item)
            self._left -= 1
        if is_open:
            raise DataSetError("a sequence is not closed")
        return tuple(items), position


def read_elements(data: bytes, transfer_syntax_uid: str, *, at_most: int = sys.maxsize) -> tuple[Element, ...]:
    """
    Read a short data set, an identifier.

    Args:
        at_most: so many elements, those of sequences with them.

    Raises:
        DataSetError: it has no structure, has more elements, or is deflated.
    """
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
    if syntax is None or syntax.is_deflated:
        raise DataSetError("transfer syntax is not usable for an identifier")
    order = _LITTLE if syntax.is_little_endian else _BIG
    reader = _Reader(data, order=order, is_implicit=syntax.is_implicit_vr, at_most=at_most)
    return reader.elements(0, len(data), 0, is_open=False)[0]
