"""
Pages of lists, with how many there are in all: what the REST API shows of patients, studies, series and objects.

Statements are made once for each shape of a list and found again by it; counts join no more tables than the conditions
need, and where nothing else is left to count than a page that is not full, nothing is counted.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Integer, cast, func, literal_column, select

from pacs.archive.attributes import Level
from pacs.archive.index.clauses import TABLES, Clause, Parameters, bind, build, column_of, keys_by_name, without_index
from pacs.archive.index.schema import INSTANCES, PATIENTS, SERIES, STUDIES
from pacs.archive.index.search import UPWARDS, joined
from pacs.archive.index.sql import compile_shape
from pacs.archive.keys import BY_TAG, COMPUTED, LEVELS, level_of
from pacs.archive.query import Condition, Equals, Name, tags_of

REMEMBERED_SHAPES: Final = 512

Row = tuple[Any, ...]

COLUMNS: Final[Mapping[Level, Mapping[str, ColumnElement[Any]]]] = {
    Level.PATIENT: {
        name: PATIENTS.c[name]
        for name in ("patient_id", "issuer", "patient_name", "birth_date", "sex", "num_studies", "num_instances")
    },
    Level.STUDY: {
        "study_instance_uid": STUDIES.c.study_instance_uid,
        "patient_id": PATIENTS.c.patient_id,
        "issuer": PATIENTS.c.issuer,
        "patient_name": PATIENTS.c.patient_name,
        **{
            name: STUDIES.c[name]
            for name in (
                "study_date",
                "study_time",
                "accession_number",
                "study_id",
                "study_description",
                "referring_physician",
                "modalities_in_study",
                "num_series",
                "num_instances",
                "size_bytes",
            )
        },
    },
    Level.SERIES: {
        "series_instance_uid": SERIES.c.series_instance_uid,
        "study_instance_uid": STUDIES.c.study_instance_uid,
        "patient_id": PATIENTS.c.patient_id,
        **{
            name: SERIES.c[name]
            for name in (
                "modality",
                "series_number",
                "series_description",
                "series_date",
                "series_time",
                "body_part_examined",
                "laterality",
                "protocol_name",
                "station_name",
                "manufacturer",
                "num_instances",
                "size_bytes",
            )
        },
    },
    Level.IMAGE: {
        "sop_instance_uid": INSTANCES.c.sop_instance_uid,
        "series_instance_uid": SERIES.c.series_instance_uid,
        "study_instance_uid": STUDIES.c.study_instance_uid,
        "patient_id": PATIENTS.c.patient_id,
        **{
            name: INSTANCES.c[name]
            for name in (
                "sop_class_uid",
                "transfer_syntax_uid",
                "instance_number",
                "size_bytes",
                "sha256",
                "received_at",
                "source_ae_title",
            )
        },
    },
}
"""What a list shows, in its order."""

_SORTED_BY: Final[Mapping[str, ColumnElement[Any]]] = {
    "patient_name": PATIENTS.c.patient_name_search,
    "referring_physician": STUDIES.c.referring_physician_search,
}
_PATIENT_NAME: Final = 0x00100010
LEAST_BEGINNING: Final = 3
"""Characters of a name that are shared by few."""

_UNKNOWN: Final = frozenset("*?^=\\")
_LEVEL_OF: Final = {table: level for level, table in TABLES.items()}
_KEY: Final = itemgetter(-1)
_NUMBERS: Final = frozenset(("series_number", "instance_number"))
_JOIN: Final = re.compile(r"(?<! OUTER) JOIN ")
_INDEXED: Final = frozenset(next(iter(index.columns)) for table in _LEVEL_OF for index in table.indexes)
"""Columns whose order an index has."""

_KEPT_COUNTS: Final[Mapping[Level, ColumnElement[Any]]] = {
    Level.STUDY: PATIENTS.c.num_studies,
    Level.SERIES: STUDIES.c.num_series,
}
"""How many rows of a level belong to each row of the one above it."""

_NEARLY_UNIQUE: Final = frozenset((0x0020000D, 0x0020000E, 0x00080018, 0x00080050, 0x00100020))
"""Study, series and object by UID, Accession Number, Patient ID: an index finds them, and they are few."""


class Listing(NamedTuple):
    """
    A list that somebody asks for.

    Attributes:
        conditions: on attributes of the index, at the level or above.
        sort: a column of the list, None: in the order of arrival.
    """

    level: Level
    conditions: tuple[Condition, ...] = ()
    sort: str | None = None
    is_descending: bool = False
    limit: int = 100
    offset: int = 0

    @property
    def is_lookup(self) -> bool:
        """An index finds what is probably a few rows, in microseconds; they are wanted in the order of arrival."""
        return self.sort is None and any(map(_finds_few, self.conditions))


def _finds_few(condition: Condition) -> bool:
    if isinstance(condition, Equals):
        return condition.tag in _NEARLY_UNIQUE and bool(condition.value)
    return isinstance(condition, Name) and condition.tag == _PATIENT_NAME and all(map(_begins, condition.keys))


def _begins(key: str) -> bool:
    """Whether a key says how names begin, so that an index finds them."""
    beginning = key[:LEAST_BEGINNING]
    return len(beginning) == LEAST_BEGINNING and not _UNKNOWN.intersection(beginning)


class ListPage(NamedTuple):
    """A part of a list, and how many items the whole has."""

    rows: list[Row]
    total: int


class _Shape(NamedTuple):
    level: Level
    clauses: tuple[Clause, ...]
    sort: str | None
    is_descending: bool


Statement = tuple[str, tuple[Any, ...]]
"""Text and parameters."""


def page_statement(listing: Listing) -> Statement:
    """Give the statement of a list's page."""
    clauses, parameters = _bound(listing)
    shape = _Shape(listing.level, clauses, listing.sort, listing.is_descending)
    return _filled(_statement(_page, shape), [*parameters, listing.limit, listing.offset])


