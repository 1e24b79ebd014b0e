"""
Dates, times and date-times as keys and as stored values: what they mean, compared as text (PS3.4 C.2.2.2.1.3 and
C.2.2.2.5, PS3.5 6.2).

A value of less precision is the whole day, hour or minute. Dates with points and times with colons, of old objects,
mean the same as without.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

_DATE: Final = re.compile(r"\d{8}")
_TIME: Final = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_DATE_TIME_TEXT: Final = r"\d{4}(?:\d{2}){0,5}(?:\.\d{1,6})?(?:[+-]\d{4})?"
_DATE_TIME: Final = re.compile(r"(\d{4}(?:\d{2}){0,5})(?:\.(\d{1,6}))?([+-]\d{4})?")
_DATE_TIME_RANGE: Final = re.compile(rf"({_DATE_TIME_TEXT})?\s*-\s*({_DATE_TIME_TEXT})?")
_COMPLETE: Final = ("00010101000000", "99991231235959")


class Ends(NamedTuple):
    """
    What a key means.

    Attributes:
        low, high: included; "" where the range is open.
        is_range: it was written as a range.
    """

    low: str
    high: str
    is_range: bool


def _parts(value: str) -> tuple[str, str, bool]:
    low, dash, high = value.partition("-")
    return (low.strip(), high.strip(), True) if dash else (value.strip(), value.strip(), False)


def date_ends(value: str) -> Ends | None:
    """Give the days that a key means, or None when it is no date."""
    low, high, is_range = _parts(value.replace(".", "").replace(":", ""))
    if any(part and not _DATE.fullmatch(part) for part in (low, high)):
        return None
    return Ends(low, high, is_range)


def time_ends(value: str) -> Ends | None:
    """Give the times that a key means, to the microsecond, or None when it is no time."""
    low, high, is_range = _parts(value.replace(":", ""))
    if any(part and not _TIME.fullmatch(part) for part in (low, high)):
        return None
    return Ends(low and low.ljust(6, "0"), latest_time(high), is_range)


def latest_time(time: str) -> str:
    """Give the last moment that a time of limited precision means."""
    if not time or "." in time:
        return time and time.ljust(13, "9")
    return (time + "5959"[len(time) - 2 : 4] if len(time) < 6 else time) + ".999999"


def normal_date(value: str) -> str:
    """Give a stored date without points, or "" when it is none."""
    plain = value.strip().replace(".", "")
    return plain if _DATE.fullmatch(plain) else ""


def normal_time(value: str) -> str:
    """Give a stored time as it is compared: its beginning when it is of less precision; "" when it is none."""
    plain = value.strip().replace(":", "")
    return plain.ljust(6, "0") if _TIME.fullmatch(plain) else ""


def date_time_ends(value: str) -> Ends | None:
    """Give the moments that a key means, in UTC, or None when it is no date-time."""
    single = _DATE_TIME.fullmatch(value.strip())
    if single is not None and not (single[3] or "").startswith("-"):
        return Ends(*moments(value.strip()), False)
    found = _DATE_TIME_RANGE.fullmatch(value.strip())
    if found is not None:
        low = moments(found[1])[0] if found[1] else ""
        high = moments(found[2])[1] if found[2] else ""
        if not (low and high and low > high) or single is None:
            return Ends(low, high, True)
    return Ends(*moments(value.strip()), False) if single is not None else None  # "-0500" behind it is its offset


def moments(value: str) -> tuple[str, str]:
    """
    Give the first and the last moment that a date-time means, in UTC, or two "" when it is none.

    One without an offset is taken to be in UTC.
    """
    found = _DATE_TIME.fullmatch(value.strip())
    if found is None:
        return "", ""
    digits, fraction, offset = found[1], found[2], found[3]
    early = _moment(digits + _COMPLETE[0][len(digits) :], (fraction or "").ljust(6, "0"), offset)
    late = _moment(_end_of(digits), (fraction or "").ljust(6, "9"), offset)
    return (early, late) if early and late else ("", "")


def _end_of(digits: str) -> str:
    if len(digits) != 6:
        return digits + _COMPLETE[1][len(digits) :]
    year, month = int(digits[:4]), int(digits[4:])
    if not 1 <= month <= 12:
        return ""
    last = 31 if month == 12 else (datetime(year or 1, month + 1, 1, tzinfo=UTC) - timedelta(days=1)).day
    return f"{digits}{last:02d}235959"


def _moment(digits: str, microseconds: str, offset: str | None) -> str:
    try:
        moment = datetime.strptime(digits + microseconds, "%Y%m%d%H%M%S%f").replace(tzinfo=UTC)
        if offset:
            shift = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
            moment += shift if offset[0] == "-" else -shift
    except (ValueError, OverflowError):
        return ""
    return moment.strftime("%Y%m%d%H%M%S.%f").rjust(21, "0")
