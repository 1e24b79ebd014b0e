"""
What the encoding of an element depends on, gathered before a data set is encoded anew: attributes that stand behind the
elements that depend on them, and pixel data that will be decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pacs.dataset.walk import PIXEL_DATA, Kind, Token
from pacs.dataset.window import Window

SAMPLES_PER_PIXEL: Final = 0x00280002
PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
PLANAR_CONFIGURATION: Final = 0x00280006
NUMBER_OF_FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
PIXEL_REPRESENTATION: Final = 0x00280103
WAVEFORM_BITS_ALLOCATED: Final = 0x54001004
EXTENDED_OFFSET_TABLE: Final = 0x7FE00001
EXTENDED_OFFSET_TABLE_LENGTHS: Final = 0x7FE00002

_NUMBERS: Final = frozenset(
    (
        SAMPLES_PER_PIXEL, PLANAR_CONFIGURATION, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, PIXEL_REPRESENTATION,
        WAVEFORM_BITS_ALLOCATED,
    )
)  # fmt: skip
_TEXTS: Final = frozenset((PHOTOMETRIC_INTERPRETATION, NUMBER_OF_FRAMES))
_PLACES: Final = frozenset((EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS, PIXEL_DATA))
_LONGEST_BYTES: Final = 64


@dataclass(slots=True)
class Facts:
    """
    Of one data set, the main one or an item.

    Attributes:
        numbers: values of US elements.
        texts: values of CS and IS elements, without padding.
        places: where Pixel Data and its offset tables are.
    """

    numbers: dict[int, int] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    places: dict[int, Token] = field(default_factory=dict)


def gather(tokens: Iterable[Token], window: Window) -> dict[int, Facts]:
    """
    Walk to the end; give the facts of each data set that has any, by the offset of its first element.

    Raises:
        DataSetError: from the walk.
    """
    found: dict[int, Facts] = {}
    stack = [0]
    for token in tokens:
        kind, tag = token.kind, token.tag
        if kind is Kind.ELEMENT:
            if tag in _NUMBERS and token.length >= 2:
                raw = window.read(token.value_at, 2)
                numbers = found.setdefault(stack[-1], Facts()).numbers
                numbers[tag] = int.from_bytes(raw, "little" if token.is_little_endian else "big")
            elif tag in _TEXTS and token.length <= _LONGEST_BYTES:
                text = window.read(token.value_at, token.length).decode("latin-1").strip("\0 ")
                found.setdefault(stack[-1], Facts()).texts[tag] = text
            elif tag in _PLACES:
                found.setdefault(stack[-1], Facts()).places[tag] = token
        elif kind is Kind.FRAGMENTS:
            if tag == PIXEL_DATA:
                found.setdefault(stack[-1], Facts()).places[tag] = token
        elif kind is Kind.ITEM:
            stack.append(token.value_at)
        elif kind is Kind.ITEM_END:
            stack.pop()
    return found
