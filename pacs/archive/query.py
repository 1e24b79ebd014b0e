"""
A query: what is sought, at which level, and what is wanted of it. The doors (C-FIND, and others to come) make it; the
index answers it. It knows no protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pacs.archive.attributes import ATTRIBUTES, Attribute, Level, Matching

LEVELS: Final = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
BY_TAG: Final = {attribute.tag: attribute for attribute in ATTRIBUTES}

MODALITIES_IN_STUDY: Final = 0x00080061
SOP_CLASSES_IN_STUDY: Final = 0x00080062

COMPUTED: Final[dict[int, tuple[str, str, Level]]] = {
    MODALITIES_IN_STUDY: ("ModalitiesInStudy", "CS", Level.STUDY),
    SOP_CLASSES_IN_STUDY: ("SOPClassesInStudy", "UI", Level.STUDY),
    0x00201200: ("NumberOfPatientRelatedStudies", "IS", Level.PATIENT),
    0x00201202: ("NumberOfPatientRelatedSeries", "IS", Level.PATIENT),
    0x00201204: ("NumberOfPatientRelatedInstances", "IS", Level.PATIENT),
    0x00201206: ("NumberOfStudyRelatedSeries", "IS", Level.STUDY),
    0x00201208: ("NumberOfStudyRelatedInstances", "IS", Level.STUDY),
    0x00201209: ("NumberOfSeriesRelatedInstances", "IS", Level.SERIES),
}
"""Attributes that the index computes, by tag: keyword, VR and level (PS3.4 C.6.1.1 and C.6.2.1)."""

WILDCARD_CHARACTERS: Final = 1000
UID_LIST_LENGTH: Final = 1000

_ONE_VALUE_VRS: Final = frozenset(("LT", "ST", "UT"))  # where a backslash is a character
_DATE: Final = re.compile(r"\d{8}")
_TIME: Final = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")


class QueryError(Exception):
    """A query that can't be answered; the message names the attribute, never its value."""


@dataclass(frozen=True, slots=True)
class Equals:
    """Single value matching, PS3.4 C.2.2.2.1."""

    tag: int
    value: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """List of UID matching, PS3.4 C.2.2.2.2."""

    tag: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """Wild card matching, PS3.4 C.2.2.2.4; "*" and "?"."""

    tag: int
    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """Range matching, PS3.4 C.2.2.2.5; an open end is "". Both ends are included."""

    tag: int
    low: str
    high: str


Condition = Equals | AnyOf | Wildcard | Range


@dataclass(frozen=True, slots=True)
class Query:
    """
    A query.

    Attributes:
        conditions: all hold; universal matching is none.
        wanted: tags of attributes and computed ones, at the level or above, in the order of the rows' columns.
    """

    level: Level
    conditions: tuple[Condition, ...]
    wanted: tuple[int, ...]


def level_of(tag: int) -> Level | None:
    """Give the level that an attribute belongs to, or None when the index does not have it."""
    attribute = BY_TAG.get(tag)
    if attribute is not None:
        return attribute.level
    computed = COMPUTED.get(tag)
    return None if computed is None else computed[2]


def is_within(level: Level, upper: Level) -> bool:
    """Whether `upper` is the level itself or above it."""
    return LEVELS.index(upper) <= LEVELS.index(level)


def condition_for(tag: int, value: str) -> Condition | None:
    """
    Give the condition that a key's value means, or None for universal matching (PS3.4 C.2.2.2).

    Raises:
        QueryError: the value has no meaning for the attribute.
    """
    if not value or set(value) == {"*"}:
        return None
    if tag in (MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY):
        return _list_of(tag, value)
    attribute = BY_TAG.get(tag)
    if attribute is None:
        return None
    if attribute.matching is Matching.UID or ("\\" in value and attribute.vr not in _ONE_VALUE_VRS):
        return _list_of(tag, value)
    if attribute.matching is Matching.DATE:
        return _date(attribute, value)
    if attribute.matching is Matching.TIME:
        return _time(attribute, value)
    if attribute.matching in (Matching.TEXT, Matching.NAME) and ("*" in value or "?" in value):
        if len(value) > WILDCARD_CHARACTERS:
            raise QueryError(f"{attribute.keyword}: a pattern of more than {WILDCARD_CHARACTERS} characters")
        return Wildcard(tag, value)
    return Equals(tag, value)


def _list_of(tag: int, value: str) -> Condition:
    values = tuple(part.strip() for part in value.split("\\") if part.strip())
    if len(values) > UID_LIST_LENGTH:
        raise QueryError(f"a list of more than {UID_LIST_LENGTH} values")
    return AnyOf(tag, values)


def _ends(value: str) -> tuple[str, str] | None:
    """Give the ends of a range, or None when it is none."""
    if "-" not in value:
        return None
    low, _, high = value.partition("-")
    return low.strip(), high.strip()


def _date(attribute: Attribute, value: str) -> Condition:
    value = value.replace(".", "").replace(":", "")
    ends = _ends(value)
    for part in ends or (value,):
        if part and not _DATE.fullmatch(part):
            raise QueryError(f"{attribute.keyword}: neither a date nor a range of dates")
    if ends is None:
        return Range(attribute.tag, value, value)
    if not any(ends):
        raise QueryError(f"{attribute.keyword}: a range without ends")
    return Range(attribute.tag, *ends)


def _time(attribute: Attribute, value: str) -> Condition:
    """A time of less precision is the whole minute or hour (PS3.5 6.2, TM)."""
    value = value.replace(":", "")
    low, high = _ends(value) or (value, value)
    for part in (low, high):
        if part and not _TIME.fullmatch(part):
            raise QueryError(f"{attribute.keyword}: neither a time nor a range of times")
    if not low and not high:
        raise QueryError(f"{attribute.keyword}: a range without ends")
    return Range(attribute.tag, low, _latest(high))


def _latest(time: str) -> str:
    """Give the last moment that a time of limited precision means."""
    if not time or "." in time:
        return time and time.ljust(13, "9")
    return time + "5959"[len(time) - 2 : 4] + ".999999" if len(time) < 6 else time + ".999999"
