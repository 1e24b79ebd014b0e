"""
The identifiers of C-FIND responses, PS3.4 C.4.1.1.3.2, made by hand: they go out by the thousand.

What is the same in every response of a form is made once. A page whose values are all in the default repertoire is
encoded column by column: the heads of elements are found by the lengths of values and joined with these, so that a
response costs one or two microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pacs.archive.attributes import SPECIFIC_CHARACTER_SET, Level
from pacs.dataset.charset import UTF_8
from pacs.dataset.elements import ElementEncoder
from pacs.dataset.values import Value, ValueEncoder, number_bytes, padded, raw_of
from pacs.dimse import MessageEncoder
from pacs.services.identifiers import INSTANCE_AVAILABILITY, QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE

_SHORT_VALUE_BYTES: Final = 0xFFFE
REMEMBERED_FORMS: Final = 256


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


@dataclass(frozen=True, slots=True)
class ResponseForm:
    """
    What the responses of a query look like.

    Attributes:
        keys: tag and VR of each column, in the order of tags.
        character_set: of the request.
    """

    keys: tuple[tuple[int, str], ...]
    level: Level
    character_set: str
    transfer_syntax: str
    retrieve_ae_title: str


@lru_cache(maxsize=REMEMBERED_FORMS)
def response_encoder(form: ResponseForm) -> ResponseEncoder:
    """Give the encoder of a form; peers ask in the same form again and again."""
    return ResponseEncoder(form)


class ResponseEncoder:
    """Makes the identifiers of responses; may be used by several threads."""

    def __init__(self, form: ResponseForm) -> None:
        self._encoder = ElementEncoder(form.transfer_syntax)
        self._values = ValueEncoder(form.transfer_syntax)
        self._order = "<" if self._encoder.is_little_endian else ">"
        self._character_set = form.character_set
        self._keys = form.keys
        self._fixed: list[tuple[int, str, bytes]] = [
            (QUERY_RETRIEVE_LEVEL, "CS", padded(form.level.value.encode(), "CS")),
            (RETRIEVE_AE_TITLE, "AE", padded(form.retrieve_ae_title.encode("ascii", "replace"), "AE")),
            (INSTANCE_AVAILABILITY, "CS", b"ONLINE"),
        ]
        self._heads, self._tail = self._make_heads()
        self._columns = [
            (heads, "\0" if vr == "UI" else " ", vr if raw_of("", vr, self._order) is not None else "")
            for heads, (_, vr) in zip(self._heads, self._keys, strict=True)
        ]

    def encode_page(self, rows: Sequence[Sequence[Any]], messages: MessageEncoder) -> bytes:
        """
        Give the messages of some rows.

        A response is in the request's character set where that can represent every value, else in UTF-8.
        """
        if not rows:
            return b""
        encoded = self._encode_plain(rows, messages) if len(rows) > 1 else self._encode_one(rows[0], messages)
        if encoded is None:
            return b"".join([messages.message(self.encode(row)) for row in rows])
        return encoded

    def _encode_plain(self, rows: Sequence[Sequence[Any]], messages: MessageEncoder) -> bytes | None:
        """Encode column by column what is all in the default repertoire; give None when something is not."""
        parts: list[list[str]] = []
        for column, (heads, pad, number_vr) in zip(zip(*rows, strict=True), self._columns, strict=True):
            values: Sequence[str] = column
            try:
                if not "".join(values).isascii():
                    return None
            except TypeError:  # a value of the header
                return None
            if number_vr:
                values = [number_bytes(value, number_vr, self._order).decode("latin-1") for value in values]
            lengths = set(map(len, values))
            if max(lengths) > _SHORT_VALUE_BYTES:
                return None
            if len(lengths) == 1:
                (length,) = lengths
                head, end = heads[length], pad if length & 1 else ""
                parts.append([head + value + end for value in values])
            else:
                parts.append(
                    [
                        heads[length] + value + pad if (length := len(value)) & 1 else heads[length] + value
                        for value in values
                    ]
                )
        parts.append([self._tail] * len(rows))
        data_sets = list(map("".join, zip(*parts, strict=True)))
        before = {length: messages.before(length) for length in set(map(len, data_sets))}
        if None in before.values():
            return None
        heads_of = {length: (head or b"").decode("latin-1") for length, head in before.items()}
        return "".join([heads_of[len(data_set)] + data_set for data_set in data_sets]).encode("latin-1")

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

    def _encode_one(self, row: Sequence[Any], messages: MessageEncoder) -> bytes | None:
        """The same for one row alone."""
        parts: list[str] = []
        for value, (heads, pad, number_vr) in zip(row, self._columns, strict=True):
            if number_vr or value.__class__ is not str or not value.isascii() or len(value) > _SHORT_VALUE_BYTES:
                return None
            length = len(value)
            parts += (heads[length], value, pad) if length & 1 else (heads[length], value)
        parts.append(self._tail)
        return messages.message("".join(parts).encode("latin-1"))

    def encode(self, row: Sequence[Any]) -> bytes:
        """Give the identifier of any row."""
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
