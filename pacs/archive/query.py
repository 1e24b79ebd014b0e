"""
A query: what is sought, at which level, and what is wanted of it. The doors (C-FIND, and others to come) make it; the
index answers it. It knows no protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pacs.archive.attributes import Level, Matching
from pacs.archive.keys import BY_TAG as BY_TAG
from pacs.archive.keys import COMPUTED as COMPUTED
from pacs.archive.keys import LEVELS as LEVELS
from pacs.archive.keys import MODALITIES_IN_STUDY as MODALITIES_IN_STUDY
from pacs.archive.keys import SOP_CLASSES_IN_STUDY as SOP_CLASSES_IN_STUDY
from pacs.archive.keys import is_of_header, key_vr
from pacs.archive.keys import is_within as is_within
from pacs.archive.keys import level_of as level_of
from pacs.archive.names import name_patterns
from pacs.archive.times import date_ends, date_time_ends, time_ends

WILDCARD_CHARACTERS: Final = 1000
UID_LIST_LENGTH: Final = 1000

ONE_VALUE_VRS: Final = frozenset(("LT", "ST", "UT", "UR"))  # where a backslash is a character
_WILDCARD_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_NUMBER_VRS: Final = frozenset(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"))
_BINARY_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))


class QueryError(Exception):
    """A query that can't be answered; the message names the attribute, never its value."""


@dataclass(frozen=True, slots=True)
class Equals:
    """Single value matching, PS3.4 C.2.2.2.1."""

    tag: int
    value: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """List of UID matching, PS3.4 C.2.2.2.2, and the same for any text; each value may have wild cards, UIDs none."""

    tag: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """Wild card matching, PS3.4 C.2.2.2.4; "*" and "?"."""

    tag: int
    pattern: str


@dataclass(frozen=True, slots=True)
class Number:
    """Single value matching of numbers: by what they mean, whatever their leading zeros."""

    tag: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """
    How much the index has counted: no matching of DICOM.

    Attributes:
        tag: of an attribute of the level at which it was counted.
        column: what was counted.
    """

    tag: int
    column: str
    value: int


@dataclass(frozen=True, slots=True)
class Name:
    """Matching of person names, PS3.4 C.2.2.2.1.1; any of the keys."""

    tag: int
    keys: tuple[str, ...]
    is_fuzzy: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """
    Matching of dates, times and date-times, PS3.4 C.2.2.2.5. Both ends are included; an open one is "".

    Attributes:
        kind: DATE or TIME, or TEXT for a date-time.
        matches_unknown: an entity whose value is empty matches, as PS3.4 C.2.2.1.2 has it for range matching.
    """

    tag: int
    low: str
    high: str
    kind: Matching = Matching.DATE
    matches_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Period:
    """
    A range of a date and of a time that are one moment, PS3.4 C.2.2.2.5.4.

    Attributes:
        date, time: the same form of range matching, each with the tag of its attribute.
    """

    date: Range
    time: Range

    @property
    def tag(self) -> int:
        """Of the date."""
        return self.date.tag


@dataclass(frozen=True, slots=True)
class SequenceKey:
    """
    Sequence matching, PS3.4 C.2.2.2.6: one item matches all conditions. Without conditions every entity matches.

    Attributes:
        wanted: the attributes of an item that are wanted; none at all: the whole sequence.
        nested: the sequences among them.
    """

    tag: int
    conditions: tuple[Condition, ...]
    wanted: tuple[int, ...]
    nested: tuple[SequenceKey, ...] = ()


Condition = Equals | AnyOf | Wildcard | Number | Count | Name | Range | Period | SequenceKey


@dataclass(frozen=True, slots=True)
class Order:
    """A column to sort by."""

    tag: int
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """
    A query.

    Attributes:
        conditions: all hold; universal matching is none.
        wanted: tags of attributes at the level or above, in the order of the rows' columns.
        order: attributes of the index to sort by; the order of arrival decides what is left, or everything.
        limit: None for all.
    """

    level: Level
    conditions: tuple[Condition, ...]
    wanted: tuple[int, ...]
    order: tuple[Order, ...] = ()
    offset: int = 0
    limit: int | None = None


def tags_of(condition: Condition) -> tuple[int, ...]:
    """Give the attributes that a condition looks at."""
    return (condition.date.tag, condition.time.tag) if isinstance(condition, Period) else (condition.tag,)


