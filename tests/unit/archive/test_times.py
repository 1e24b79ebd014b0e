"""
What dates, times and date-times mean as keys, PS3.4 C.2.2.2.1.3 and C.2.2.2.5.
"""

from __future__ import annotations

import pytest

from pacs.archive.times import date_ends, date_time_ends, moments, time_ends


@pytest.mark.parametrize(
    ("key", "ends"),
    [
        ("20240229", ("20240229", "20240229", False)),
        ("20240101-20240131", ("20240101", "20240131", True)),
        ("20240101 - 20240131", ("20240101", "20240131", True)),
        ("-20240131", ("", "20240131", True)),
        ("20240101-", ("20240101", "", True)),
        ("2024.01.01", ("20240101", "20240101", False)),
        ("202401", None),
        ("today", None),
        ("20240101-x", None),
    ],
)
def test_dates(key: str, ends: tuple[str, str, bool] | None) -> None:
    assert date_ends(key) == ends


@pytest.mark.parametrize(
    ("key", "ends"),
    [
        ("10", ("100000", "105959.999999", False)),
        ("1030", ("103000", "103059.999999", False)),
        ("103059", ("103059", "103059.999999", False)),
        ("103059.5", ("103059.5", "103059.599999", False)),
        ("10-1130", ("100000", "113059.999999", True)),
        ("-12", ("", "125959.999999", True)),
        ("1", None),
        ("10:30", ("103000", "103059.999999", False)),
    ],
)
def test_times(key: str, ends: tuple[str, str, bool] | None) -> None:
    assert time_ends(key) == ends


@pytest.mark.parametrize(
    ("key", "low", "high", "is_range"),
    [
        ("2024", "20240101000000.000000", "20241231235959.999999", False),
        ("202402", "20240201000000.000000", "20240229235959.999999", False),
        ("20240101103000", "20240101103000.000000", "20240101103000.999999", False),
        ("20240101103000.25+0200", "20240101083000.250000", "20240101083000.259999", False),
        ("20240101103000-0500", "20240101153000.000000", "20240101153000.999999", False),
        ("20240101-20240131", "20240101000000.000000", "20240131235959.999999", True),
        ("20240101-0500-20240131-0500", "20240101050000.000000", "20240201045959.999999", True),
        ("-2024", "", "20241231235959.999999", True),
        ("2024-", "20240101000000.000000", "", True),
    ],
)
def test_date_times(key: str, low: str, high: str, is_range: bool) -> None:
    assert date_time_ends(key) == (low, high, is_range)


@pytest.mark.parametrize("value", ["", "x", "20241301", "2024010125", "1"])
def test_what_is_no_date_time_is_no_moment(value: str) -> None:
    assert moments(value) == ("", "")
