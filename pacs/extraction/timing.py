"""
The times of an object that has some of the frames: when it begins, and how far its frames are apart (PS3.17 MM.2.2 and
MM.2.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from struct import pack
from typing import Final

from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.source import Source
from pacs.extraction.times import (
    CONTENT_DATE,
    CONTENT_TIME,
    FRAME_INCREMENT_POINTER,
    FRAME_TIME,
    FRAME_TIME_VECTOR,
    decimal_string,
    frame_offsets_ms,
    frame_times_s,
    moved,
    moved_datetime,
    regular_step,
)

ACQUISITION_DATE: Final = 0x00080022
ACQUISITION_TIME: Final = 0x00080032
ACQUISITION_DATETIME: Final = 0x0008002A
IMAGE_TRIGGER_DELAY: Final = 0x00181067

_New = dict[int, tuple[str, bytes]]


def time_changes(source: Source, frames: Sequence[int]) -> tuple[_New, set[int]]:
    """
    Give the elements that are replaced or added, and the tags of those that are left out.

    Raises:
        ExtractionError: FRAMES, the Frame Time Vector that orders the frames has not one value for each.
    """
    new: _New = {}
    left_out: set[int] = set()
    times = frame_times_s(source)
    if times is not None and times[frames[0] - 1] != times[0]:
        _begin_later(source, times[frames[0] - 1] - times[0], new)
    pointed = source.tags(FRAME_INCREMENT_POINTER)
    offsets = frame_offsets_ms(source)
    if FRAME_TIME_VECTOR in source.elements:
        vector = source.texts(FRAME_TIME_VECTOR)
        if len(vector) == source.count and offsets is not None:
            new[FRAME_TIME_VECTOR] = "DS", _vector(offsets, frames)
        elif FRAME_TIME_VECTOR in pointed:
            raise ExtractionError(Cause.FRAMES, "Frame Time Vector does not have a value for each frame")
        else:
            left_out.add(FRAME_TIME_VECTOR)
    if FRAME_TIME in source.elements and offsets is not None:
        step = regular_step(frames)
        if step is not None and step > 1:
            new[FRAME_TIME] = "DS", _even(decimal_string(offsets[frames[1] - 1] - offsets[frames[0] - 1]))
        elif step is None:
            left_out.add(FRAME_TIME)
            if FRAME_TIME in pointed:
                tags = [FRAME_TIME_VECTOR if tag == FRAME_TIME else tag for tag in pointed]
                new[FRAME_INCREMENT_POINTER] = "AT", _tags(list(dict.fromkeys(tags)))
                new[FRAME_TIME_VECTOR] = "DS", _vector(offsets, frames)
    return new, left_out


def _begin_later(source: Source, seconds: float, new: _New) -> None:
    for date_tag, time_tag in ((CONTENT_DATE, CONTENT_TIME), (ACQUISITION_DATE, ACQUISITION_TIME)):
        later = moved(source.text(date_tag), source.text(time_tag), seconds)
        if later is not None:
            date, time = later
            new[time_tag] = "TM", _even(time)
            if date:
                new[date_tag] = "DA", _even(date)
    moment = moved_datetime(source.text(ACQUISITION_DATETIME), seconds)
    if moment is not None:
        new[ACQUISITION_DATETIME] = "DT", _even(moment)
    try:
        delay_ms = float(source.text(IMAGE_TRIGGER_DELAY))
    except ValueError:
        return
    new[IMAGE_TRIGGER_DELAY] = "DS", _even(decimal_string(delay_ms + 1000 * seconds))


def _vector(offsets: Sequence[float], frames: Sequence[int]) -> bytes:
    places = [offsets[number - 1] for number in frames]
    steps = [0.0, *(following - place for place, following in itertools.pairwise(places))]
    return _even("\\".join(map(decimal_string, steps)))


def _tags(tags: Sequence[int]) -> bytes:
    return b"".join(pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)


def _even(text: str) -> bytes:
    return (text + " " * (len(text) % 2)).encode("ascii")
