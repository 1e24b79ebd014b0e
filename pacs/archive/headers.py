"""
Values that only the stored headers have: read from the index's packed header, or from the beginning of the object's
file while that header is not derived yet, or never is.

Runs in the index's reader threads.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final

from twisted.logger import Logger

from pacs.archive.attributes import SPECIFIC_CHARACTER_SET
from pacs.archive.derive import unpack_header
from pacs.archive.objects.files import FileStore
from pacs.dataset.charset import decode_text
from pacs.dataset.dictionary import vr_of
from pacs.dataset.elements import Element
from pacs.dataset.errors import DataSetError
from pacs.dataset.selection import Incomplete, select_elements
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES

FIRST_READ_BYTES: Final = 64 << 10
LONGEST_READ_BYTES: Final = 16 << 20  # a longer head is not looked through

_TEXT_VRS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_NO_VALUE_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_NUMBER_FORMATS: Final = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_NUMBERS: Final = {(vr, order): Struct(order + code) for vr, code in _NUMBER_FORMATS.items() for order in ("<", ">")}
_SELECT: Final = (
    "SELECT h.data, i.path, i.data_set_offset, i.transfer_syntax_uid, i.character_set"
    " FROM instances i LEFT JOIN headers h ON h.instance_pk = i.pk WHERE i.pk = ?"
)


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


class HeaderReader:
    """Reads headers of objects."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, store: FileStore) -> None:
        self._store = store

    def values(self, connection: sqlite3.Connection, instance_pk: int, wanted: frozenset[int]) -> dict[int, Value]:
        """Give the wanted values that an object has; of an object that is gone, or can't be read, none."""
        row = connection.execute(_SELECT, (instance_pk,)).fetchone()
        if row is None:
            return {}
        packed, path, offset, transfer_syntax_uid, character_set = row
        tags = wanted | {SPECIFIC_CHARACTER_SET}
        try:
            elements = self._elements(packed, path, offset, transfer_syntax_uid, tags)
        except (DataSetError, OSError, zlib.error) as error:
            self.log.warn("the header of an object can't be read: {error}", error=type(error).__name__)
            return {}
        is_little_endian = TRANSFER_SYNTAXES[transfer_syntax_uid].is_little_endian
        values = _values(tuple(elements.values()), character_set, "<" if is_little_endian else ">")
        return {tag: value for tag, value in values.items() if tag in wanted}

    def _elements(
        self, packed: bytes | None, path: str, offset: int, transfer_syntax_uid: str, wanted: frozenset[int]
    ) -> dict[int, Element]:
        if packed is not None:
            data, holes = unpack_header(packed)
            return select_elements(data, transfer_syntax_uid, wanted, holes=holes)
        descriptor = self._store.open_object(path)
        try:
            return _elements_of_file(descriptor, offset, transfer_syntax_uid, wanted)
        finally:
            os.close(descriptor)


def _elements_of_file(
    descriptor: int, offset: int, transfer_syntax_uid: str, wanted: frozenset[int]
) -> dict[int, Element]:
    """Read as much of a file as the wanted elements need."""
    is_deflated = TRANSFER_SYNTAXES[transfer_syntax_uid].is_deflated
    size = FIRST_READ_BYTES
    while True:
        data = os.pread(descriptor, size, offset)
        is_whole = len(data) < size
        if is_deflated:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflater.decompress(data, LONGEST_READ_BYTES)
        try:
            return select_elements(data, transfer_syntax_uid, wanted)
        except Incomplete:
            if is_whole or size >= LONGEST_READ_BYTES:
                raise
        size *= 4


def _values(elements: tuple[Element, ...], character_set: str, order: str) -> dict[int, Value]:
    for element in elements:
        if element.tag == SPECIFIC_CHARACTER_SET and element.value:
            character_set = element.value.decode("latin-1").strip("\0 ")
    values: dict[int, Value] = {}
    for element in elements:
        value = _value(element, character_set, order)
        if value is not None:
            values[element.tag] = value
    return values


def _value(element: Element, character_set: str, order: str) -> Value | None:
    if element.items is not None:
        return Value("SQ", "", tuple(_values(item, character_set, order) for item in element.items))
    vr = element.vr if element.vr not in ("", "UN") else vr_of(element.tag)
    if vr in _NO_VALUE_VRS or vr == "SQ":
        return None
    return Value(vr, text_of(element.value, vr, character_set, order))


def text_of(raw: bytes, vr: str, character_set: str, order: str) -> str:
    """Give a raw value as text."""
    if vr in _TEXT_VRS:
        return decode_text(raw, character_set, is_person_name=vr == "PN").strip("\0 ")
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
