"""
Data sets as values: what identifiers, worklist items and procedure steps are handled as, from elements and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Final

from pacs.dataset.charset import ONE_VALUE_VRS, UTF_8, decode_text, encode_text
from pacs.dataset.dictionary import vr_of
from pacs.dataset.elements import Element, ElementEncoder

SPECIFIC_CHARACTER_SET: Final = 0x00080005

_TEXT_VRS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_NO_VALUE_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_NUMBER_FORMATS: Final = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_NUMBERS: Final = {(vr, order): Struct(order + code) for vr, code in _NUMBER_FORMATS.items() for order in ("<", ">")}


@dataclass(frozen=True, slots=True)
class Value:
    """
    The value of an element.

    Attributes:
        text: several values with backslashes between them; numbers in decimal, tags (AT) as eight digits.
        items: of a sequence, each by tag; else None.
    """

    vr: str
    text: str = ""
    items: tuple[Mapping[int, Value], ...] | None = None


Values = Mapping[int, Value]
"""A data set, or an item of a sequence, by tag."""


def values_of(elements: Iterable[Element], character_set: str, order: str) -> dict[int, Value]:
    """
    Give the values of elements by tag; those of bulk and unknown VRs are left out, and group lengths (PS3.5 7.2), which
    would be wrong as soon as a value is changed or encoded anew.

    Args:
        character_set: where the elements themselves do not name one.
        order: "<" or ">", of the transfer syntax.
    """
    elements = tuple(elements)
    for element in elements:
        if element.tag == SPECIFIC_CHARACTER_SET and element.value:
            character_set = element.value.decode("latin-1").strip("\0 ")
    values: dict[int, Value] = {}
    for element in elements:
        value = _value(element, character_set, order) if element.tag & 0xFFFF else None
        if value is not None:
            values[element.tag] = value
    return values


def _value(element: Element, character_set: str, order: str) -> Value | None:
    if element.items is not None:
        return Value("SQ", "", tuple(values_of(item, character_set, order) for item in element.items))
    vr = element.vr if element.vr not in ("", "UN") else vr_of(element.tag)
    if vr in _NO_VALUE_VRS or vr == "SQ":
        return None
    return Value(vr, text_of(element.value, vr, character_set, order))


def text_of(raw: bytes, vr: str, character_set: str, order: str) -> str:
    """Give a raw value as text."""
    if vr in _TEXT_VRS:
        text = decode_text(raw, character_set, is_person_name=vr == "PN", is_one_value=vr in ONE_VALUE_VRS)
        return text.strip("\0 ")
    if vr == "AT":
        half = Struct(order + "HH")
        return "\\".join(f"{group:04X}{number:04X}" for group, number in half.iter_unpack(raw[: len(raw) & ~3]))
    number = _NUMBERS.get((vr, order))
    if number is not None:
        return "\\".join(repr(found) for (found,) in number.iter_unpack(raw[: len(raw) - len(raw) % number.size]))
    return raw.decode("latin-1").strip("\0 ")


def raw_of(text: str, vr: str, order: str) -> bytes | None:
    """Give the bytes of numbers and tags; None for a VR whose values are text."""
    if vr == "AT":
        half = Struct(order + "HH")
        return b"".join(half.pack(int(tag[:4], 16), int(tag[4:], 16)) for tag in text.split("\\") if len(tag) == 8)
    number = _NUMBERS.get((vr, order))
    if number is None:
        return None
    convert = float if vr in ("FL", "FD") else int
    return b"".join(number.pack(convert(part)) for part in text.split("\\") if part)


class ValueEncoder:
    """Encodes values in one transfer syntax."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self._encoder = ElementEncoder(transfer_syntax_uid)
        self._order = "<" if self._encoder.is_little_endian else ">"

    def data_set(self, values: Values, character_set: str) -> bytes:
        """
        Give a data set: in a character set where that can represent every value, else in UTF-8.

        Args:
            character_set: Specific Character Set that the reader is known to understand.
        """
        for wanted in (character_set, UTF_8):
            named = dict(values)
            named.pop(SPECIFIC_CHARACTER_SET, None)
            if wanted:
                named[SPECIFIC_CHARACTER_SET] = Value("CS", wanted)
            encoded = self._elements(named, wanted)
            if encoded is not None:
                return encoded
        raise AssertionError("UTF-8 represents every text")

    def element(self, tag: int, value: Value, character_set: str) -> bytes | None:
        """Give an element, or None when the character set can't represent it."""
        if value.vr == "SQ":
            items = [self._item(item, character_set) for item in value.items or ()]
            return None if None in items else self._encoder.sequence(tag, [item for item in items if item is not None])
        if (value.vr, self._order) in _NUMBERS or value.vr == "AT":
            return self._encoder.element(tag, value.vr, number_bytes(value.text, value.vr, self._order))
        if value.vr in _TEXT_VRS:
            data = encode_text(
                value.text,
                character_set,
                is_person_name=value.vr == "PN",
                is_one_value=value.vr in ONE_VALUE_VRS,
            )
            if data is None:
                return None
        else:
            data = value.text.encode("ascii", "replace")
        return self._encoder.element(tag, value.vr, padded(data, value.vr))

    def _item(self, item: Values, character_set: str) -> bytes | None:
        return self._elements({tag: v for tag, v in item.items() if tag != SPECIFIC_CHARACTER_SET}, character_set)

    def _elements(self, values: Values, character_set: str) -> bytes | None:
        encoded: list[bytes] = []
        for tag in sorted(values):
            element = self.element(tag, values[tag], character_set)
            if element is None:
                return None
            encoded.append(element)
        return b"".join(encoded)


def number_bytes(text: str, vr: str, order: str) -> bytes:
    """Give the bytes of numbers; none of what is none or does not fit."""
    try:
        return raw_of(text, vr, order) or b""
    except (ValueError, OverflowError, StructError):
        return b""


def padded(value: bytes, vr: str) -> bytes:
    """Give a value with an even length (PS3.5 6.2)."""
    return value + (b"\0" if vr == "UI" else b" ") if len(value) % 2 else value