def sorted_statement(listing: Listing) -> Statement:
    """
    Give the statement that sorts a whole list, and with it finds its page and counts it.

    Behind a row's columns are the total and the key; when the page is empty there is one row, without a key.
    """
    clauses, parameters = _bound(listing)
    shape = _Shape(listing.level, clauses, listing.sort, listing.is_descending)
    return _filled(_statement(_sorted_whole, shape), [*parameters, listing.limit, listing.offset])


def lookup_statement(listing: Listing) -> Statement:
    """
    Give the statement of a list of which an index finds a few rows: all of them, in no order, for so few SQLite's
    sorting takes longer than finding them.

    Each has its key as the last column; `page_of_lookup` makes the page.
    """
    clauses, parameters = _bound(listing)
    return _filled(_lookup(listing.level, clauses), [*parameters, listing.offset + listing.limit + 1])


def page_of_lookup(listing: Listing, rows: list[Row]) -> ListPage | None:
    """Give the page of what `lookup_statement` has found, each once; None when there may be more."""
    last = listing.offset + listing.limit
    if len(rows) > last:
        return None
    if len(rows) > 1:
        rows = sorted({row[-1]: row for row in rows}.values(), key=_KEY, reverse=listing.is_descending)
    return ListPage([row[:-1] for row in rows[listing.offset : last]], len(rows))


def count_statement(listing: Listing) -> Statement:
    """Give the statement that counts the whole list."""
    clauses, parameters = _bound(listing)
    return _filled(_statement(_count, _Shape(listing.level, clauses, None, is_descending=False)), parameters)


def total_of(listing: Listing, rows: list[Row]) -> int | None:
    """Give how many items the whole list has, when its page tells."""
    if len(rows) < listing.limit and (rows or not listing.offset):
        return listing.offset + len(rows)
    return None


def list_in_thread(connection: sqlite3.Connection, listing: Listing) -> ListPage:
    """Read a part of a list."""
    if _is_sorted_whole(listing):
        rows = connection.execute(*sorted_statement(listing)).fetchall()
        return ListPage([row[:-2] for row in rows if row[-1] is not None], rows[0][-2])
    rows = connection.execute(*page_statement(listing)).fetchall()
    total = total_of(listing, rows)
    if total is None:
        total = connection.execute(*count_statement(listing)).fetchone()[0]
    return ListPage(rows, total)


