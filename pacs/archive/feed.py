"""
The change feed: what happened to what is kept, in order, with ids; written by the commit thread in the transaction of
the change itself, so that nothing is told that did not happen and nothing that happened is left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pacs.archive.index.changes import (
    PURGED_AT_ONCE,
    Bounds,
    Change,
    bounds_in_thread,
    changes_in_thread,
    json_object,
    news_in_thread,
    purge_changes,
    timestamp_of,
)
from pacs.archive.index.writer import IndexWriter
from pacs.events import Event

IMAGE_RECEIVED: Final = "image_received"
PURGE_INTERVAL_S: Final = 3600.0
SECONDS_OF_A_DAY: Final = 86400

T = TypeVar("T")
Run = Callable[[Callable[..., Any]], Awaitable[Any]]


def note_received(writer: IndexWriter, received: Sequence[Sequence[tuple[str, str | int | bool]]]) -> None:
    """Note received objects, each by the fields of its event."""
    happened_at = time.time_ns() // 1000
    timestamp = ("timestamp", timestamp_of(happened_at))
    for fields in received:
        writer.add_change(IMAGE_RECEIVED, happened_at, json_object((*fields, timestamp)))


def note_events(writer: IndexWriter, events: Sequence[Event]) -> None:
    """Note events of changes other than received objects."""
    for event in events:
        happened_at = int(event.timestamp.timestamp() * 1e6)
        writer.add_change(event.wire_name(), happened_at, json.dumps(event.as_dict(), ensure_ascii=False))


class ChangeFeed:
    """
    Reads the feed, and removes what is old.

    Args:
        run: runs a function with a snapshot of the index, in a thread.
        change: runs a function with the index's writer.
        retention_s: for how long changes are kept.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, run: Run, change: Run, retention_s: float, clock: IReactorTime) -> None:
        self._run = run
        self._change = change
        self._retention_s = retention_s
        self._purging = LoopingCall(self._purge)
        self._purging.clock = clock

    def start(self) -> None:
        """Remove what is old now, and then each hour."""
        self._purging.start(PURGE_INTERVAL_S).addErrback(
            lambda failure: self.log.failure("old changes could not be removed", failure)
        )

    def stop(self) -> None:
        """Remove no more."""
        if self._purging.running:
            self._purging.stop()

    async def bounds(self) -> Bounds:
        """Give what the feed has."""
        found: Bounds = await self._run(bounds_in_thread)
        return found

    async def after(self, change_id: int, limit: int) -> list[Change]:
        """Give the changes behind an id, in their order."""
        found: list[Change] = await self._run(lambda connection: changes_in_thread(connection, change_id, limit))
        return found

    async def news(self, change_id: int, kinds: Sequence[str], limit: int) -> tuple[list[Change], int]:
        """Give the changes of some kinds behind an id, and up to which id that is all there is."""
        found: tuple[list[Change], int] = await self._run(
            lambda connection: news_in_thread(connection, change_id, kinds, limit)
        )
        return found

    async def _purge(self) -> None:
        before = int((time.time() - self._retention_s) * 1e6)
        while await self._change(lambda writer: purge_changes(writer.execute, before)) >= PURGED_AT_ONCE:
            pass
