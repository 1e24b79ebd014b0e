"""
Dates: exact intervals, and nothing that is no date.
"""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.deidentification import dates

DAYS = st.integers(1, 3650)
DATES = st.dates(date(1900, 1, 1), date(2199, 12, 31))


@given(DATES, DATES, DAYS)
def test_intervals_stay(one: date, other: date, days: int) -> None:
    moved = [dates.shift_date(f"{day:%Y%m%d}".encode(), days) for day in (one, other)]
    first, second = (date(int(value[:4]), int(value[4:6]), int(value[6:])) for value in moved if value)
    assert second - first == other - one
    assert one - first == timedelta(days)


def test_the_rest_of_a_date_time_stays() -> None:
    assert dates.shift_date_time(b"20240301235959.123456+0100", 1) == b"20240229235959.123456+0100"
    assert dates.year_of_date_time(b"20240301235959.123456+0100") == b"2024"


@pytest.mark.parametrize(
    "value", [b"2024", b"202403", b"20240230", b"20240101-20240201", b"Muster", b"00000101", b"2024030a", b"00010101"]
)
def test_what_is_no_full_date_has_no_answer(value: bytes) -> None:
    assert dates.shift_date(value, 30) is None
    assert dates.shift_date_time(value, 30) is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [(b"089Y", b"089Y"), (b"090Y", b"090Y"), (b"102Y", b"090Y"), (b"006M", b"006M"), (b"ninety", None), (b"99Y", None)],
)
def test_ages_over_89_are_one(value: bytes, kept: bytes | None) -> None:
    assert dates.cap_age(value) == kept


def test_a_time_is_a_time() -> None:
    assert dates.keep_time(b"235959.5") == b"235959.5"
    assert dates.keep_time(b"Muster") is None
    assert dates.keep_offset(b"+0100") == b"+0100"
    assert dates.keep_offset(b"0100") is None
