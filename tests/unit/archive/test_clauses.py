"""
Clauses on a real table: what they find of stored values of every form is what the values mean.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from typing import Final

import pytest
from sqlalchemy import create_engine, insert, select

from pacs.archive.attributes import Matching
from pacs.archive.index.clauses import Parameters, bind, build
from pacs.archive.index.schema import STUDIES
from pacs.archive.index.sql import compile_shape
from pacs.archive.query import Range
from pacs.archive.times import time_ends

STUDY_TIME: Final = 0x00080030
PLAIN: Final = tuple(
    "".join(parts) for parts in product(("00", "09", "10", "12", "23"), ("", "00", "30", "59"), ("", "00", "30", "59"))
)
WITH_COLONS: Final = tuple(":".join(time[i : i + 2] for i in range(0, len(time), 2)) for time in PLAIN)
OF_FRACTIONS: Final = ("000000.0", "120000.000000", "120000.5", "12:00:00.5", "235959.999999")
NO_TIMES: Final = ("", "1", "120", "12000", "12.5", "12 30", "unknown", ":", "99", "990000")
STORED: Final = tuple(dict.fromkeys((*PLAIN, *WITH_COLONS, *OF_FRACTIONS, *NO_TIMES)))
KEYS: Final = (
    "12", "1200", "120000", "12:00", "1230", "123000.5", "120000.0", "00", "000000", "235959", "12-", "00-", "1230-",
    "120000.000000-",
    "23-", "-12", "-1159", "-00", "-235959.999999", "0800-1759", "10-12", "12-12", "00-00",
    "1800-0800",
)  # fmt: skip


@pytest.fixture(scope="module")
def studies() -> Iterator[sqlite3.Connection]:
    engine = create_engine("sqlite://")
    STUDIES.create(engine)
    rows = [
        {"patient_pk": n, "study_instance_uid": f"9.{n}", "received_at": n, "study_time": time}
        for n, time in enumerate(STORED)
    ]
    with engine.begin() as connection:
        connection.execute(insert(STUDIES), rows)
    with closing(engine.raw_connection()) as raw:
        assert isinstance(raw.driver_connection, sqlite3.Connection)
        raw.driver_connection.execute("PRAGMA case_sensitive_like = ON")
        yield raw.driver_connection


@pytest.mark.parametrize("matches_unknown", [False, True])
@pytest.mark.parametrize("key", KEYS)
def test_a_time_is_found_by_what_it_means_however_it_is_stored(
    studies: sqlite3.Connection, key: str, matches_unknown: bool
) -> None:
    """PS3.5 6.2, TM: one of less precision is its beginning; PS3.4 C.2.2.2.5: ends are included."""
    ends = time_ends(key)
    assert ends is not None
    condition = Range(STUDY_TIME, ends.low, ends.high, Matching.TIME, matches_unknown)

    def is_meant(stored: str) -> bool:
        padded = stored.replace(":", "").ljust(6, "0")
        return (ends.low or "000000") <= padded < "99" and padded <= (ends.high or "99")

    assert _found(studies, condition) == {
        stored for stored in STORED if (is_meant(stored) if stored else matches_unknown)
    }


def _found(studies: sqlite3.Connection, condition: Range) -> set[str]:
    bound = bind(condition)
    assert bound is not None
    text, order = compile_shape(select(STUDIES.c.study_time).where(build(bound.clause, Parameters().take)))
    places = range(len(bound.parameters)) if order is None else order
    return {time for (time,) in studies.execute(text, [bound.parameters[place] for place in places])}
