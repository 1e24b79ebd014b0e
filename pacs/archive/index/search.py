"""
From a query to a statement of the index, in SQLAlchemy Core: the same for SQLite and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, and_, exists, func, literal, or_, select

from pacs.archive.attributes import Level, Matching, name_search_key
from pacs.archive.index.schema import INSTANCES, PATIENTS, SERIES, STUDIES
from pacs.archive.query import (
    BY_TAG,
    LEVELS,
    MODALITIES_IN_STUDY,
    SOP_CLASSES_IN_STUDY,
    AnyOf,
    Condition,
    Equals,
    Query,
    Range,
    Wildcard,
)

TABLES: Final[Mapping[Level, Table]] = {
    Level.PATIENT: PATIENTS,
    Level.STUDY: STUDIES,
    Level.SERIES: SERIES,
    Level.IMAGE: INSTANCES,
}

_ESCAPE: Final = "!"
_MULTIPLE: Final = frozenset(
    ("image_type", "reading_physicians", "performing_physician", "operators_name", "admitting_diagnoses")
)

_COMPUTED: Final[Mapping[int, ColumnElement[Any]]] = {
    MODALITIES_IN_STUDY: STUDIES.c.modalities_in_study,
    SOP_CLASSES_IN_STUDY: STUDIES.c.sop_classes_in_study,
    0x00201200: PATIENTS.c.num_studies,
    0x00201202: (
        select(func.coalesce(func.sum(STUDIES.c.num_series), 0))
        .where(STUDIES.c.patient_pk == PATIENTS.c.pk)
        .correlate(PATIENTS)
        .scalar_subquery()
    ),
    0x00201204: PATIENTS.c.num_instances,
    0x00201206: STUDIES.c.num_series,
    0x00201208: STUDIES.c.num_instances,
    0x00201209: SERIES.c.num_instances,
}


def select_for(query: Query) -> Select[Any]:
    """Give the statement whose rows are the matches, a column for each wanted attribute, in the order of arrival."""
    columns = [_column(tag).label(f"c{i}") for i, tag in enumerate(query.wanted)]
    level_table = TABLES[query.level]
    statement = select(*columns).select_from(_joined(query.level)).where(*map(_where, query.conditions))
    if query.level is Level.IMAGE:
        statement = statement.where(INSTANCES.c.copy_number == 0)
    return statement.order_by(level_table.c.pk)


def _joined(level: Level) -> Any:
    """Give the table of a level with those above it."""
    joined: Any = PATIENTS
    if LEVELS.index(level) >= 1:
        joined = joined.join(STUDIES, STUDIES.c.patient_pk == PATIENTS.c.pk)
    if LEVELS.index(level) >= 2:
        joined = joined.join(SERIES, SERIES.c.study_pk == STUDIES.c.pk)
    if LEVELS.index(level) >= 3:
        joined = joined.join(INSTANCES, INSTANCES.c.series_pk == SERIES.c.pk)
    return joined


def _column(tag: int) -> ColumnElement[Any]:
    computed = _COMPUTED.get(tag)
    if computed is not None:
        return computed
    attribute = BY_TAG[tag]
    column: ColumnElement[Any] = TABLES[attribute.level].c[attribute.column]
    return column


def _where(condition: Condition) -> ColumnElement[bool]:
    tag = condition.tag
    if tag == MODALITIES_IN_STUDY and isinstance(condition, AnyOf):
        series = SERIES.alias()
        return exists().where(series.c.study_pk == STUDIES.c.pk, or_(*_any(series.c.modality, condition.values)))
    if tag == SOP_CLASSES_IN_STUDY and isinstance(condition, AnyOf):
        values = literal("\\") + STUDIES.c.sop_classes_in_study + "\\"
        return or_(*(values.contains(f"\\{uid}\\", autoescape=True) for uid in condition.values))
    attribute = BY_TAG[tag]
    table = TABLES[attribute.level]
    is_multiple = attribute.column in _MULTIPLE
    if attribute.matching is Matching.NAME:
        return _name(table.c[f"{attribute.column}_search"], condition, is_multiple)
    column = table.c[attribute.column]
    if isinstance(condition, Range):
        return _date_range(column, condition) if attribute.matching is Matching.DATE else _time_range(column, condition)
    if attribute.matching is Matching.UID:
        return column.in_(_values(condition))
    if attribute.matching is Matching.NUMBER:
        return or_(*(_same_number(column, value) for value in _values(condition)))
    if is_multiple:
        return or_(*(_one_of_several(column, _pattern(value)) for value in _values(condition)))
    return or_(*_any(column, _values(condition)))


def _values(condition: Condition) -> tuple[str, ...]:
    """Give the values of a condition that is no range; each may have wild cards."""
    if isinstance(condition, AnyOf):
        return condition.values
    if isinstance(condition, Wildcard):
        return (condition.pattern,)
    if isinstance(condition, Equals):
        return (condition.value,)
    raise TypeError(f"{type(condition).__name__} has no values")


def _pattern(value: str) -> str:
    """Give the LIKE pattern of a key's value: "*" and "?" are wild cards, everything else means itself."""
    escaped = value.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")
    return escaped.replace("*", "%").replace("?", "_")


def _like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    return column.like(pattern, escape=_ESCAPE)


def _any(column: ColumnElement[str], values: tuple[str, ...]) -> list[ColumnElement[bool]]:
    return [_like(column, _pattern(value)) if "*" in value or "?" in value else column == value for value in values]


def _one_of_several(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Match one of the values that an attribute has."""
    return _like(literal("\\") + column + "\\", f"%\\{pattern}\\%")


def _same_number(column: ColumnElement[str], value: str) -> ColumnElement[bool]:
    """Leading zeros do not count (PS3.5 6.2, IS)."""
    return and_(column != "", func.ltrim(column, "0") == value.lstrip("0"))


def _name(column: ColumnElement[str], condition: Condition, is_multiple: bool) -> ColumnElement[bool]:
    """Match a whole name, or some of its component groups (PS3.5 6.2.1.1); absent components match "*"."""
    forms: list[ColumnElement[bool]] = []
    for value in _values(condition):
        key = _pattern(name_search_key(value)).lstrip("=")
        keys = {key}
        while key.endswith("^%"):
            key = key[:-2]
            keys.add(key)
        if is_multiple:
            forms += [_one_of_several(column, key) for key in keys]
        else:
            forms += [
                _like(column, f"{before}{key}{behind}")
                for key in keys
                for before in ("", "%=")
                for behind in ("", "=%")
            ]
    return or_(*forms)


def _date_range(column: ColumnElement[str], condition: Range) -> ColumnElement[bool]:
    """Match dates, those with points of old objects too (PS3.5 6.2, DA); a text that is no date is in no range."""
    low, high = condition.low or "00000000", condition.high or "99999999"
    old_low, old_high = (f"{end[:4]}.{end[4:6]}.{end[6:]}" for end in (low, high))
    return or_(
        and_(column.between(low, high), column.like("_" * 8)),
        and_(column.between(old_low, old_high), column.like("____.__.__")),
    )


def _time_range(column: ColumnElement[str], condition: Range) -> ColumnElement[bool]:
    """Match times of any precision; one without seconds or minutes is their beginning."""
    digits = func.replace(column, ":", "")
    padded = digits.concat(func.substr("000000", func.length(digits) + 1))
    return and_(column != "", padded >= condition.low.ljust(6, "0"), padded <= (condition.high or "99"))
