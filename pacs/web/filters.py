"""
From the filters of a list to the archive's conditions: one table a level, which the parameters are made of, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pacs.archive.attributes import Level, Matching
from pacs.archive.index.listing import COLUMNS, Listing
from pacs.archive.query import Condition, Count, Equals, QueryError, Range, condition_for
from pacs.web.errors import HTTPError
from pacs.web.routes import PAGING, sort_parameter
from pacs.web.schema import DATE, TEXT, TIME, UID, Parameter, Type, integer

MODALITIES_IN_STUDY: Final = 0x00080061
STUDY_INSTANCE_UID: Final = 0x0020000D
COUNTED: Final = integer(0, 2**62)


@dataclass(frozen=True, slots=True)
class Filter:
    """
    A filter of a list.

    Attributes:
        tag: the attribute that is compared.
        type: UID, DATE, TIME and what is counted compare as they are; text may have the wild cards * and ?.
    """

    name: str
    tag: int
    type: Type = TEXT

    @property
    def description(self) -> str:
        """What the document says."""
        return "wild cards * and ?" if self.type is TEXT else ""


_PATIENT: Final = (Filter("patient_id", 0x00100020), Filter("patient_name", 0x00100010))
_STUDY_UID: Final = Filter("study_instance_uid", STUDY_INSTANCE_UID, UID)

FILTERS: Final[Mapping[Level, tuple[Filter, ...]]] = {
    Level.PATIENT: (
        *_PATIENT,
        Filter("issuer", 0x00100021),
        Filter("birth_date", 0x00100030, DATE),
        Filter("sex", 0x00100040),
    ),
    Level.STUDY: (
        _STUDY_UID,
        *_PATIENT,
        Filter("issuer", 0x00100021),
        Filter("study_date", 0x00080020, DATE),
        Filter("study_time", 0x00080030, TIME),
        Filter("accession_number", 0x00080050),
        Filter("study_id", 0x00200010),
        Filter("study_description", 0x00081030),
        Filter("referring_physician", 0x00080090),
        Filter("modality", MODALITIES_IN_STUDY),
        Filter("modalities_in_study", MODALITIES_IN_STUDY),
        *(Filter(name, STUDY_INSTANCE_UID, COUNTED) for name in ("num_series", "num_instances", "size_bytes")),
    ),
    Level.SERIES: (
        Filter("series_instance_uid", 0x0020000E, UID),
        _STUDY_UID,
        *_PATIENT,
        Filter("modality", 0x00080060),
        Filter("series_number", 0x00200011),
        Filter("series_description", 0x0008103E),
        Filter("series_date", 0x00080021, DATE),
        Filter("body_part_examined", 0x00180015),
        Filter("protocol_name", 0x00181030),
        Filter("station_name", 0x00081010),
    ),
    Level.IMAGE: (
        Filter("sop_instance_uid", 0x00080018, UID),
        Filter("sop_class_uid", 0x00080016, UID),
        Filter("instance_number", 0x00200013),
    ),
}

_RANGES: Final = {
    f"{item.name}_{end}": (item.tag, end)
    for filters in FILTERS.values()
    for item in filters
    if item.type is DATE
    for end in ("from", "to")
}
_BY_NAME: Final = {level: {item.name: item for item in filters} for level, filters in FILTERS.items()}


def parameters_of(level: Level) -> tuple[Parameter, ...]:
    """Give the parameters of a list."""
    found = [Parameter(item.name, item.type, item.description) for item in FILTERS[level]]
    found += [
        Parameter(f"{item.name}_{end}", DATE, "included")
        for item in FILTERS[level]
        if item.type is DATE
        for end in ("from", "to")
    ]
    return (*found, sort_parameter(tuple(COLUMNS[level])), *PAGING)


def listing_of(level: Level, query: Mapping[str, Any], *scope: Condition) -> Listing:
    """
    Give the list that a query asks for.

    Args:
        scope: what holds whatever is asked.

    Raises:
        HTTPError: 400; a filter can't be understood.
    """
    conditions = list(scope)
    ends: dict[int, dict[str, str]] = {}
    filters = _BY_NAME[level]
    for name, value in query.items():
        item = filters.get(name)
        if item is not None:
            condition = _condition(item, value)
            if condition is not None:
                conditions.append(condition)
        elif name in _RANGES:
            tag, end = _RANGES[name]
            ends.setdefault(tag, {})[end] = value
    for tag, both in ends.items():
        conditions.append(Range(tag, both.get("from", ""), both.get("to", ""), Matching.DATE))
    sort, is_descending = query.get("sort"), False
    if sort is not None and sort.startswith("-"):
        sort, is_descending = sort[1:], True
    return Listing(level, tuple(conditions), sort, is_descending, query["limit"], query["offset"])


def _condition(item: Filter, value: Any) -> Condition | None:
    if item.type is COUNTED:
        return Count(item.tag, item.name, value)
    if item.type is UID:
        return Equals(item.tag, value)
    try:
        return condition_for(item.tag, value)
    except QueryError as error:
        raise HTTPError(400, f"{item.name}: {error}") from None
