"""
From a query to a statement of the index, in SQLAlchemy Core: the same for SQLite and PostgreSQL.

Statements are made once for each shape of a query (its level, what it wants, and the forms of its conditions) and
found again by it; a query then costs its parameters alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, Text, cast, func, literal_column, select

from pacs.archive.attributes import Level
from pacs.archive.index.clauses import TABLES, Bound, Clause, Parameters, bind, build, column_of, named
from pacs.archive.index.schema import INSTANCES, PATIENTS, SERIES, STUDIES
from pacs.archive.index.sql import compile_shape
from pacs.archive.keys import BY_TAG, COMPUTED, LEVELS, UNIQUE_KEYS, is_of_header
from pacs.archive.query import Condition, Equals, Number, Order, Query, tags_of

REMEMBERED_SHAPES: Final = 512
PARTS_AT_MOST: Final = 200
"""Of one clause: SQLite takes expressions of 1,000 levels and 500 selections together, of which a name needs two."""
PARAMETERS_AT_MOST: Final = 30_000  # SQLite takes 32,766, PostgreSQL one more

_COUNTS: Final[Mapping[int, ColumnElement[Any]]] = {
    0x00201200: PATIENTS.c.num_studies,
    0x00201202: (
        select(func.coalesce(func.sum(STUDIES.c.num_series), literal_column("0")))
        .where(STUDIES.c.patient_pk == PATIENTS.c.pk)
        .correlate(PATIENTS)
        .scalar_subquery()
    ),
    0x00201204: PATIENTS.c.num_instances,
    0x00201206: STUDIES.c.num_series,
    0x00201208: STUDIES.c.num_instances,
    0x00201209: SERIES.c.num_instances,
}


class Shape(NamedTuple):
    """What a statement is made for; two queries of one shape differ in their parameters alone."""

    level: Level
    columns: tuple[int, ...]
    clauses: tuple[Clause, ...]
    counts: tuple[int, ...] = ()
    order: tuple[Order, ...] = ()
    wants_representative: bool = False
    has_limit: bool = False
    has_offset: bool = False


class Statement(NamedTuple):
    """
    A statement of the index.

    Attributes:
        text, parameters: for the driver.
        rest: conditions that only a look at each row tells; their attributes are columns behind the wanted ones.
        is_lookup: it finds at most a few rows by a unique index, in microseconds.
    """

    text: str
    parameters: tuple[Any, ...]
    rest: tuple[Condition, ...] = ()
    is_lookup: bool = False


def statement_for(query: Query) -> Statement:
    """
    Give the statement whose rows are the matches, a column for each wanted attribute, in the order of arrival.

    Attributes of the headers alone have no column; where any is wanted or matched, the last column is the key of an
    object whose header has them.
    """
    shape, parameters, rest = _shape_of(query)
    text, order = compile_shape_of(shape)
    values = tuple(parameters[i] for i in order) if order is not None else tuple(parameters)
    is_lookup = any(
        isinstance(condition, Equals) and condition.tag == UNIQUE_KEYS[query.level] for condition in query.conditions
    ) and (query.level is not Level.PATIENT)
    return Statement(text, values, rest, is_lookup and not shape.wants_representative)


def select_for(query: Query) -> Select[Any]:
    """Give the same statement to be changed further; conditions on headers are not in it."""
    shape, parameters, _ = _shape_of(query)
    columns = tuple(tag for tag in query.wanted if not is_of_header(tag))
    return _select(shape._replace(columns=columns)).params(**named(parameters))


def _shape_of(query: Query) -> tuple[Shape, list[Any], tuple[Condition, ...]]:
    clauses: list[Clause] = []
    parameters: list[Any] = []
    counts: list[int] = []
    count_parameters: list[Any] = []
    rest: list[Condition] = []
    for condition in query.conditions:
        if isinstance(condition, Number) and condition.tag in _COUNTS:
            if len(condition.values) > 1:
                rest.append(condition)
                continue
            counts.append(condition.tag)
            count_parameters.append(condition.values[0])
            continue
        bound = _bound(condition)
        if bound is not None and len(parameters) + len(bound.parameters) > PARAMETERS_AT_MOST:
            bound = None
        if bound is not None:
            clauses.append(bound.clause)
            parameters += bound.parameters
        if bound is None or not bound.is_exact:
            rest.append(condition)
    columns = [tag for tag in query.wanted if not is_of_header(tag)]
    columns += [tag for condition in rest for tag in tags_of(condition) if not is_of_header(tag)]
    wants_header = any(map(is_of_header, query.wanted)) or any(
        is_of_header(tag) for condition in rest for tag in tags_of(condition)
    )
    has_limit = query.limit is not None and not rest
    has_offset = query.offset > 0 and not rest
    shape = Shape(
        query.level, tuple(columns), tuple(clauses), tuple(counts), query.order, wants_header, has_limit, has_offset
    )
    parameters += count_parameters
    if has_limit:
        parameters.append(query.limit)
    if has_offset:
        parameters.append(query.offset)
    return shape, parameters, tuple(rest)


def _bound(condition: Condition) -> Bound | None:
    if any(map(is_of_header, tags_of(condition))):
        return None
    bound = bind(condition)
    if bound is not None and len(bound.clause.forms) > PARTS_AT_MOST and bound.clause.kind != "number":
        return None  # a long list of names or patterns is looked at row by row
    return bound


@lru_cache(maxsize=REMEMBERED_SHAPES)
def compile_shape_of(shape: Shape) -> tuple[str, tuple[int, ...] | None]:
    """Give a shape's text, and the order of its parameters when it is not that of their making."""
    return compile_shape(_select(shape))