def _is_sorted_whole(listing: Listing) -> bool:
    """Whether no index has the order, or too much of it would be gone through row by row, for the conditions."""
    if listing.sort is None:
        return False
    column = _sorted_by(listing.sort, listing.level)
    if column not in _INDEXED or listing.sort in _NUMBERS:
        return True
    if not listing.conditions:
        return False
    return listing.offset > listing.limit or not _is_walked(listing, column)


def _is_walked(listing: Listing, column: Any) -> bool:
    """Whether rows are looked at in the order of an index: all conditions are on its column, or all on its table."""
    tags = [tag for condition in listing.conditions for tag in tags_of(condition)]
    if all(column_of(tag) is column for tag in tags):
        return True
    return {_LEVEL_OF[column.table], *map(level_of, tags)} == {listing.level}


def _bound(listing: Listing) -> tuple[tuple[Clause, ...], list[Any]]:
    clauses: list[Clause] = []
    parameters: list[Any] = []
    for condition in listing.conditions:
        bound = bind(condition)
        if bound is not None:
            clauses.append(bound.clause)
            parameters += bound.parameters
    return tuple(clauses), parameters


def _filled(statement: tuple[str, tuple[int, ...] | None], parameters: list[Any]) -> tuple[str, tuple[Any, ...]]:
    text, order = statement
    return text, tuple(parameters) if order is None else tuple(parameters[i] for i in order)


@lru_cache(maxsize=REMEMBERED_SHAPES)
def _lookup(level: Level, clauses: tuple[Clause, ...]) -> tuple[str, tuple[int, ...] | None]:
    """Keys that an index of names gives are the first table: each of its ranges then is a query of its own."""
    parameters = Parameters()
    found: Any = joined(level)
    where: list[ColumnElement[bool]] = []
    for clause in clauses:
        keys = keys_by_name(clause, parameters.take)
        if keys is None:
            where.append(build(clause, parameters.take))
        else:
            named = keys.cte(f"named_{parameters.count}")
            found = found.join(named, named.c.pk == PATIENTS.c.pk)
    statement = select(*COLUMNS[level].values(), TABLES[level].c.pk).select_from(found)
    statement = statement.where(*where, *_of_level(level))
    return compile_shape(statement.limit(parameters.take()).offset(literal_column("0")))


@lru_cache(maxsize=REMEMBERED_SHAPES)
def _statement(make: Callable[[_Shape], Any], shape: _Shape) -> tuple[str, tuple[int, ...] | None]:
    text, order = compile_shape(make(shape))
    return (_JOIN.sub(" CROSS JOIN ", text) if _is_from_above(shape) else text), order


def _page(shape: _Shape) -> Any:
    """Find and sort keys alone, of no more tables than are needed, then look the page's rows up."""
    parameters = Parameters()
    keys, order = _keys(shape, parameters)
    page = keys.limit(parameters.take()).offset(parameters.take()).subquery("page")
    found = page.join(TABLES[shape.level], page.c.pk == TABLES[shape.level].c.pk)
    return select(*COLUMNS[shape.level].values()).select_from(_with_above(found, shape.level)).order_by(*order)


def _sorted_whole(shape: _Shape) -> Any:
    """
    Sort all keys, count them, and look the page's rows up.

    With a limit SQLite would sort into a tree, which takes longer than to sort all when the page is not near the
    beginning; and the conditions are looked at once instead of twice.

    A descending list is read from the end of the ascending one: rows come in the order of arrival, which dates and
    what many have in common are in already, and SQLite sorts what is in order sooner than what is in the opposite one.
    """
    parameters = Parameters()
    keys, order = _keys(shape._replace(is_descending=False), parameters, is_sorted_whole=True)
    found = keys.cte("found").prefix_with("MATERIALIZED")
    counted = select(func.count().label("total")).select_from(found).cte("counted").prefix_with("MATERIALIZED")
    limit, offset = parameters.take(), parameters.take()
    if shape.is_descending:
        order = tuple(value.desc() for value in order)
        behind = select(counted.c.total).scalar_subquery() - offset
        nothing: ColumnElement[int] = literal_column("0")
        limit, offset = func.max(func.min(limit, behind), nothing), func.max(behind - limit, nothing)
    page = select(found.c.pk).limit(limit).offset(offset).subquery("page")
    rows: Any = counted.outerjoin(page, literal_column("1"))
    rows = rows.outerjoin(TABLES[shape.level], page.c.pk == TABLES[shape.level].c.pk)
    rows = _with_above(rows, shape.level, is_outer=True)
    return select(*COLUMNS[shape.level].values(), counted.c.total, page.c.pk).select_from(rows).order_by(*order)


