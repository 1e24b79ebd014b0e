"""
The identifiers of C-FIND responses, PS3.4 C.4.1.1.3.2, made by hand: they go out by the thousand.

What is the same in every response of a query is made once. A row whose values are all in the default repertoire then
costs about a microsecond: the heads of its elements, found by the lengths of its values, joined with these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from pacs.archive.attributes import SPECIFIC_CHARACTER_SET
from pacs.dataset.charset import UTF_8
from pacs.dataset.elements import ElementEncoder
from pacs.dataset.values import Value, ValueEncoder, number_bytes, padded, raw_of
from pacs.services.identifiers import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    Identifier,
)

_SHORT_VALUE_BYTES: Final = 0xFFFE


class _Heads(dict[int, str]):
    """
    What stands before a value, by its length: the elements that are always the same, and its own tag and length.

    Bytes are held as text of as many characters, so that a row is joined and encoded once.
    """

    def __init__(self, before: bytes, head: Callable[[int], bytes]) -> None:
        super().__init__()
        self._before = before
        self._head = head

    def __missing__(self, length: int) -> str:
        made = self[length] = (self._before + self._head(length + length % 2)).decode("latin-1")
        return made


class ResponseEncoder:
    """Makes the identifiers of one query's responses; used by one thread at a time."""

    def __init__(self, identifier: Identifier, *, transfer_syntax: str, retrieve_ae_title: str) -> None:
        self._encoder = ElementEncoder(transfer_syntax)
        self._values = ValueEncoder(transfer_syntax)
        self._order = "<" if self._encoder.is_little_endian else ">"
        self._character_set = identifier.character_set
        self._keys = identifier.keys
        self._fixed: list[tuple[int, str, bytes]] = [
            (QUERY_RETRIEVE_LEVEL, "CS", padded(identifier.query.level.value.encode(), "CS")),
            (RETRIEVE_AE_TITLE, "AE", padded(retrieve_ae_title.encode("ascii", "replace"), "AE")),
            (INSTANCE_AVAILABILITY, "CS", b"ONLINE"),
        ]
        self._heads, self._tail = self._make_heads()
        self._pads = ["\0" if vr == "UI" else " " for _, vr in self._keys]
        self._binary = [(i, vr) for i, (_, vr) in enumerate(self._keys) if raw_of("", vr, self._order) is not None]

    def encode(self, row: Sequence[Any]) -> bytes:
        """
        Give one identifier.

        It is in the request's character set where that can represent every value, else in UTF-8.
        """
        try:
            is_plain = "".join(row).isascii()
        except TypeError:  # a value of the header
            is_plain = False
        if not is_plain:
            return self._encode_slowly(row)
        if self._binary:
            row = list(row)
            for i, vr in self._binary:
                row[i] = number_bytes(row[i], vr, self._order).decode("latin-1")
        parts: list[str] = []
        for value, heads, pad in zip(row, self._heads, self._pads, strict=True):
            length = len(value)
            if length & 1:
                parts += (heads[length], value, pad)
            else:
                parts += (heads[length], value)
            if length > _SHORT_VALUE_BYTES:
                return self._encode_slowly(row)
        parts.append(self._tail)
        return "".join(parts).encode("latin-1")

    # -- within

    def _make_heads(self) -> tuple[list[_Heads], str]:
        encoder = self._encoder
        fixed = list(self._fixed)
        if self._character_set:
            fixed.append(self._character_set_element(self._character_set))
        fixed.sort()
        heads: list[_Heads] = []
        for tag, vr in self._keys:
            before = b""
            while fixed and fixed[0][0] < tag:
                before += encoder.element(*fixed.pop(0))
            heads.append(_Heads(before, _head_maker(encoder, tag, vr)))
        return heads, encoder.data_set(fixed).decode("latin-1")

    def _character_set_element(self, character_set: str) -> tuple[int, str, bytes]:
        return SPECIFIC_CHARACTER_SET, "CS", padded(character_set.encode("ascii", "replace"), "CS")

    def _encode_slowly(self, row: Sequence[Any]) -> bytes:
        character_set = self._character_set
        elements = self._elements(row, character_set)
        if elements is None:
            character_set = UTF_8
            elements = self._elements(row, character_set)
            assert elements is not None
        encoded = [(tag, self._encoder.element(tag, vr, data)) for tag, vr, data in self._fixed] + elements
        if character_set:
            encoded.append((SPECIFIC_CHARACTER_SET, self._encoder.element(*self._character_set_element(character_set))))
        encoded.sort()
        return b"".join([element for _, element in encoded])

    def _elements(self, row: Sequence[Any], character_set: str) -> list[tuple[int, bytes]] | None:
        elements: list[tuple[int, bytes]] = []
        for (tag, vr), value in zip(self._keys, row, strict=True):
            encoded = self._values.element(
                tag, value if isinstance(value, Value) else Value(vr, value or ""), character_set
            )
            if encoded is None:
                return None
            elements.append((tag, encoded))
        return elements


def _head_maker(encoder: ElementEncoder, tag: int, vr: str) -> Callable[[int], bytes]:
    def head(length: int) -> bytes:
        return encoder.head(tag, vr, min(length, _SHORT_VALUE_BYTES))

    return head
