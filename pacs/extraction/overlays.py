"""
Overlays with a plane for each of several frames (PS3.3 C.9.3): cut like the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import Final

from pacs.dataset.reencode import NewValue
from pacs.extraction.pixels import NativeRun
from pacs.extraction.source import Source

_GROUPS: Final = range(0x6000, 0x6020, 2)
_ROWS: Final = 0x0010
_COLUMNS: Final = 0x0011
_NUMBER_OF_FRAMES_IN_OVERLAY: Final = 0x0015
_IMAGE_FRAME_ORIGIN: Final = 0x0051
_OVERLAY_DATA: Final = 0x3000


@dataclass(slots=True)
class Overlays:
    """
    What becomes of the overlays.

    Attributes:
        new: attributes that are replaced, by tag.
        data: Overlay Data that are cut, by tag.
        left_out: groups of overlays for other frames alone.
    """

    new: dict[int, tuple[str, NewValue]] = field(default_factory=dict)
    data: dict[int, NativeRun] = field(default_factory=dict)
    left_out: set[int] = field(default_factory=set)


def cut_overlays(source: Source, frames: Sequence[int]) -> Overlays:
    """
    Cut overlays of several frames; one that has a single plane is for all frames, and stays.

    Raises:
        ExtractionError: FRAMES, the Overlay Data end too early.
    """
    overlays = Overlays()
    if len(frames) == source.count:
        return overlays
    for group in _GROUPS:
        base = group << 16
        planes = source.text(base | _NUMBER_OF_FRAMES_IN_OVERLAY)
        data = source.elements.get(base | _OVERLAY_DATA)
        if not planes.isdecimal() or data is None:
            continue
        origin = _number(source, base | _IMAGE_FRAME_ORIGIN, 1)
        kept = [number - origin + 1 for number in frames if origin <= number < origin + int(planes)]
        bits = _number(source, base | _ROWS, 0) * _number(source, base | _COLUMNS, 0)
        if not kept or not bits:
            overlays.left_out.add(group)
            continue
        overlays.new[base | _NUMBER_OF_FRAMES_IN_OVERLAY] = "IS", _even(str(len(kept)))
        first = frames.index(kept[0] + origin - 1) + 1
        overlays.new[base | _IMAGE_FRAME_ORIGIN] = "US", pack("<H", first)
        overlays.data[base | _OVERLAY_DATA] = NativeRun(source.window, data, bits, kept, has_words=data.vr == "OW")
    return overlays


def _number(source: Source, tag: int, default: int) -> int:
    numbers = source.numbers(tag)
    return int(numbers[0]) if numbers else default


def _even(text: str) -> bytes:
    return (text + " " * (len(text) % 2)).encode("ascii")
