"""
When each frame was, as Time Range needs it (PS3.4 Y.3.2.1.3), and attributes with a time moved by some seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import accumulate, pairwise
from typing import Final

from pacs.extraction.source import Source

CONTENT_DATE: Final = 0x00080023
CONTENT_TIME: Final = 0x00080033
TIMEZONE_OFFSET_FROM_UTC: Final = 0x00080201
FRAME_INCREMENT_POINTER: Final = 0x00280009
FRAME_TIME: Final = 0x00181063
FRAME_TIME_VECTOR: Final = 0x00181065
FRAME_DELAY: Final = 0x00181066

_DATETIME: Final = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,6}))?([+-]\d{4})?$")
_TIME: Final = re.compile(r"(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,6}))?$")
_DATE: Final = re.compile(r"\d{8}$")
_SOME_DATE: Final = "20000102"  # for a time without a date


def frame_times_s(source: Source) -> list[float] | None:
    """Give the time of each frame after the Content Time, in seconds; None when it is unknown."""
    times = _by_datetimes(source)
    if times is None:
        delay_ms = _number(source.text(FRAME_DELAY)) or 0.0
        offsets = frame_offsets_ms(source)
        times = None if offsets is None else [(delay_ms + offset) / 1000 for offset in offsets]
    return times


def frame_offsets_ms(source: Source) -> list[float] | None:
    """Give the time of each frame after the first, by Frame Time Vector or Frame Time (PS3.3 C.7.6.5)."""
    pointed = source.tags(FRAME_INCREMENT_POINTER)
    vector = [_number(text) for text in source.texts(FRAME_TIME_VECTOR)]
    increments = [value for value in vector if value is not None]
    has_vector = len(increments) == len(vector) == source.count
    frame_time = _number(source.text(FRAME_TIME))
    if has_vector and not (FRAME_TIME in pointed and FRAME_TIME_VECTOR not in pointed):
        return list(accumulate([0.0, *increments[1:]]))
    if frame_time is None:
        return None
    return [number * frame_time for number in range(source.count)]


def _by_datetimes(source: Source) -> list[float] | None:
    texts = source.frame_datetimes
    if not texts or len(texts) != source.count or source.functional_groups != source.count:
        return None
    date = source.text(CONTENT_DATE) or texts[0][:8]
    content = parse_datetime(date + source.text(CONTENT_TIME)) if source.text(CONTENT_TIME) else None
    moments = [parse_datetime(text) for text in texts]
    if content is None or None in moments:
        return None
    zone = _zone(source.text(TIMEZONE_OFFSET_FROM_UTC))
    return [_difference_s(moment, content, zone) for moment in moments if moment is not None]


def _difference_s(moment: datetime, content: datetime, zone: timezone | None) -> float:
    if moment.tzinfo is not None and zone is not None:
        return (moment - content.replace(tzinfo=zone)).total_seconds()
    return (moment.replace(tzinfo=None) - content).total_seconds()


def parse_datetime(text: str) -> datetime | None:
    """Read a DT to the second at least, or a DA and a TM one behind the other; None when it is something else."""
    match = _DATETIME.match(text)
    if match is None:
        return None
    parts = match.groups(default="")
    year, month, day, hour, minute, second = (int(part or 0) for part in parts[:6])
    microsecond = int(parts[6].ljust(6, "0"))
    try:
        return datetime(year, month, day, hour, minute, second, microsecond, _zone(parts[7]))
    except ValueError:
        return None


def moved(date: str, time: str, seconds: float) -> tuple[str, str] | None:
    """Give a DA and a TM some seconds later; None when they can't be read. The date may be empty, and stays so."""
    moment = parse_datetime((date or _SOME_DATE) + time) if _TIME.match(time) else None
    if moment is None or (date and not _DATE.match(date)):
        return None
    later = moment + timedelta(seconds=seconds)
    return f"{later:%Y%m%d}" if date else "", _fraction(f"{later:%H%M%S}", later)


def moved_datetime(text: str, seconds: float) -> str | None:
    """Give a DT some seconds later; None when it can't be read."""
    moment = parse_datetime(text)
    if moment is None:
        return None
    later = moment + timedelta(seconds=seconds)
    return _fraction(f"{later:%Y%m%d%H%M%S}", later) + (text[-5:] if moment.tzinfo is not None else "")


def decimal_string(value: float) -> str:
    """Give a number as DS, of 16 characters at most (PS3.5 6.2)."""
    for digits in range(12, 5, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{value:.6g}"


def regular_step(numbers: Sequence[int]) -> int | None:
    """Give the distance of numbers that are equally far from each other, 1 when there is one; else None."""
    steps = {following - number for number, following in pairwise(numbers)}
    return (steps.pop() if steps else 1) if len(steps) <= 1 else None


def _fraction(text: str, moment: datetime) -> str:
    return f"{text}.{moment.microsecond:06d}" if moment.microsecond else text


def _zone(text: str) -> timezone | None:
    if not re.fullmatch(r"[+-]\d{4}", text):
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes)) if minutes < 24 * 60 else None


def _number(text: str) -> float | None:
    try:
        value = float(text.split("\\", 1)[0])
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None  # no NaN, no infinity
