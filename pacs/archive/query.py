"""
What is asked of the archive: `Query`, and the matching rules of PS3.4 C.2.2.2 that make conditions of a key's text.

C-FIND, QIDO-RS and the REST API build the same `Query`; this module knows neither of them, nor the index's SQL, which
`pacs.archive.index.search` makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pacs.archive.attributes import ATTRIBUTES, Attribute, Level, Matching

LEVELS: Final = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
"""From the top of the hierarchy to its bottom."""

COMPUTED_ATTRIBUTES: Final = (
    Attribute(0x00080061, "ModalitiesInStudy", "CS", Level.STUDY, "modalities_in_study", Matching.TEXT),
    Attribute(0x00080062, "SOPClassesInStudy", "UI", Level.STUDY, "sop_classes_in_study", Matching.UID),
    Attribute(0x00201200, "NumberOfPatientRelatedStudies", "IS", Level.PATIENT, "num_studies", Matching.NUMBER),
    Attribute(0x00201202, "NumberOfPatientRelatedSeries", "IS", Level.PATIENT, "num_series", Matching.NUMBER),
    Attribute(0x00201204, "NumberOfPatientRelatedInstances", "IS", Level.PATIENT, "num_instances", Matching.NUMBER),
    Attribute(0x00201206, "NumberOfStudyRelatedSeries", "IS", Level.STUDY, "num_series", Matching.NUMBER),
    Attribute(0x00201208, "NumberOfStudyRelatedInstances", "IS", Level.STUDY, "num_instances", Matching.NUMBER),
    Attribute(0x00201209, "NumberOfSeriesRelatedInstances", "IS", Level.SERIES, "num_instances", Matching.NUMBER),
)
"""The additional attributes of PS3.4 C.3.4: no object has them, the index keeps them up to date."""

COUNTS: Final = frozenset(attribute.tag for attribute in COMPUTED_ATTRIBUTES if attribute.matching is Matching.NUMBER)

KEYS: Final[Mapping[int, Attribute]] = {attribute.tag: attribute for attribute in (*ATTRIBUTES, *COMPUTED_ATTRIBUTES)}
"""Every attribute that can be matched and returned, by its tag."""

UNIQUE_KEYS: Final[Mapping[Level, Attribute]] = {
    Level.PATIENT: KEYS[0x00100020],
    Level.STUDY: KEYS[0x0020000D],
    Level.SERIES: KEYS[0x0020000E],
    Level.IMAGE: KEYS[0x00080018],
}
"""Of each level, PS3.4 C.6.1.1."""

MULTIPLE_VALUES: Final = frozenset(
    {
        0x00080008,  # Image Type
        0x00080061,  # Modalities in Study
        0x00080062,  # SOP Classes in Study
        0x00081050,  # Performing Physician's Name
        0x00081060,  # Name of Physician(s) Reading Study
        0x00081070,  # Operators' Name
        0x00081080,  # Admitting Diagnoses Description
    }
)
"""Attributes with more than one value; a key matches when one of them does."""

WILDCARD_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
"""Where * and ? are wildcards, PS3.4 C.2.2.2.4."""

_ONE_VALUE_VRS: Final = frozenset(("LT", "ST", "UT", "UR"))  # a backslash is a character, PS3.5 6.2

_DATE: Final = re.compile(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3])(?::?([0-5][0-9])(?::?([0-5][0-9]|60)(?:\.([0-9]{1,6}))?)?)?")


class InvalidKey(Exception):
    """
    A key that can't be matched.

    Attributes:
        tag: of the key.
        reason: without the value.
    """

    def __init__(self, attribute: Attribute, reason: str) -> None:
        super().__init__(f"{attribute.keyword}: {reason}")
        self.tag = attribute.tag
        self.reason = f"{attribute.keyword}: {reason}"


@dataclass(frozen=True, slots=True)
class MatchingLimits:
    """
    How long a key may be.

    Attributes:
        uid_list_length: values of one key.
        wildcard_characters: of a value with wildcards.
    """

    uid_list_length: int = 1000
    wildcard_characters: int = 1000


@dataclass(frozen=True, slots=True)
class SingleValue:
    """Single Value Matching, PS3.4 C.2.2.2.1; of a time also what is more precise than the key."""

    value: str


@dataclass(frozen=True, slots=True)
class ValueList:
    """List of UID Matching, PS3.4 C.2.2.2.2, and the same for other values."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """Wild Card Matching, PS3.4 C.2.2.2.4: * is any sequence of characters, ? any one."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """
    Range Matching of dates and times, PS3.4 C.2.2.2.5; both ends belong to it.

    Attributes:
        first, last: without "." and ":", "" where the range is open.
    """

    first: str
    last: str


Match = SingleValue | ValueList | Wildcard | Range


@dataclass(frozen=True, slots=True)
class Condition:
    """
    What an attribute is to be.

    Attributes:
        matches: one of them is to hold; more than one come of several values with wildcards or ranges among them.
    """

    attribute: Attribute
    matches: tuple[Match, ...]

    @property
    def is_single_value(self) -> bool:
        """One entity or a list of them is named, as a unique key above the query's level does."""
        return all(isinstance(match, (SingleValue, ValueList)) for match in self.matches)


