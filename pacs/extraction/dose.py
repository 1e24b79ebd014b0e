"""
RT Dose: the planes of a grid begin elsewhere when the first frame is not taken (PS3.3 C.8.8.3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pacs.extraction.source import Source
from pacs.extraction.times import decimal_string

GRID_FRAME_OFFSET_VECTOR: Final = 0x3004000C
IMAGE_POSITION: Final = 0x00200032
IMAGE_ORIENTATION: Final = 0x00200037


def moved_grid(source: Source, frames: Sequence[int]) -> dict[int, tuple[str, bytes]]:
    """
    Give Grid Frame Offset Vector and Image Position (Patient) of some frames; nothing where the object has no grid.

    Offsets that begin with zero are relative to the position, along the normal of the planes; others are positions.
    """
    offsets = _floats(source, GRID_FRAME_OFFSET_VECTOR)
    position = _floats(source, IMAGE_POSITION)
    orientation = _floats(source, IMAGE_ORIENTATION)
    if len(offsets) != source.count or len(position) != 3 or len(orientation) != 6 or frames[0] == 1:
        return {}
    kept = [offsets[number - 1] for number in frames]
    if offsets[0] != 0:
        position[2] = kept[0]
        return {IMAGE_POSITION: ("DS", _values(position))}
    first = kept[0]
    position = [place + first * part for place, part in zip(position, _normal(orientation), strict=True)]
    return {
        IMAGE_POSITION: ("DS", _values(position)),
        GRID_FRAME_OFFSET_VECTOR: ("DS", _values([offset - first for offset in kept])),
    }


def _normal(orientation: Sequence[float]) -> tuple[float, float, float]:
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    return b * f - c * e, c * d - a * f, a * e - b * d


def _floats(source: Source, tag: int) -> list[float]:
    try:
        return [float(text) for text in source.texts(tag)]
    except ValueError:
        return []


def _values(values: Sequence[float]) -> bytes:
    text = "\\".join(map(decimal_string, values))
    return (text + " " * (len(text) % 2)).encode("ascii")
