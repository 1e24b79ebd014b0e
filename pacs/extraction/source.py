"""
The object that frames are taken from: what its header says about its frames, in one walk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from pacs.dataset.facts import Facts, gather
from pacs.dataset.frames import number_of_frames
from pacs.dataset.scanner import ScanLimits
from pacs.dataset.transfer_syntaxes import TransferSyntax
from pacs.dataset.walk import PIXEL_DATA, Dictionary, Kind, Token, Walk
from pacs.dataset.window import Window
from pacs.extraction.errors import Cause, ExtractionError

FLOAT_PIXEL_DATA: Final = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009
PIXELS: Final = (PIXEL_DATA, FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA)
PER_FRAME_FUNCTIONAL_GROUPS: Final = 0x52009230
_FRAME_CONTENT: Final = 0x00209111
_FRAME_REFERENCE_DATETIME: Final = 0x00189151
_NUMBER_OF_FRAMES: Final = 0x00280008
_LONGEST_TEXT_BYTES: Final = 1 << 20

_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "AT": "H"}
"""The array types of values."""


def first_vr(vr: str) -> str:
    """Give the first of several that a dictionary has for a tag."""
    return vr.split(" or ", 1)[0]


class Source:
    """
    What one walk has found.

    Attributes:
        levels: facts of the data set and its items, by offset.
        elements: the elements of the main data set, by tag.
        pixels: of the pixel data.
        count: how many frames it says that it has.
        functional_groups: how many items the Per-frame Functional Groups Sequence has; None without it.
        frame_datetimes: the Frame Reference DateTime of each of them, as far as they have one.

    Raises:
        DataSetError: it has no structure.
        ExtractionError: SOP_CLASS, it is no multi-frame image.
    """

    def __init__(self, window: Window, syntax: TransferSyntax, dictionary: Dictionary, limits: ScanLimits) -> None:
        self.window = window
        self.elements: dict[int, Token] = {}
        self.functional_groups: int | None = None
        self.frame_datetimes: list[str] = []
        self.levels = gather(self._noting(Walk(window, syntax, dictionary, limits)), window)
        self.facts = self.levels.get(0, Facts())
        pixels = next((self.elements[tag] for tag in PIXELS if tag in self.elements), None)
        if pixels is None or _NUMBER_OF_FRAMES not in self.elements:
            raise ExtractionError(Cause.SOP_CLASS, "the object is no multi-frame image")
        self.pixels = pixels
        self.count = number_of_frames(self.facts)

    @property
    def is_encapsulated(self) -> bool:
        """The pixel data are in fragments."""
        return self.pixels.kind is Kind.FRAGMENTS

    def _noting(self, walk: Walk) -> Iterator[Token]:
        path: list[int] = []  # the sequences that the walk is in
        for token in walk:
            kind = token.kind
            if not path and kind in (Kind.ELEMENT, Kind.SEQUENCE, Kind.FRAGMENTS):
                self.elements.setdefault(token.tag, token)
            if kind is Kind.SEQUENCE:
                path.append(token.tag)
                if path == [PER_FRAME_FUNCTIONAL_GROUPS]:
                    self.functional_groups = 0
            elif kind is Kind.SEQUENCE_END:
                path.pop()
            elif kind is Kind.ITEM and path == [PER_FRAME_FUNCTIONAL_GROUPS]:
                assert self.functional_groups is not None
                self.functional_groups += 1
            elif token.tag == _FRAME_REFERENCE_DATETIME and path == [PER_FRAME_FUNCTIONAL_GROUPS, _FRAME_CONTENT]:
                self.frame_datetimes.append(self._text(token))
            yield token

    def text(self, tag: int) -> str:
        """Give the value of an element as text, without padding; empty when it is not there."""
        token = self.elements.get(tag)
        return "" if token is None or token.kind is not Kind.ELEMENT else self._text(token)

    def texts(self, tag: int) -> list[str]:
        """Give the values of an element as text; none when it is empty or not there."""
        text = self.text(tag)
        return [part.strip(" ") for part in text.split("\\")] if text else []

    def numbers(self, tag: int) -> Sequence[int] | Sequence[float] | None:
        """Give the values of an element with a binary VR; None when it has none, or is not there."""
        token = self.elements.get(tag)
        code = None if token is None else _NUMBERS.get(first_vr(token.vr))
        if token is None or code is None:
            return None
        values = array(code)
        values.frombytes(self.window.read(token.value_at, token.length // values.itemsize * values.itemsize))
        if not token.is_little_endian:
            values.byteswap()
        return values

    def tags(self, tag: int) -> list[int]:
        """Give the values of an element with VR AT."""
        halves = self.numbers(tag) or ()
        return [int(halves[at]) << 16 | int(halves[at + 1]) for at in range(0, len(halves) - 1, 2)]

    def _text(self, token: Token) -> str:
        length = min(token.length, _LONGEST_TEXT_BYTES)
        return self.window.read(token.value_at, length).decode("latin-1").strip("\0 ")
