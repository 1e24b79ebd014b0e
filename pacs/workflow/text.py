"""
Is a text a legal value of its VR (PS3.5 6.2): what people and programs enter is checked before it reaches a modality.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Final

from pacs.workflow.errors import InvalidValue

LONGEST: Final = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64 * 3 + 2, "UI": 64}
PATTERN: Final = r"[^\x00-\x1f\x7f\\]*"
HALVES: Final = "[\ud800-\udfff]"  # what JSON can escape, and an argument that is not UTF-8 becomes
PATTERNS: Final = {
    "CS": r"[A-Z0-9_ ]*",
    "UI": r"((0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*)?",
    "AE": r"[\x20-\x5b\x5d-\x7e]*",
    "DA": r"([0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2})?",
}
"""What the values of a VR look like; of every other one as `PATTERN`."""
_FAULTS: Final = {
    "CS": "capital letters, digits, space and underscore only",
    "UI": "not a UID",
    "AE": "not an AE title",
    "DA": "not a date, YYYYMMDD or YYYY-MM-DD",
}


def checked(name: str, vr: str, text: str) -> str:
    """
    Give the value as it is stored.

    Raises:
        InvalidValue: it can't be; the message names the field, never its value.
    """
    text = text.strip()
    if not re.fullmatch(PATTERN, text):
        raise InvalidValue(f"{name}: control characters and backslashes are not allowed")
    if re.search(HALVES, text):
        raise InvalidValue(f"{name}: not in UTF-8")
    if vr == "DA":
        return date_value(name, text)
    if len(text) > LONGEST[vr]:
        raise InvalidValue(f"{name}: longer than {LONGEST[vr]} characters")
    if vr in PATTERNS and not re.fullmatch(PATTERNS[vr], text):
        raise InvalidValue(f"{name}: {_FAULTS[vr]}")
    return text


def date_value(name: str, text: str) -> str:
    """Give a date as DICOM has it, from that or from ISO 8601."""
    if not text:
        return ""
    if not re.fullmatch(PATTERNS["DA"], text):
        raise InvalidValue(f"{name}: {_FAULTS['DA']}")
    try:
        return _plain(date.fromisoformat(text))
    except ValueError:
        raise InvalidValue(f"{name}: not a date") from None


def date_time_values(name: str, text: str) -> tuple[str, str]:
    """Give date and time of a moment in ISO 8601; one with an offset is turned into the server's own time."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            moment = moment.astimezone()
    except (ValueError, OverflowError):
        raise InvalidValue(f"{name}: not a date and time in ISO 8601") from None
    return _plain(moment.date()), moment.strftime("%H%M%S")


def _plain(day: date) -> str:
    return day.isoformat().replace("-", "")  # strftime has no zeros before the years of old


def iso_date_time(date_text: str, time_text: str) -> str:
    """Give date and time as ISO 8601; what can't be read stays as it is, none is ""."""
    if not date_text:
        return ""
    plain_time = time_text.replace(":", "").partition(".")[0].ljust(6, "0")
    try:
        return datetime.strptime(date_text.replace(".", "") + plain_time, "%Y%m%d%H%M%S").isoformat()
    except ValueError:
        return f"{date_text} {time_text}".strip()