@dataclass(frozen=True, slots=True)
class Query:
    """
    A question to the archive.

    Attributes:
        level: of the entities that are looked for.
        conditions: all are to hold; on attributes of the level or of a level above it. Universal matching is none.
        returned: the columns of the answer's rows, in this order; of the level or above it.
    """

    level: Level
    conditions: tuple[Condition, ...]
    returned: tuple[Attribute, ...]


def is_at_or_above(attribute: Attribute, level: Level) -> bool:
    """Whether an attribute belongs to the entities of a level, or to those that they are part of."""
    return LEVELS.index(attribute.level) <= LEVELS.index(level)


def condition(attribute: Attribute, text: str, limits: MatchingLimits) -> Condition | None:
    """
    Give the condition that a key's text stands for, or None for Universal Matching.

    Args:
        text: decoded; several values are separated by backslashes.

    Raises:
        InvalidKey: it is longer than the limits, or a range whose ends are no dates or times.
    """
    values = [text.strip()] if attribute.vr in _ONE_VALUE_VRS else [part.strip() for part in text.split("\\")]
    if len(values) > limits.uid_list_length:
        raise InvalidKey(attribute, f"more than {limits.uid_list_length} values")
    values = list(dict.fromkeys(value for value in values if value))
    if not values or any(set(value) == {"*"} for value in values):
        return None
    matches = [_match(attribute, value, limits) for value in values]
    singles = [match.value for match in matches if isinstance(match, SingleValue)]
    if len(singles) > 1:
        others = [match for match in matches if not isinstance(match, SingleValue)]
        return Condition(attribute, (ValueList(tuple(singles)), *others))
    return Condition(attribute, tuple(matches))


def _match(attribute: Attribute, value: str, limits: MatchingLimits) -> Match:
    if attribute.matching is Matching.DATE:
        return _range(attribute, value, _date) or SingleValue(_date(value) or value)
    if attribute.matching is Matching.TIME:
        return _range(attribute, value, _time) or SingleValue(_time(value) or value)
    if attribute.vr in WILDCARD_VRS and ("*" in value or "?" in value):
        if len(value) > limits.wildcard_characters:
            raise InvalidKey(attribute, f"more than {limits.wildcard_characters} characters with wildcards")
        return Wildcard(re.sub(r"\*+", "*", value))
    return SingleValue(value)


def _range(attribute: Attribute, value: str, normal: Callable[[str], str | None]) -> Range | None:
    """Give the range of a value with a hyphen; None when it has none."""
    if "-" not in value:
        return None
    ends = [end.strip() for end in value.split("-")]
    found = [normal(end) if end else "" for end in ends]
    if len(found) != 2 or None in found or not any(found):
        raise InvalidKey(attribute, "no range of two dates or times")
    return Range(found[0] or "", found[1] or "")


def _date(text: str) -> str | None:
    """Give a date as YYYYMMDD; the form of ACR-NEMA with points is understood (PS3.5 6.2)."""
    found = _DATE.fullmatch(text)
    return "".join(found.groups()) if found else None


def _time(text: str) -> str | None:
    """Give a time as HH[MM[SS[.F]]]; the form of ACR-NEMA with colons is understood (PS3.5 6.2)."""
    if not _TIME.fullmatch(text):
        return None
    return text.replace(":", "")
