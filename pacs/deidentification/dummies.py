"""
Dummies: a value of the right VR that is never empty, and for each sequence an item that is valid for its macro.

None of them comes from the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pacs.deidentification.codec import ITEM, Encoding
from pacs.deidentification.tables import dummy_items, dummy_texts

REPLACED: Final = b"REMOVED"

_BINARY_WIDTHS: Final[Mapping[str, int]] = {
    "AT": 4, "FD": 8, "FL": 4, "OB": 2, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "SL": 4, "SS": 2, "SV": 8,
    "UL": 4, "UN": 2, "US": 2, "UV": 8,
}  # fmt: skip


def dummy_value(vr: str) -> bytes:
    """Give a value of a VR, without padding: zero for numbers."""
    width = _BINARY_WIDTHS.get(vr)
    return dummy_texts().get(vr, REPLACED) if width is None else bytes(width)


_NO_ITEM: Final[Mapping[str, Any]] = {}


@lru_cache(maxsize=256)
def dummy_item(sequence: int, encoding: Encoding) -> bytes:
    """Give an encoded item for a sequence; one without elements where no attribute of it is required."""
    return _item(dummy_items().get(sequence, _NO_ITEM), encoding)


def _item(elements: Mapping[str, Any], encoding: Encoding) -> bytes:
    body = b"".join([_element(int(tag, 16), vr, value, encoding) for tag, (vr, value) in sorted(elements.items())])
    return encoding.header(ITEM, "", len(body)) + body


def _element(tag: int, vr: str, value: Any, encoding: Encoding) -> bytes:
    if vr == "SQ":
        body = b"".join([_item(item, encoding) for item in value])
        return encoding.header(tag, vr, len(body)) + body
    if isinstance(value, str):
        return encoding.element(tag, vr, value.encode())
    order = "little" if encoding.is_little_endian else "big"
    return encoding.element(tag, vr, b"".join([number.to_bytes(2, order) for number in value]))
