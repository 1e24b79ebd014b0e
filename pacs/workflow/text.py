"""
Is a text a legal value of its VR (PS3.5 6.2): what people and programs enter is checked before it reaches a modality.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Final

from pacs.workflow.errors import InvalidValue

LONGEST: Final = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64 * 3 + 2, "UI": 64}
_CODE: Final = re.compile(r"[A-Z0-9_ ]*")
_UID: Final = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*")
_AE: Final = re.compile(r"[\x20-\x5b\x5d-\x7e]*")
_DATE: Final = re.compile(r"\d{8}|\d{4}-\d{2}-\d{2}")


def checked(name: str, vr: str, text: str) -> str:
    """
    Give the value as it is stored.

    Raises:
        InvalidValue: it can't be; the message names the field, never its value.
    """
    text = text.strip()
    if any(ord(character) < 32 or ord(character) == 127 for character in text) or "\\" in text:
        raise InvalidValue(f"{name}: control characters and backslashes are not allowed")
    if vr == "DA":
        return date_value(name, text)
    if len(text) > LONGEST[vr]:
        raise InvalidValue(f"{name}: longer than {LONGEST[vr]} characters")
    if vr == "CS" and not _CODE.fullmatch(text):
        raise InvalidValue(f"{name}: capital letters, digits, space and underscore only")
    if vr == "UI" and text and not _UID.fullmatch(text):
        raise InvalidValue(f"{name}: not a UID")
    if vr == "AE" and not _AE.fullmatch(text):
        raise InvalidValue(f"{name}: not an AE title")
    return text


def date_value(name: str, text: str) -> str:
    """Give a date as DICOM has it, from that or from ISO 8601."""
    if not text:
        return ""
    if not _DATE.fullmatch(text):
        raise InvalidValue(f"{name}: not a date, YYYYMMDD or YYYY-MM-DD")
    try:
        return date.fromisoformat(text).strftime("%Y%m%d")
    except ValueError:
        raise InvalidValue(f"{name}: not a date") from None


def date_time_values(name: str, text: str) -> tuple[str, str]:
    """Give date and time of a moment in ISO 8601; one with an offset is turned into the server's own time."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidValue(f"{name}: not a date and time in ISO 8601") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone()
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")


def iso_date_time(date_text: str, time_text: str) -> str:
    """Give date and time as ISO 8601; what can't be read stays as it is, none is ""."""
    if not date_text:
        return ""
    plain_time = time_text.replace(":", "").partition(".")[0].ljust(6, "0")
    try:
        return datetime.strptime(date_text.replace(".", "") + plain_time, "%Y%m%d%H%M%S").isoformat()
    except ValueError:
        return f"{date_text} {time_text}".strip()
