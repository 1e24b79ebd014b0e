"""
From a `Query` to a SELECT of SQLAlchemy Core over the index's tables.

The statements mean the same on SQLite and PostgreSQL; they rely on comparison of text by code points and on LIKE that
tells case apart. No ORDER BY: rows stream, whatever their number. Values are parameters, never part of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Select, Table, and_, func, literal, or_, select

from pacs.archive.attributes import Attribute, Level, Matching, name_search_key
from pacs.archive.index.schema import INSTANCES, PATIENTS, SERIES, STUDIES
from pacs.archive.query import (
    COUNTS,
    LEVELS,
    MULTIPLE_VALUES,
    Condition,
    Match,
    Query,
    Range,
    SingleValue,
    ValueList,
    Wildcard,
)

TABLE_OF: Final[Mapping[Level, Table]] = {
    Level.PATIENT: PATIENTS,
    Level.STUDY: STUDIES,
    Level.SERIES: SERIES,
    Level.IMAGE: INSTANCES,
}
_PARENT_KEY: Final[Mapping[Level, ColumnElement[int]]] = {
    Level.STUDY: STUDIES.c.patient_pk,
    Level.SERIES: SERIES.c.study_pk,
    Level.IMAGE: INSTANCES.c.series_pk,
}

_ESCAPE: Final = "!"
_SEPARATOR: Final = "\\"
_BEFORE_DIGITS: Final = "0"
_BEHIND_DIGITS: Final = ":"  # the character after "9": behind a time, behind all that is more precise

_SERIES_OF_PATIENT: Final = (
    select(func.coalesce(func.sum(STUDIES.c.num_series), 0))
    .where(STUDIES.c.patient_pk == PATIENTS.c.pk)
    .correlate(PATIENTS)
    .scalar_subquery()
)


def select_of(query: Query) -> Select[Any]:
    """Give the statement of a query; its rows have the columns of `query.returned`."""
    statement = select(*[_column(attribute) for attribute in query.returned]).select_from(_tables(query))
    if query.level is Level.IMAGE:
        statement = statement.where(INSTANCES.c.copy_number == 0)  # of objects kept under one UID the first is shown
    return statement.where(*[_condition(condition) for condition in query.conditions])


def _tables(query: Query) -> FromClause:
    """Join the level's table with those above it, as far up as something is asked of them."""
    bottom = LEVELS.index(query.level)
    asked = [*query.returned, *(condition.attribute for condition in query.conditions)]
    top = min([bottom, *(LEVELS.index(attribute.level) for attribute in asked)])
    joined: FromClause = TABLE_OF[query.level]
    for position in range(bottom, top, -1):
        parent = TABLE_OF[LEVELS[position - 1]]
        joined = joined.join(parent, parent.c.pk == _PARENT_KEY[LEVELS[position]])
    return joined


def _column(attribute: Attribute) -> ColumnElement[Any]:
    if attribute.level is Level.PATIENT and attribute.column == "num_series":
        return _SERIES_OF_PATIENT.label("num_series")
    return TABLE_OF[attribute.level].c[attribute.column]


def _condition(condition: Condition) -> ColumnElement[bool]:
    attribute = condition.attribute
    return or_(*[_comparison(attribute, match) for match in condition.matches])


def _comparison(attribute: Attribute, match: Match) -> ColumnElement[bool]:
    if isinstance(match, ValueList) and not _is_plain(attribute):
        return or_(*[_comparison(attribute, SingleValue(value)) for value in match.values])
    if isinstance(match, Range):
        return _in_dates(attribute, match) if attribute.matching is Matching.DATE else _in_times(attribute, match)
    if attribute.matching is Matching.NAME:
        return _is_name(attribute, match)
    if attribute.tag in MULTIPLE_VALUES:
        return _has_value(_column(attribute), match)
    column = _column(attribute)
    if isinstance(match, Wildcard):
        return _like(column, _pattern(match.pattern))
    if isinstance(match, ValueList):
        return column.in_(match.values)
    return _equals(attribute, match.value)


def _is_plain(attribute: Attribute) -> bool:
    """Whether equality of an attribute is that of its text, so that a list of values is one IN."""
    return attribute.matching in (Matching.UID, Matching.TEXT) and attribute.tag not in MULTIPLE_VALUES


def _equals(attribute: Attribute, value: str) -> ColumnElement[bool]:
    column = _column(attribute)
    if attribute.matching is Matching.DATE and len(value) == 8:
        return column.in_((value, _with_points(value)))
    if attribute.matching is Matching.TIME and value[:2].isdigit():
        return _in_times(attribute, Range(value, value))
    if attribute.tag in COUNTS:
        return column == int(value) if value.isdecimal() and len(value) < 16 else literal(0) == 1
    if attribute.matching is Matching.NUMBER:
        significant = func.ltrim(column, "+0")
        return or_(column == value, and_(significant == value.lstrip("+0"), column != ""))
    return column == value


