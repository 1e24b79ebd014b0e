"""
The threads that read objects for whoever sends them: short work by the thousand, and answers many at a time.

Twisted's own pool does the same at several times the cost, most of it in the reactor's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pacs.archive.inbox import Inbox

READING_THREADS: Final = 4

T = TypeVar("T")
_Work = tuple["Deferred[Any]", Callable[..., Any], tuple[object, ...]]


class ReadingThreads:
    """A few threads; work waits in the order in which it came."""

    def __init__(self, *, reactor: Any) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._inbox: Inbox[tuple[Deferred[Any], object]] = Inbox(reactor=reactor, deliver=_answer)
        self._threads = [
            threading.Thread(target=self._run_in_thread, name=f"reading-{number}", daemon=True)
            for number in range(READING_THREADS)
        ]
        self._is_started = False

    def start(self) -> None:
        """Start the threads."""
        self._is_started = True
        self._inbox.start()
        for thread in self._threads:
            thread.start()

    def stop_in_thread(self) -> None:
        """End the threads when they have done what waits; the reactor must run meanwhile."""
        if self._is_started:
            for _ in self._threads:
                self._queue.put(None)
            for thread in self._threads:
                thread.join()

    def answer_last(self) -> None:
        """Deliver what is left, in the reactor's thread."""
        if self._is_started:
            self._inbox.stop()

    def run(self, function: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Have a function called in a thread; fires with what it gives, or fails with what it raises."""
        done: Deferred[T] = Deferred()
        self._queue.put((done, function, arguments))
        return done

    def _run_in_thread(self) -> None:
        take, put = self._queue.get, self._inbox.put
        while (work := take()) is not None:
            done, function, arguments = work
            try:
                result: object = function(*arguments)
            except Exception:  # noqa: BLE001 - the border to any work: its failure belongs to whoever waits
                result = Failure()
            put((done, result))


def _answer(item: tuple[Deferred[Any], object]) -> None:
    done, result = item
    done.callback(result)  # a Failure makes it fail