def _keys(shape: _Shape, parameters: Parameters, *, is_sorted_whole: bool = False) -> tuple[Any, tuple[Any, ...]]:
    """Give the keys of a list in their order, and that order."""
    key = TABLES[shape.level].c.pk
    order: tuple[Any, ...] = (key,)
    up_to = shape.level
    if shape.sort is not None:
        column = _sorted_by(shape.sort, shape.level)
        value = cast(column, Integer) if shape.sort in _NUMBERS else column
        if is_sorted_whole:
            value = without_index(value)  # it would have the rows be read in its order
        order = (value, key)
        up_to = _LEVEL_OF[column.table]
    if shape.is_descending:
        order = tuple(value.desc() for value in order)
    keys = select(key.label("pk")).select_from(_joined_for(shape, up_to))
    keys = keys.where(*(build(clause, parameters.take) for clause in shape.clauses), *_of_level(shape.level))
    return keys.order_by(*order), order


def _with_above(found: Any, level: Level, *, is_outer: bool = False) -> Any:
    """Join the tables above a level."""
    for lower, key, table in UPWARDS:
        if LEVELS.index(lower) <= LEVELS.index(level):
            found = found.join(table, key == table.c.pk, isouter=is_outer)
    return found


def _sorted_by(sort: str, level: Level) -> Any:
    return _SORTED_BY.get(sort, COLUMNS[level][sort])


def _count(shape: _Shape) -> Any:
    """Count rows; what belongs to rows above is counted there already."""
    parameters = Parameters()
    counted: Any = func.count()
    found = _joined_for(shape, shape.level)
    kept = _KEPT_COUNTS.get(shape.level)
    if kept is not None and _is_from_above(shape):
        counted = func.coalesce(func.sum(kept), literal_column("0"))
        above = shape._replace(level=_LEVEL_OF[kept.table])
        found = _joined_for(above, above.level)
    statement = select(counted).select_from(found)
    return statement.where(*(build(clause, parameters.take) for clause in shape.clauses), *_of_level(shape.level))


def _of_level(level: Level) -> tuple[ColumnElement[bool], ...]:
    return (INSTANCES.c.copy_number == literal_column("0"),) if level is Level.IMAGE else ()


def _levels_of(shape: _Shape) -> set[int]:
    """Give the places in `LEVELS` of what the conditions look at."""
    tags = [tag for clause in shape.clauses for tag in clause.tags]
    return {LEVELS.index(BY_TAG[tag].level if tag in BY_TAG else COMPUTED[tag][2]) for tag in tags}


def _is_from_above(shape: _Shape) -> bool:
    """
    Whether all conditions are on one level above that of the list, which then is gone through first.

    SQLite, left to itself, may look at each row of the list to find out what is above it.
    """
    levels = _levels_of(shape)
    if not levels and shape.sort is not None and _sorted_by(shape.sort, shape.level) in _INDEXED:
        levels = {LEVELS.index(_LEVEL_OF[_sorted_by(shape.sort, shape.level).table])}
    if len(levels) != 1:
        return False
    highest = levels.pop()
    if shape.sort is not None and LEVELS.index(_LEVEL_OF[_sorted_by(shape.sort, shape.level).table]) < highest:
        return False
    return highest < LEVELS.index(shape.level)


def _joined_for(shape: _Shape, up_to: Level) -> Any:
    """Give the table of a level with those above it that the conditions look at, and with all up to a level."""
    highest = min(_levels_of(shape) | {LEVELS.index(up_to)})
    links = [
        (lower, key, table)
        for lower, key, table in UPWARDS
        if highest < LEVELS.index(lower) <= LEVELS.index(shape.level)
    ]
    if not _is_from_above(shape):
        found: Any = TABLES[shape.level]
        for _, key, table in links:
            found = found.join(table, key == table.c.pk)
        return found
    found = links[-1][2] if links else TABLES[shape.level]
    for lower, key, table in reversed(links):
        found = found.join(TABLES[lower], key == table.c.pk)
    return found
