"""
Dates: shifted by whole days, or cut to the year. Whatever is no full date has no answer here, and never passes.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

_DATE: Final = re.compile(rb"(\d{4})(\d\d)(\d\d)")
_OLD_DATE: Final = re.compile(rb"(\d{4})\.(\d\d)\.(\d\d)")  # ACR-NEMA's, PS3.5 6.2
_DATE_TIME: Final = re.compile(rb"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?([+-]\d{4})?")
_TIME: Final = re.compile(rb"\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?|\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?")
_OFFSET: Final = re.compile(rb"[+-]\d{4}")


@lru_cache(maxsize=4096)
def shift_date(value: bytes, days: int) -> bytes | None:
    """Move a DA value backwards; None: it is no full date."""
    match = _DATE.fullmatch(value) or _OLD_DATE.fullmatch(value)
    if match is None:
        return None
    try:
        moved = date(int(match[1]), int(match[2]), int(match[3])) - timedelta(days)
    except (ValueError, OverflowError):
        return None
    return b"%04d%02d%02d" % (moved.year, moved.month, moved.day)


def shift_date_time(value: bytes, days: int) -> bytes | None:
    """Move the date of a DT value backwards; its time, fraction and zone stay."""
    match = _DATE_TIME.fullmatch(value)
    if match is None:
        return None
    moved = shift_date(match[1], days)
    return None if moved is None else moved + value[8:]


def keep_time(value: bytes) -> bytes | None:
    """Give a TM value as it is; None: it is no time."""
    return value if _TIME.fullmatch(value) else None


def keep_offset(value: bytes) -> bytes | None:
    """Give a time zone as it is; None: it is no sign and four digits."""
    return value if _OFFSET.fullmatch(value) else None


def year_of_date(value: bytes) -> bytes | None:
    """Leave the year of a DA value."""
    return None if shift_date(value, 0) is None else value[:4] + b"0101"


def year_of_date_time(value: bytes) -> bytes | None:
    """Leave the year of a DT value."""
    match = _DATE_TIME.fullmatch(value)
    return None if match is None or shift_date(match[1], 0) is None else value[:4]


def cap_age(value: bytes) -> bytes | None:
    """Keep an AS value, but write ages over 89 years as 090Y (45 CFR 164.514(b)(2)(i)(C)); None: it is no age."""
    if len(value) != 4 or not value[:3].isdigit() or value[3:] not in (b"D", b"W", b"M", b"Y"):
        return None
    days = int(value[:3]) * {b"D": 1, b"W": 7, b"M": 30, b"Y": 365}[value[3:]]
    return b"090Y" if days >= 90 * 365 else value
