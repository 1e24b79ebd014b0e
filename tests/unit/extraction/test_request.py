"""The Frame Range Keys and their rules, PS3.4 Y.3.2.1."""

from __future__ import annotations

import math
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.request import FrameKey, FrameRequest
from tests.extraction import calculated, simple, time_range

numbers = st.integers(0, 60)
END = 0xFFFFFFFF


def outcome(request: FrameRequest, count: int, times_s: list[float] | None = None) -> list[int] | Cause:
    try:
        request.check()
        return request.frames(count, times_s)
    except ExtractionError as error:
        assert str(error)
        return error.cause


def test_the_example_of_the_standard() -> None:
    """PS3.4 Y.3.2.1.2, note."""
    assert outcome(calculated(2, 9, 3, 12, END, 5), 25) == [2, 5, 8, 12, 17, 22]


@given(st.lists(numbers, max_size=6), st.integers(1, 50))
def test_a_simple_list_increases_and_what_is_not_there_is_left_out(wanted: list[int], count: int) -> None:
    found = outcome(simple(*wanted), count)
    if not wanted or sorted(set(wanted)) != wanted or 0 in wanted:
        assert found is Cause.INVALID_REQUEST
    else:
        assert found == ([number for number in wanted if number <= count] or Cause.NO_SUCH_FRAMES)


@given(
    st.lists(st.tuples(numbers, st.one_of(numbers, st.just(END)), st.integers(0, 5)), max_size=4), st.integers(1, 50)
)
def test_a_calculated_list_is_its_sub_ranges_one_behind_the_other(
    ranges: list[tuple[int, int, int]], count: int
) -> None:
    """Without rules of ours: every number that the sub-ranges name, were the object without end."""
    found = outcome(calculated(*(value for sub_range in ranges for value in sub_range)), count)
    is_valid = bool(ranges) and all(first > 0 and last >= first and increment > 0 for first, last, increment in ranges)
    named = [n for first, last, step in ranges if step for n in range(first, min(last, 100) + 1, step)]
    if not is_valid or any(END in r for r in ranges[:-1]) or sorted(set(named)) != named:
        assert found is Cause.INVALID_REQUEST
    else:
        assert found == ([number for number in named if number <= count] or Cause.NO_SUCH_FRAMES)


@pytest.mark.parametrize(
    "request_",
    [
        simple(),
        calculated(),
        calculated(1, 2),
        calculated(1, 2, 1, 5),
        calculated(1, END, 1, 7, 9, 1),
        time_range(),
        time_range(1.0),
        time_range(1.0, 2.0, 3.0),
        time_range(2.0, 1.0),
        time_range(math.nan, 1.0),
        time_range(0.0, math.inf),
        FrameRequest(FrameKey.SIMPLE_FRAME_LIST, b"\1\0\0"),
        FrameRequest(FrameKey.TIME_RANGE, pack("<4f", 0, 0, 0, 1)[:12]),
    ],
)
def test_what_breaks_the_rules_is_an_invalid_request(request_: FrameRequest) -> None:
    with pytest.raises(ExtractionError) as caught:
        request_.check()
    assert caught.value.cause is Cause.INVALID_REQUEST
    assert str(caught.value).startswith(request_.key.name_in_standard)


def test_a_time_range_has_both_its_ends() -> None:
    """Times are decimal in an object and binary in a request: the same time is the same to the microsecond."""
    times = [number * 33.33 / 1000 for number in range(10)]
    assert outcome(time_range(0.06666, 0.13332), 10, times) == [3, 4, 5]
    assert outcome(time_range(0.067, 0.13), 10, times) == [4]
    assert outcome(time_range(0.07, 0.08), 10, times) is Cause.NO_SUCH_FRAMES
    assert outcome(time_range(-1.0, 0.0), 10, times) == [1]
    assert outcome(time_range(0.0, 1.0), 10) is Cause.NOT_TIMED
