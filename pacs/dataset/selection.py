"""
A few elements out of a stored data set: of its header with holes where bulk values were, or of the beginning of its
file. Objects have passed the scanner before; what is odd about their encoding is read as the scanner reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from pacs.dataset.dictionary import vr_of
from pacs.dataset.elements import Element
from pacs.dataset.errors import DataSetError
from pacs.dataset.scanner import LONG_VRS, SHORT_VRS, UNDEFINED_LENGTH
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES

_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_DEPTH: Final = 64


class Incomplete(DataSetError):
    """The bytes end before every wanted element was passed: more of the file is needed."""


class _Order:
    def __init__(self, order: str) -> None:
        self.tag = Struct(order + "HH")
        self.short = Struct(order + "H")
        self.long = Struct(order + "L")


_LITTLE: Final = _Order("<")
_BIG: Final = _Order(">")


class _Selection:
    """
    One walk over the main data set.

    Positions are offsets in the whole data set; `_shift` is how many of its bytes are missing before one.
    """

    def __init__(self, data: bytes, holes: Sequence[tuple[int, int]], order: _Order, *, is_implicit: bool) -> None:
        self._data = data
        self._holes = holes
        self._next_hole = 0
        self._shift = 0
        self._order = order
        self._is_implicit = is_implicit
        self._depth = 0

    def select(self, wanted: frozenset[int]) -> dict[int, Element]:
        found: dict[int, Element] = {}
        last = max(wanted)
        position = 0
        end = len(self._data) + sum(length for _, length in self._holes)
        while end - position >= 8:
            tag, vr, length, value_at = self._header(position, self._is_implicit)
            if tag > last and tag >> 16 != 0xFFFE:
                return found
            if tag in wanted:
                element, position = self._element(tag, vr, length, value_at, self._is_implicit)
                found.setdefault(tag, element)
            else:
                position = self._behind(vr, length, value_at, self._is_implicit)
        if position > end:
            raise Incomplete("the last value is cut off")
        return found

    def _bytes(self, position: int, count: int) -> bytes:
        """Give some bytes; none of a value that is a hole."""
        while self._next_hole < len(self._holes) and self._holes[self._next_hole][0] < position:
            self._shift += self._holes[self._next_hole][1]
            self._next_hole += 1
        if self._next_hole < len(self._holes) and self._holes[self._next_hole][0] < position + count:
            return b""
        at = position - self._shift
        data = self._data[at : at + count]
        if len(data) < count:
            raise Incomplete("the data set is cut off")
        return data

    def _header(self, position: int, is_implicit: bool) -> tuple[int, str, int, int]:
        order = self._order
        head = self._bytes(position, 8)
        if not head:
            raise DataSetError("the header and its holes do not fit")
        group, number = order.tag.unpack_from(head)
        tag = group << 16 | number
        vr = head[4:6]
        if is_implicit or group == 0xFFFE or not (vr.isalpha() and vr.isupper()):
            return tag, "", order.long.unpack_from(head, 4)[0], position + 8
        if vr in SHORT_VRS:
            return tag, vr.decode(), order.short.unpack_from(head, 6)[0], position + 8
        return tag, vr.decode(), order.long.unpack(self._bytes(position + 8, 4))[0], position + 12

    def _behind(self, vr: str, length: int, value_at: int, is_implicit: bool) -> int:
        """Give where the next element is."""
        if length != UNDEFINED_LENGTH:
            return value_at + length
        return self._items(value_at, length, is_implicit or vr == "UN", keeps=False)[1]

    def _element(self, tag: int, vr: str, length: int, value_at: int, is_implicit: bool) -> tuple[Element, int]:
        if length == UNDEFINED_LENGTH or vr == "SQ" or (not vr and vr_of(tag) == "SQ"):
            items, position = self._items(value_at, length, is_implicit or vr == "UN", keeps=True)
            return Element(tag, "SQ", b"", items), position
        return Element(tag, vr, self._bytes(value_at, length)), value_at + length

    def _items(
        self, position: int, length: int, is_implicit: bool, *, keeps: bool
    ) -> tuple[tuple[tuple[Element, ...], ...], int]:
        self._depth += 1
        if self._depth > _DEPTH:
            raise DataSetError(f"sequences nested deeper than {_DEPTH} levels")
        items: list[tuple[Element, ...]] = []
        end = position + length if length != UNDEFINED_LENGTH else None
        while end is None or position < end:
            tag, _, item_length, value_at = self._header(position, True)
            if tag == _SEQUENCE_END:
                position = value_at
                break
            if tag != _ITEM:
                raise DataSetError("no item where one was expected")
            if keeps or item_length == UNDEFINED_LENGTH:
                item, position = self._item(value_at, item_length, is_implicit, keeps=keeps)
                items.append(item)
            else:
                position = value_at + item_length
        self._depth -= 1
        return tuple(items), position

    def _item(self, position: int, length: int, is_implicit: bool, *, keeps: bool) -> tuple[tuple[Element, ...], int]:
        found: list[Element] = []
        end = position + length if length != UNDEFINED_LENGTH else None
        while end is None or position < end:
            tag, vr, value_length, value_at = self._header(position, is_implicit)
            if tag == _ITEM_END:
                return tuple(found), value_at
            if keeps:
                element, position = self._element(tag, vr, value_length, value_at, is_implicit)
                found.append(element)
            else:
                position = self._behind(vr, value_length, value_at, is_implicit)
        return tuple(found), position


def _begins_implicit(data: bytes, *, is_implicit: bool) -> bool:
    """Look at the first element, as the scanner does: is it encoded as the transfer syntax says?"""
    vr = data[4:6]
    is_explicit = vr.isalpha() and vr.isupper() and (not is_implicit or vr in SHORT_VRS or vr in LONG_VRS)
    return not is_explicit


def select_elements(
    data: bytes, transfer_syntax_uid: str, wanted: frozenset[int], *, holes: Sequence[tuple[int, int]] = ()
) -> dict[int, Element]:
    """
    Give the wanted elements of a main data set, by tag; a value that is a hole is empty.

    Args:
        data: inflated, when the transfer syntax is deflated.
        holes: offset in the data set and length of each value that `data` lacks, in their order.

    Raises:
        Incomplete: the bytes end before the last wanted tag was passed.
        DataSetError: they have no structure.
    """
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
    if syntax is None:
        raise DataSetError("unknown transfer syntax")
    if not wanted or not data:
        return {}
    order = _LITTLE if syntax.is_little_endian else _BIG
    is_implicit = _begins_implicit(data, is_implicit=syntax.is_implicit_vr)
    return _Selection(data, holes, order, is_implicit=is_implicit).select(wanted)
