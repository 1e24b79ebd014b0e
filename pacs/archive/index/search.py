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


def like_pattern(pattern: str) -> str:
    """Give the LIKE pattern of a wild card pattern; what LIKE would take for its own is escaped."""
    escaped = pattern.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")
    return escaped.replace("*", "%").replace("?", "_")


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
    if attribute.matching is Matching.NAME:
        return _name(table.c[f"{attribute.column}_search"], condition, attribute.column in _MULTIPLE)
    column = table.c[attribute.column]
    if isinstance(condition, AnyOf):
        return column.in_(condition.values)
    if isinstance(condition, Range):
        return _range(column, condition)
    return _text(column, condition, attribute.column in _MULTIPLE)


def _any(column: ColumnElement[str], values: tuple[str, ...]) -> list[ColumnElement[bool]]:
    return [
        column.like(like_pattern(value), escape=_ESCAPE) if "*" in value or "?" in value else column == value
        for value in values
    ]


def _text(column: ColumnElement[str], condition: Equals | Wildcard, is_multiple: bool) -> ColumnElement[bool]:
    if is_multiple:
        value = condition.value if isinstance(condition, Equals) else condition.pattern
        inside = like_pattern(value) if isinstance(condition, Wildcard) else like_pattern_of_literal(value)
        return (literal("\\") + column + "\\").like(f"%\\{inside}\\%", escape=_ESCAPE)
    if isinstance(condition, Equals):
        return column == condition.value
    return column.like(like_pattern(condition.pattern), escape=_ESCAPE)


def like_pattern_of_literal(value: str) -> str:
    """Give the LIKE pattern that matches a text and nothing else."""
    return value.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")


def _name(column: ColumnElement[str], condition: Condition, is_multiple: bool) -> ColumnElement[bool]:
    """Match a whole name, or one of its component groups (PS3.5 6.2.1.1)."""
    if isinstance(condition, Wildcard):
        key = like_pattern(name_search_key(condition.pattern))
    elif isinstance(condition, Equals):
        key = like_pattern_of_literal(name_search_key(condition.value))
    else:
        raise TypeError(f"{type(condition).__name__} for a name")
    if is_multiple:
        return (literal("\\") + column + "\\").like(f"%\\{key}\\%", escape=_ESCAPE)
    forms = [key] if "=" in key else [key, f"{key}=%", f"%={key}", f"%={key}=%"]
    return or_(*(column.like(form, escape=_ESCAPE) for form in forms))


def _range(column: ColumnElement[str], condition: Range) -> ColumnElement[bool]:
    ends: list[ColumnElement[bool]] = [column != ""]
    if condition.low:
        ends.append(column >= condition.low)
    if condition.high:
        ends.append(column <= condition.high)
    return and_(*ends)