def _select(shape: Shape) -> Select[Any]:
    parameters = Parameters()
    columns = [_column(tag).label(f"c{i}") for i, tag in enumerate(shape.columns)]
    if shape.wants_representative:
        columns.append(_representative(shape.level).label("representative"))
    statement = select(*columns).select_from(joined(shape.level))
    statement = statement.where(*(build(clause, parameters.take) for clause in shape.clauses))
    statement = statement.where(*(cast(_COUNTS[tag], Text) == parameters.take() for tag in shape.counts))
    if shape.level is Level.IMAGE:
        statement = statement.where(INSTANCES.c.copy_number == literal_column("0"))
    order = [column_of(o.tag).desc() if o.is_descending else column_of(o.tag) for o in shape.order]
    statement = statement.order_by(*order, TABLES[shape.level].c.pk)
    if shape.has_limit:
        statement = statement.limit(parameters.take())
    if shape.has_offset:
        statement = statement.offset(parameters.take())
    return statement


UPWARDS: Final = (
    (Level.IMAGE, INSTANCES.c.series_pk, SERIES),
    (Level.SERIES, SERIES.c.study_pk, STUDIES),
    (Level.STUDY, STUDIES.c.patient_pk, PATIENTS),
)
"""Each level with the column that leads to the one above it."""


def joined(level: Level) -> Any:
    """Give the table of a level with those above it."""
    joined: Any = TABLES[level]
    for lower, key, table in UPWARDS:
        if LEVELS.index(lower) <= LEVELS.index(level):
            joined = joined.join(table, key == table.c.pk)
    return joined


def _column(tag: int) -> ColumnElement[Any]:
    if tag in _COUNTS:
        return cast(_COUNTS[tag], Text)
    return column_of(tag) if tag in BY_TAG or tag in COMPUTED else literal_column("''")


def _representative(level: Level) -> ColumnElement[Any]:
    """Give the key of the first object of an entity: its header has what the entity's objects have in common."""
    if level is Level.IMAGE:
        return INSTANCES.c.pk
    series: Any = SERIES.c.pk
    if level is not Level.SERIES:
        study: Any = STUDIES.c.pk
        if level is Level.PATIENT:
            studies = STUDIES.alias()
            study = select(func.min(studies.c.pk)).where(studies.c.patient_pk == PATIENTS.c.pk)
            study = study.correlate(PATIENTS).scalar_subquery()
        first = SERIES.alias()
        series = select(func.min(first.c.pk)).where(first.c.study_pk == study)
        series = series.correlate(PATIENTS, STUDIES).scalar_subquery()
    instances = INSTANCES.alias()
    found = select(func.min(instances.c.pk)).where(instances.c.series_pk == series)
    return found.correlate(PATIENTS, STUDIES, SERIES).scalar_subquery()
