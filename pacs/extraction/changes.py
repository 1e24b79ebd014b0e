"""
What is other in the new object's header than in its source's (PS3.4 Y.3.3, PS3.17 MM.2): which elements are replaced,
added or left out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import Final

from pacs.dataset.reencode import NewElement, NewValue
from pacs.dataset.walk import Kind
from pacs.extraction.dose import moved_grid
from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.request import FrameRequest
from pacs.extraction.source import Source, first_vr
from pacs.extraction.tables import (
    ALWAYS_LEFT_OUT,
    DIMENSION_ORGANIZATION_TYPE,
    FRAME_NUMBERS,
    LEFT_OUT_WHEN_CUT,
    MULTI_FRAME_SOURCE_SOP_INSTANCE_UID,
    NUMBER_OF_FRAMES,
    ONE_VALUE_A_FRAME,
    RECOMMENDED_VIEWING_MODE,
    SOP_INSTANCE_UID,
    TILED_FULL,
)
from pacs.extraction.times import FRAME_INCREMENT_POINTER, FRAME_TIME, FRAME_TIME_VECTOR
from pacs.extraction.timing import time_changes

MANUFACTURER: Final = "Production PACS"
_TEXT_VRS: Final = frozenset(("CS", "DS", "IS", "LO", "SH"))
_SIZES: Final = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4}
_NOT_VECTORS: Final = frozenset((FRAME_TIME, FRAME_TIME_VECTOR))


@dataclass(frozen=True, slots=True)
class Equipment:
    """
    Who extracts the frames.

    Attributes:
        station_name: at most 16 characters.
    """

    station_name: str
    software_version: str


@dataclass(slots=True)
class Changes:
    """
    Of the main data set.

    Attributes:
        new: elements that are replaced or added, by tag.
        left_out: tags.
    """

    new: dict[int, tuple[str, NewValue]] = field(default_factory=dict)
    left_out: set[int] = field(default_factory=set)


def even(text: str, padding: str = " ") -> bytes:
    """Give a value of even length."""
    return (text + padding * (len(text) % 2)).encode("latin-1")


def new_uid(source_uid: str, request: FrameRequest, equipment: Equipment) -> str:
    """Give the SOP Instance UID: the same whenever the same is asked of the same version (PS3.5 B.2)."""
    name = "/".join(
        (source_uid, request.key.name, request.value.hex(), equipment.station_name, equipment.software_version)
    )
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def extraction_item(source_uid: str, request: FrameRequest) -> list[NewElement]:
    """Give the item of the Frame Extraction Sequence (PS3.3 C.12.3)."""
    return [
        (request.key.value, request.key.vr, request.value),
        (MULTI_FRAME_SOURCE_SOP_INSTANCE_UID, "UI", even(source_uid, "\0")),
    ]


def equipment_item(equipment: Equipment) -> list[NewElement]:
    """Give the item of the Contributing Equipment Sequence (PS3.3 C.12.1)."""
    purpose: list[NewElement] = [
        (0x00080100, "SH", even("109105")),
        (0x00080102, "SH", even("DCM")),
        (0x00080104, "LO", even("Frame Extracting Equipment")),
    ]
    return [
        (0x00080070, "LO", even(MANUFACTURER)),
        (0x00081010, "SH", even(equipment.station_name)),
        (0x00081090, "LO", even(MANUFACTURER)),
        (0x00181020, "LO", even(equipment.software_version)),
        (0x0040A170, "SQ", [purpose]),
    ]


def header_changes(source: Source, frames: Sequence[int], uid: str) -> Changes:
    """
    Give what is other in the header.

    Raises:
        ExtractionError: SOP_CLASS or FRAMES, the object would not be valid.
    """
    changes = Changes(left_out=set(ALWAYS_LEFT_OUT))
    changes.new[SOP_INSTANCE_UID] = "UI", even(uid, "\0")
    changes.new[NUMBER_OF_FRAMES] = "IS", even(str(len(frames)))
    if len(frames) == source.count:
        return changes
    _refuse_what_can_not_be_cut(source)
    changes.left_out.update(LEFT_OUT_WHEN_CUT)
    if source.text(RECOMMENDED_VIEWING_MODE) == "SUB":  # the masks are gone
        changes.new[RECOMMENDED_VIEWING_MODE] = "CS", even("NAT")
    _cut_vectors(source, frames, changes)
    _renumber(source, frames, changes)
    changes.new.update(moved_grid(source, frames))
    replaced, left_out = time_changes(source, frames)
    changes.new.update(replaced)
    changes.left_out.update(left_out)
    return changes


def _refuse_what_can_not_be_cut(source: Source) -> None:
    if source.text(DIMENSION_ORGANIZATION_TYPE) == TILED_FULL:
        raise ExtractionError(Cause.SOP_CLASS, "positions of tiles are implied by all frames (TILED_FULL)")
    if source.functional_groups not in (None, source.count):
        raise ExtractionError(
            Cause.FRAMES,
            f"the object has {source.count} frames, but functional groups for {source.functional_groups}",
        )


def _cut_vectors(source: Source, frames: Sequence[int], changes: Changes) -> None:
    pointed = set(source.tags(FRAME_INCREMENT_POINTER)) - _NOT_VECTORS
    for tag in sorted(pointed | set(ONE_VALUE_A_FRAME)):
        token = source.elements.get(tag)
        if token is None or token.kind is not Kind.ELEMENT or not token.length:
            continue
        vr = first_vr(token.vr)
        value = cut_values(source, tag, frames)
        if value is not None:
            changes.new[tag] = vr, value
        elif tag in pointed:
            raise ExtractionError(
                Cause.FRAMES, f"({tag >> 16:04X},{tag & 0xFFFF:04X}) does not have a value for each frame"
            )


def cut_values(source: Source, tag: int, frames: Iterable[int]) -> bytes | None:
    """Give the values of some frames, in little endian; None when there is not one for each frame."""
    token = source.elements[tag]
    vr = first_vr(token.vr)
    if vr in _TEXT_VRS:
        texts = source.texts(tag)
        return even("\\".join(texts[number - 1] for number in frames)) if len(texts) == source.count else None
    size = _SIZES.get(vr)
    if size is None or token.length != size * source.count:
        return None
    raw = source.window.read(token.value_at, token.length)
    values = [raw[size * (number - 1) : size * number] for number in frames]
    if not token.is_little_endian:
        half = size // 2 if vr == "AT" else size
        values = [b"".join(part[at : at + half][::-1] for at in range(0, size, half)) for part in values]
    return b"".join(values)


def _renumber(source: Source, frames: Sequence[int], changes: Changes) -> None:
    """Give numbers of frames anew."""
    new_number = {number: index for index, number in enumerate(frames, 1)}
    for tag, beside in FRAME_NUMBERS.items():
        numbers = source.numbers(tag)
        if numbers is None:
            continue
        kept = [place for place, number in enumerate(numbers) if number in new_number]
        if not kept:
            changes.left_out.update((tag, *beside))
            continue
        values = [new_number[int(numbers[place])] for place in kept]
        changes.new[tag] = "US", pack(f"<{len(values)}H", *values)
        for companion in beside:
            texts = source.texts(companion)
            if len(texts) == len(numbers):
                token = source.elements[companion]
                changes.new[companion] = first_vr(token.vr), even("\\".join(texts[place] for place in kept))
            else:
                changes.left_out.add(companion)
