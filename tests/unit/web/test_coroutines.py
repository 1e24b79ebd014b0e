"""Coroutines that may end at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from pacs.web.coroutines import begin


def test_one_that_waits_for_nothing_needs_no_deferred() -> None:
    done: list[int] = []

    async def run() -> None:
        done.append(1)

    assert begin(run()) is None
    assert done == [1]


def test_one_that_waits_goes_on_with_each_result() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()

    async def run() -> int:
        try:
            return await first + await second
        except ValueError:
            return -1

    running = begin(run())
    results: list[Any] = []
    assert running is not None
    running.addBoth(results.append)
    first.callback(3)
    assert results == []
    second.callback(4)
    assert results == [7]


def test_a_failure_is_raised_where_it_is_waited_for() -> None:
    awaited: Deferred[int] = Deferred()

    async def run() -> int:
        try:
            return await awaited
        except ValueError:
            return -1

    running = begin(run())
    results: list[Any] = []
    assert running is not None
    running.addBoth(results.append)
    awaited.errback(ValueError())
    assert results == [-1]


def test_canceling_cancels_what_is_waited_for() -> None:
    awaited: Deferred[int] = Deferred()
    cleaned: list[bool] = []

    async def run() -> None:
        try:
            await awaited
        finally:
            cleaned.append(True)

    running = begin(run())
    results: list[Any] = []
    assert running is not None
    running.addErrback(lambda failure: results.append(failure.check(CancelledError)))
    running.cancel()
    assert cleaned == [True]
    assert results == [CancelledError]


def test_a_failure_before_anything_was_waited_for_is_raised() -> None:
    async def run() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        begin(run())
