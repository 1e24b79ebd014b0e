"""
How the reactor waits for the DICOM ports: awake for a moment, and with a short way to their connections.

Who was just answered mostly sends its next message within some ten microseconds, and a processor that has fallen asleep
takes as long again to wake. So the reactor looks a few times more before it sleeps: only after an answer, only for
60 µs, and not where it has been in vain - each failure in a row doubles the number of answers after which it sleeps at
once. An idle server sleeps.

Twisted gives each event a context for the prefix of log lines that nobody prints here; that takes longer than reading
a message. Our own connections do without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.epollreactor import EPollReactor
from twisted.python import log

from pacs.net.listening import ListeningPort, ServerConnection

LOOKS_FOR_S: Final = 60e-6
MOST_DOUBLINGS: Final = 6
LEAST_PROCESSORS: Final = 2  # with one, a peer on the same machine could not run meanwhile

_OURS: Final = frozenset({ServerConnection, ListeningPort})
_now_s: Final = time.perf_counter


class Attention:
    """
    The reactor's iteration: what `EPollReactor.doIteration` does.

    Args:
        reactor: whose events are waited for and served.
        is_awake: it may look again before it sleeps.
    """

    def __init__(self, reactor: Any, *, is_awake: bool) -> None:
        self._poll = reactor._poller.poll
        self._selectables: dict[int, Any] = reactor._selectables
        self._serve = reactor._doReadOrWrite
        self._is_awake = is_awake
        self._is_expecting = False
        self._in_vain = 0
        self._left_out = 0

    def expect(self) -> None:
        """A peer was just answered: look for its next message before sleeping."""
        self._is_expecting = self._is_awake

    def iterate(self, timeout_s: float | None) -> None:
        """Wait for events for so long at most, None for ever, and serve them."""
        selectables = self._selectables
        for descriptor, event in self._events(-1 if timeout_s is None else timeout_s, len(selectables)):
            selectable = selectables.get(descriptor)
            if selectable is None:
                continue  # another event's handler has removed it
            if selectable.__class__ in _OURS:
                self._serve(selectable, descriptor, event)
            else:
                log.callWithLogger(selectable, self._serve, selectable, descriptor, event)

    def _events(self, timeout_s: float, most: int) -> list[tuple[int, int]]:
        poll = self._poll
        if not self._is_expecting:
            return poll(timeout_s, most)  # type: ignore[no-any-return]
        self._is_expecting = False
        if self._left_out:
            self._left_out -= 1
            return poll(timeout_s, most)  # type: ignore[no-any-return]
        until_s = _now_s() + LOOKS_FOR_S
        while True:
            if found := poll(0, most):
                self._in_vain = 0
                return found  # type: ignore[no-any-return]
            if _now_s() >= until_s:
                break
        self._in_vain = min(self._in_vain + 1, MOST_DOUBLINGS)
        self._left_out = (1 << self._in_vain) - 1
        return poll(timeout_s, most)  # type: ignore[no-any-return]


def attend(reactor: Any) -> Callable[[], None]:
    """
    Have a reactor wait this way, if it is one for Linux' epoll.

    Returns:
        what to call when a peer was answered.
    """
    iterate = getattr(reactor, "doIteration", None)
    attention = getattr(iterate, "__self__", None)
    if not isinstance(attention, Attention):
        if type(reactor) is not EPollReactor:
            return _sleep_at_once
        attention = Attention(reactor, is_awake=len(os.sched_getaffinity(0)) >= LEAST_PROCESSORS)
        vars(reactor)["doIteration"] = attention.iterate
    return attention.expect


def _sleep_at_once() -> None:
    """Expect nothing."""
