"""
Coroutines of which most end without waiting for anything: those cost no Deferred.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


def begin(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T] | None:
    """
    Run a coroutine as far as it goes.

    Returns:
        None when it has ended, else a Deferred of its result; canceling that cancels what it waits for.

    Raises:
        Exception: it failed before it waited for anything.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    return Deferred.fromCoroutine(_rest(coroutine, awaited))


def _rest(coroutine: Coroutine[Deferred[Any], Any, T], awaited: Deferred[Any]) -> Generator[Deferred[Any], Any, T]:
    """Go on with a coroutine that has begun to wait."""
    while True:
        error: BaseException | None = None
        value: Any = None
        try:
            value = yield awaited
        except BaseException as raised:  # noqa: BLE001 - it is the coroutine's to deal with
            error = raised
        try:
            awaited = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
