"""
Pages of lists, with how many there are in all: what the REST API shows of patients, studies, series and objects.

Statements are made once for each shape of a list and found again by it; counts join no more tables than the conditions
need, and where nothing else is left to count than a page that is not full, nothing is counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Integer, cast, func, literal_column, select

from pacs.archive.attributes import Level
from pacs.archive.index.clauses import TABLES, Clause, Parameters, bind, build
from pacs.archive.index.schema import INSTANCES, PATIENTS, SERIES, STUDIES
from pacs.archive.index.search import UPWARDS, joined
from pacs.archive.index.sql import compile_shape
from pacs.archive.keys import BY_TAG, COMPUTED, LEVELS
from pacs.archive.query import Condition, Equals, Name

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
    is_count: bool


Statement = tuple[str, tuple[Any, ...]]
"""Text and parameters."""


def page_statement(listing: Listing) -> Statement:
    """Give the statement of a list's page."""
    clauses, parameters = _bound(listing)
    shape = _Shape(listing.level, clauses, listing.sort, listing.is_descending, is_count=False)
    return _filled(_statement(shape), [*parameters, listing.limit, listing.offset])


def lookup_statement(listing: Listing) -> Statement:
    """
    Give the statement of a list of which an index finds a few rows: all of them, in no order, for so few SQLite's
    sorting takes longer than finding them.

    Each has its key as the last column; `page_of_lookup` makes the page.
    """
    clauses, parameters = _bound(listing)
    return _filled(_lookup(listing.level, clauses), [*parameters, listing.offset + listing.limit + 1])


def page_of_lookup(listing: Listing, rows: list[Row]) -> ListPage | None:
    """Give the page of what `lookup_statement` has found; None when there may be more."""
    last = listing.offset + listing.limit
    if len(rows) > last:
        return None
    if len(rows) > 1:
        rows.sort(key=_KEY, reverse=listing.is_descending)
    return ListPage([row[:-1] for row in rows[listing.offset : last]], len(rows))


def count_statement(listing: Listing) -> Statement:
    """Give the statement that counts the whole list."""
    clauses, parameters = _bound(listing)
    return _filled(_statement(_Shape(listing.level, clauses, None, is_descending=False, is_count=True)), parameters)


def total_of(listing: Listing, rows: list[Row]) -> int | None:
    """Give how many items the whole list has, when its page tells."""
    if len(rows) < listing.limit and (rows or not listing.offset):
        return listing.offset + len(rows)
    return None


def list_in_thread(connection: sqlite3.Connection, listing: Listing) -> ListPage:
    """Read a part of a list."""
    rows = connection.execute(*page_statement(listing)).fetchall()
    total = total_of(listing, rows)
    if total is None:
        total = connection.execute(*count_statement(listing)).fetchone()[0]
    return ListPage(rows, total)


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
    parameters = Parameters()
    where = (*(build(clause, parameters.take) for clause in clauses), *_of_level(level))
    statement = select(*COLUMNS[level].values(), TABLES[level].c.pk).select_from(joined(level)).where(*where)
    return compile_shape(statement.limit(parameters.take()).offset(literal_column("0")))


@lru_cache(maxsize=REMEMBERED_SHAPES)
def _statement(shape: _Shape) -> tuple[str, tuple[int, ...] | None]:
    return compile_shape(_count(shape) if shape.is_count else _page(shape))


def _page(shape: _Shape) -> Any:
    if shape.sort is not None:
        return _sorted_page(shape, shape.sort)
    parameters = Parameters()
    statement = select(*COLUMNS[shape.level].values()).select_from(joined(shape.level))
    statement = statement.where(*(build(clause, parameters.take) for clause in shape.clauses), *_of_level(shape.level))
    key = TABLES[shape.level].c.pk
    statement = statement.order_by(key.desc() if shape.is_descending else key)
    return statement.limit(parameters.take()).offset(parameters.take())


def _sorted_page(shape: _Shape, sort: str) -> Any:
    """Sort keys alone, of no more tables than are needed, then look the page's rows up: sorting whole rows is slow."""
    parameters = Parameters()
    columns, key = COLUMNS[shape.level], TABLES[shape.level].c.pk
    column: Any = _SORTED_BY.get(sort, columns[sort])
    value = cast(column, Integer) if sort in _NUMBERS else column
    order = (value.desc(), key.desc()) if shape.is_descending else (value, key)
    keys = select(key.label("pk")).select_from(_joined_for(shape, _LEVEL_OF[column.table]))
    keys = keys.where(*(build(clause, parameters.take) for clause in shape.clauses), *_of_level(shape.level))
    page = keys.order_by(*order).limit(parameters.take()).offset(parameters.take()).subquery("page")
    return select(*columns.values()).select_from(joined(shape.level).join(page, page.c.pk == key)).order_by(*order)


def _count(shape: _Shape) -> Any:
    parameters = Parameters()
    statement = select(func.count()).select_from(_joined_for(shape, shape.level))
    return statement.where(*(build(clause, parameters.take) for clause in shape.clauses), *_of_level(shape.level))


def _of_level(level: Level) -> tuple[ColumnElement[bool], ...]:
    return (INSTANCES.c.copy_number == literal_column("0"),) if level is Level.IMAGE else ()


def _joined_for(shape: _Shape, up_to: Level) -> Any:
    """Give the table of a level with those above it that the conditions look at, and with all up to a level."""
    tags = [tag for clause in shape.clauses for tag in clause.tags]
    levels = [BY_TAG[tag].level if tag in BY_TAG else COMPUTED[tag][2] for tag in tags]
    highest = min(map(LEVELS.index, (up_to, *levels)))
    found: Any = TABLES[shape.level]
    for lower, key, table in UPWARDS:
        if highest < LEVELS.index(lower) <= LEVELS.index(shape.level):
            found = found.join(table, key == table.c.pk)
    return found
