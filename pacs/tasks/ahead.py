"""
Work that is begun before it is needed, and left to itself when it is needed no more.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Ahead(Generic[T]):
    """
    A coroutine that runs by itself; one may wait for it, or leave word what is to happen with what it gives.

    Whoever waits may be canceled, the work is not: threads can't be stopped, and what they give must be closed.
    """

    def __init__(self, work: Coroutine[Deferred[Any], Any, T]) -> None:
        self._result: T | Failure | None = None
        self._is_done = False
        self._waiter: Deferred[None] | None = None
        self._left: Callable[[T], None] | None = None
        Deferred.fromCoroutine(work).addBoth(self._done)

    @property
    def has_succeeded(self) -> bool:
        """What it gives is there."""
        return self._is_done and not isinstance(self._result, Failure)

    async def get(self) -> T:
        """Wait for it; raises what it raised. To be called once."""
        if not self._is_done:
            self._waiter = Deferred()
            await self._waiter
        result = self._result
        if isinstance(result, Failure):
            result.raiseException()
        return result  # type: ignore[return-value]

    def leave(self, discard: Callable[[T], None]) -> None:
        """Have `discard` called with what it gives, now or later; a failure is nobody's business any more."""
        self._left = discard
        if self._is_done:
            self._discard()

    def _done(self, result: T | Failure) -> None:
        self._result = result
        self._is_done = True
        waiter, self._waiter = self._waiter, None
        if self._left is not None:
            self._discard()
        elif waiter is not None and not waiter.called:
            waiter.callback(None)

    def _discard(self) -> None:
        result, left = self._result, self._left
        if left is not None and not isinstance(result, Failure):
            left(result)  # type: ignore[arg-type]
