"""
Lists of the REST API on a real index: whatever is asked, in whatever order and from wherever on, a page and its total
are those of the plain statement that nobody would want to wait for on a large archive.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import pytest

from pacs.archive.attributes import Level
from pacs.archive.index.listing import COLUMNS, list_in_thread, lookup_statement, page_of_lookup
from pacs.web.filters import listing_of

TO_PATIENT: Final = "JOIN patients ON studies.patient_pk = patients.pk"
JOINED: Final = {
    Level.PATIENT: "patients",
    Level.STUDY: f"studies {TO_PATIENT}",
    Level.SERIES: f"series JOIN studies ON series.study_pk = studies.pk {TO_PATIENT}",
}
TABLES: Final = {Level.PATIENT: "patients", Level.STUDY: "studies", Level.SERIES: "series"}
NAME: Final = "patients.patient_name_search"
DAY: Final = "replace(studies.study_date, '.', '')"
PHYSICIAN: Final = "studies.referring_physician_search"
TIME: Final = "substr(replace(studies.study_time, ':', '') || '000000', 1, 6)"
IS_DAY: Final = f"length({DAY}) = 8 AND {DAY} NOT GLOB '*[^0-9]*'"
FILTERS: Final[tuple[tuple[dict[str, str], str], ...]] = (
    ({}, "1"),
    ({"patient_id": "K1"}, "patients.patient_id = 'K1'"),
    ({"patient_id": "*1*"}, "patients.patient_id LIKE '%1%'"),
    ({"patient_name": "*a*"}, f"{NAME} LIKE '%a%'"),
    ({"patient_name": "kno*"}, f"{NAME} LIKE 'kno%' OR {NAME} LIKE '%=kno%'"),
    ({"patient_name": "山*"}, f"{NAME} LIKE '山%' OR {NAME} LIKE '%=山%'"),
    ({"patient_name": "nobody"}, "0"),
)
OF_STUDIES: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"study_date_from": "19950101"}, f"{IS_DAY} AND {DAY} >= '19950101'"),
    ({"referring_physician": "*a*"}, f"{PHYSICIAN} LIKE '%a%'"),
    ({"referring_physician": "mor*"}, f"{PHYSICIAN} LIKE 'mor%' OR {PHYSICIAN} LIKE '%=mor%'"),
    ({"study_time": "10"}, f"{TIME} BETWEEN '100000' AND '105959' AND studies.study_time != ''"),
    ({"study_time": "1030-1031"}, f"{TIME} BETWEEN '103000' AND '103159' OR studies.study_time = ''"),
    (
        {"study_time": "1030-", "patient_name": "*a*"},
        f"({TIME} >= '103000' OR studies.study_time = '') AND {NAME} LIKE '%a%'",
    ),
    (
        {"study_date_from": "20040101", "study_date_to": "20300131"},
        f"{IS_DAY} AND {DAY} BETWEEN '20040101' AND '20300131'",
    ),
    (
        {"study_date_from": "20300101", "study_date_to": "20300220"},
        f"{IS_DAY} AND {DAY} BETWEEN '20300101' AND '20300220'",
    ),
    (
        {"num_instances": 2, "patient_name": "*a*"},
        f"studies.num_instances = 2 AND {NAME} LIKE '%a%'",
    ),
    ({"num_series": 2, "size_bytes": 1 << 40}, "0"),
    (
        {"study_date_from": "19950101", "patient_name": "*a*"},
        f"{IS_DAY} AND {DAY} >= '19950101' AND {NAME} LIKE '%a%'",
    ),
)  # fmt: skip
OF_LEVEL: Final = {
    Level.PATIENT: (({"sex": "F"}, "patients.sex = 'F'"),),
    Level.STUDY: (*OF_STUDIES, ({"study_description": "*head*"}, "studies.study_description GLOB '*head*'")),
    Level.SERIES: (
        ({"modality": "CT"}, "series.modality = 'CT'"),
        ({"modality": "CT", "patient_id": "*1*"}, "series.modality = 'CT' AND patients.patient_id LIKE '%1%'"),
    ),
}
NUMBERS: Final = ("series_number",)
SEARCHED: Final = {"patient_name": NAME, "referring_physician": PHYSICIAN}
PAGES: Final = ((1, 0), (5, 3), (7, 40), (1000, 0), (1000, 2), (3, 100_000))


def plain(level: Level, where: str, sort: str | None, is_descending: bool) -> str:
    columns = COLUMNS[level]
    key = f"{TABLES[level]}.pk"
    direction = "DESC" if is_descending else "ASC"
    order = f"{key} {direction}"
    if sort is not None:
        by = SEARCHED.get(sort, str(columns[sort]))
        order = f"{f'CAST({by} AS INTEGER)' if sort in NUMBERS else by} {direction}, {order}"
    shown = ", ".join(str(column) for column in columns.values())
    return f"SELECT {shown} FROM {JOINED[level]} WHERE {where} ORDER BY {order}"


@pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY, Level.SERIES])
def test_every_page_of_every_order_is_that_of_the_plain_statement(connection: sqlite3.Connection, level: Level) -> None:
    for query, where in (*FILTERS, *OF_LEVEL[level]):
        for sort in (None, *COLUMNS[level], *(f"-{name}" for name in COLUMNS[level])):
            name = sort.removeprefix("-") if sort is not None else None
            statement = plain(level, where, name, is_descending=sort is not None and sort.startswith("-"))
            everything = connection.execute(statement).fetchall()
            for limit, offset in PAGES:
                asked = {**query, "limit": limit, "offset": offset} | ({"sort": sort} if sort is not None else {})
                listing = listing_of(level, asked)
                page = list_in_thread(connection, listing)
                assert (page.rows, page.total) == (everything[offset : offset + limit], len(everything)), asked
                if listing.is_lookup:
                    looked_up = page_of_lookup(listing, connection.execute(*lookup_statement(listing)).fetchall())
                    assert looked_up in (None, page), asked


def test_the_plain_statements_find_something_each(connection: sqlite3.Connection) -> None:
    for level in (Level.PATIENT, Level.STUDY, Level.SERIES):
        for query, where in (*FILTERS, *OF_LEVEL[level]):
            found = connection.execute(plain(level, where, None, False)).fetchall()
            assert bool(found) == (where != "0"), query