def condition_for(tag: int, value: str, *, vr: str = "", is_fuzzy: bool = False) -> Condition | None:
    """
    Give the condition that a key's value means, or None for universal matching (PS3.4 C.2.2.2).

    Args:
        vr: as the peer encoded it; needed where the standard has none.

    Raises:
        QueryError: the value has no meaning for the attribute.
    """
    vr = key_vr(tag, vr)
    if not value or (value[0] == "*" and not value.strip("*")):  # also where wild cards have no meaning
        return None
    if vr in _BINARY_VRS:
        raise QueryError(f"{name_of(tag)}: no matching is defined for VR {vr}")
    if vr == "DA":
        return _range(tag, value, Matching.DATE)
    if vr == "TM":
        return _range(tag, value, Matching.TIME)
    if vr == "DT":
        return _range(tag, value, Matching.TEXT)
    if "\\" in value or len(value) > WILDCARD_CHARACTERS:
        values = tuple(_values(tag, value, vr))
        if not values:
            return None
    else:
        values = (value,)
    if vr == "PN":
        return Name(tag, values, is_fuzzy) if all(map(name_patterns, values)) else None
    if vr in _NUMBER_VRS:
        return Number(tag, values)
    if len(values) > 1 or tag in (MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY):
        return AnyOf(tag, values)
    if vr in _WILDCARD_VRS and ("*" in values[0] or "?" in values[0]):
        return Wildcard(tag, values[0])
    return Equals(tag, values[0])


def combined(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """Put ranges of a date and its time together, as combined date-time matching has it (PS3.4 C.2.2.2.5.4)."""
    ranges = {c.tag: c for c in conditions if isinstance(c, Range) and c.matches_unknown}
    periods: dict[int, Period] = {}
    gone: set[int] = set()
    for tag, date in ranges.items():
        time = ranges.get(_TIME_OF.get(tag, 0))
        if time is not None and (bool(date.low), bool(date.high)) == (bool(time.low), bool(time.high)):
            periods[tag] = Period(date, time)
            gone.add(time.tag)
    return tuple(periods.get(c.tag, c) for c in conditions if c.tag not in gone)


_TIME_OF: Final = {
    0x00080020: 0x00080030, 0x00080021: 0x00080031, 0x00080022: 0x00080032, 0x00080023: 0x00080033,
    0x00100030: 0x00100032, 0x00080012: 0x00080013, 0x00400244: 0x00400245, 0x00400250: 0x00400251,
    0x00400002: 0x00400003,
}  # fmt: skip
"""Dates with the times that belong to them."""


def name_of(tag: int) -> str:
    """Give what an attribute is called in a message."""
    attribute = BY_TAG.get(tag)
    if attribute is not None:
        return attribute.keyword
    return COMPUTED[tag][0] if tag in COMPUTED else f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _values(tag: int, value: str, vr: str) -> Iterator[str]:
    if len(value) > WILDCARD_CHARACTERS and ("*" in value or "?" in value):
        raise QueryError(f"{name_of(tag)}: a pattern of more than {WILDCARD_CHARACTERS} characters")
    if vr in ONE_VALUE_VRS or "\\" not in value:
        yield value
        return
    values = [part.strip() for part in value.split("\\")]
    if len(values) > UID_LIST_LENGTH:
        raise QueryError(f"{name_of(tag)}: a list of more than {UID_LIST_LENGTH} values")
    yield from filter(None, values)


_ENDS: Final = {
    Matching.DATE: (date_ends, "date"),
    Matching.TIME: (time_ends, "time"),
    Matching.TEXT: (date_time_ends, "date-time"),
}


def _range(tag: int, value: str, kind: Matching) -> Condition:
    ends_of, what = _ENDS[kind]
    ends = ends_of(value)
    if ends is None:
        raise QueryError(f"{name_of(tag)}: neither a {what} nor a range of them")
    if not ends.low and not ends.high:
        raise QueryError(f"{name_of(tag)}: a range without ends")
    return Range(tag, ends.low, ends.high, kind, ends.is_range)


def needs_header(query: Query) -> bool:
    """Whether a query can't be answered from the index's columns alone."""
    return any(map(is_of_header, query.wanted)) or any(
        is_of_header(tag) for condition in query.conditions for tag in tags_of(condition)
    )