# -- dates and times


def _with_points(date: str) -> str:
    """Give a date as ACR-NEMA wrote it, and old objects still have it."""
    return f"{date[:4]}.{date[4:6]}.{date[6:]}"


def _in_dates(attribute: Attribute, match: Range) -> ColumnElement[bool]:
    """Give a range of dates, as two ranges of an index: dates with points are not between those without."""
    column = _column(attribute)
    first, last = match.first or "00000000", match.last or "99999999"
    has_points = column.like("____.__.__")
    return or_(
        and_(column.between(first, last), column.not_like("____.__.__")),
        and_(column.between(_with_points(first), _with_points(last)), has_points),
    )


def _in_times(attribute: Attribute, match: Range) -> ColumnElement[bool]:
    """
    Give a range of times whose ends and values may lack components (PS3.5 6.2, TM).

    An end stands for all of what it names: the last minute of "-1030" is 10:30 until 10:30:59.999999.
    """
    time = func.replace(_column(attribute), ":", "")
    clauses = [time >= (_without_zeros(match.first) or _BEFORE_DIGITS)]
    if match.last:
        clauses.append(time < match.last + _BEHIND_DIGITS)
    return and_(*clauses)


def _without_zeros(time: str) -> str:
    """Give the shortest form of a time, so that a less precise value that is equal does not sort before it."""
    whole, _, fraction = time.partition(".")
    fraction = fraction.rstrip("0")
    if fraction:
        return f"{whole}.{fraction}"
    while whole.endswith("00"):
        whole = whole[:-2]
    return whole


# -- text


def _pattern(text: str) -> str:
    """Give the LIKE pattern of a text with the wildcards of DICOM."""
    return _literal(text).replace("*", "%").replace("?", "_")


def _literal(text: str) -> str:
    """Escape what LIKE would take for a wildcard."""
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return text


def _like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    return column.like(pattern, escape=_ESCAPE)


def _has_value(column: ColumnElement[str], match: Match) -> ColumnElement[bool]:
    """
    Say that one of several values matches.

    * may span values: ORIGINAL*AXIAL finds ORIGINAL\\PRIMARY\\AXIAL.
    """
    separated = literal(_SEPARATOR) + column + literal(_SEPARATOR)
    if isinstance(match, Wildcard):
        return _like(separated, f"%{_SEPARATOR}{_pattern(match.pattern)}{_SEPARATOR}%")
    assert isinstance(match, SingleValue)
    return _like(separated, f"%{_SEPARATOR}{_literal(match.value)}{_SEPARATOR}%")


def _is_name(attribute: Attribute, match: Match) -> ColumnElement[bool]:
    """
    Compare a person's name with the search form that the index keeps (PS3.4 C.2.2.2.1.1).

    A key of one component group finds it in any group; one that is ASCII is looked for in the first group alone, the
    alphabetic one (PS3.5 6.2.1.2), which the index serves.
    """
    column = TABLE_OF[attribute.level].c[f"{attribute.column}_search"]
    assert isinstance(match, (SingleValue, Wildcard))
    key = name_search_key(match.pattern if isinstance(match, Wildcard) else match.value)
    clauses: list[ColumnElement[bool]] = []
    for spelling in _spellings(key, match):
        pattern = _pattern(spelling) if isinstance(match, Wildcard) else _literal(spelling)
        if attribute.tag in MULTIPLE_VALUES:
            clauses += _names_clauses(column, pattern)
        else:
            clauses += _name_clauses(column, spelling, pattern)
    return or_(*clauses)


def _spellings(key: str, match: Match) -> list[str]:
    """Give a key with and without its last components when these may be empty: Doe^* finds Doe as well."""
    spellings = [key]
    while isinstance(match, Wildcard) and key.endswith("^*"):
        key = key[:-2].rstrip("^")
        spellings.append(key)
    return spellings


def _name_clauses(column: ColumnElement[str], text: str, pattern: str) -> list[ColumnElement[bool]]:
    clauses = [column == text if text == pattern else _like(column, pattern)]
    if not pattern.endswith("%"):
        clauses.append(_like(column, f"{pattern}=%"))
    if not text.isascii():
        clauses += [_like(column, f"%={pattern}"), _like(column, f"%={pattern}=%")]
    return clauses


def _names_clauses(column: ColumnElement[str], pattern: str) -> list[ColumnElement[bool]]:
    """Look for a name among several."""
    separated = literal(_SEPARATOR) + column + literal(_SEPARATOR)
    ends = (_SEPARATOR, "=")
    return [_like(separated, f"%{before}{pattern}{behind}%") for before in ends for behind in ends]
