"""
The index's readers: consistent snapshots, pages of rows, never the reactor's time but for a lookup of microseconds.

A snapshot is begun only while no batch is committed and not yet durable: what a query shows would survive a power cut.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Select
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from pacs.archive.index.database import connect_reader
from pacs.archive.index.sql import compile_select

READER_THREADS: Final = 4
SNAPSHOTS: Final = 32
PAGE_ROWS: Final = 250
LOOKUP_TICKS: Final = 10
STEPS_PER_TICK: Final = 1000
"""A lookup in the reactor ends after 10,000 instructions of SQLite's machine, which take a millisecond."""

T = TypeVar("T")
Row = tuple[Any, ...]
Fill = Callable[[sqlite3.Connection, list[Row]], tuple[T, bool]]
"""Makes a page of some rows, in a thread; tells as well whether it wants no more."""


class IndexReaders:
    """
    A bounded pool of threads and of connections.

    Args:
        gate: it is held while a batch is committed and not yet durable.
    """

    def __init__(self, *, path: Path, gate: threading.Lock, reactor: Any) -> None:
        self._path = path
        self._gate = gate
        self._reactor = reactor
        self._pool = ThreadPool(0, READER_THREADS, name="index")
        self._snapshots = DeferredSemaphore(SNAPSHOTS)
        self._idle: list[sqlite3.Connection] = []
        self._lookups: sqlite3.Connection | None = None
        self._ticks = 0
        self.is_started = False

    def start(self) -> None:
        """Start the threads."""
        self._pool.start()
        self.is_started = True

    def stop(self) -> None:
        """End the threads and close the connections; blocks until running statements are done."""
        self._pool.stop()
        for connection in self._idle:
            connection.close()
        self._idle = []
        if self._lookups is not None:
            self._lookups.close()
            self._lookups = None

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function with a snapshot, in a thread."""
        await self._snapshots.acquire()
        try:
            result: T = await deferToThreadPool(self._reactor, self._pool, self._run_in_thread, function)
            return result
        finally:
            self._snapshots.release()

    def read(self, text: str, parameters: Sequence[Any], fill: Fill[T], *, page_rows: int = PAGE_ROWS) -> Pages[T]:
        """Give what `fill` makes of the rows of a statement, page by page, all of one snapshot."""
        return Pages(self, text, parameters, fill, page_rows=page_rows)

    async def pages(self, statement: Select[Any], *, page_rows: int = PAGE_ROWS) -> AsyncIterator[list[Row]]:
        """Give the rows of a statement page by page, all of one snapshot."""
        text, parameters = compile_select(statement)
        pages = self.read(text, parameters, _as_they_are, page_rows=page_rows)
        try:
            async for rows in pages:
                if rows:
                    yield rows
        finally:
            pages.close()

    def look_up(self, text: str, parameters: Sequence[Any]) -> list[Row] | None:
        """
        Run what is probably a lookup by an index at once, in the reactor: it costs less than going to a thread.

        Returns:
            its rows, or None: a thread has to do it, for a batch is just becoming durable, or there is more to do than
            the reactor has time for.
        """
        connection = self._lookups
        if connection is None:
            connection = self._lookups = connect_reader(self._path)
            connection.set_progress_handler(self._is_enough, STEPS_PER_TICK)
        if not self._gate.acquire(blocking=False):
            return None
        self._ticks = 0
        try:
            return connection.execute(text, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            return None
        finally:
            self._gate.release()

    # -- for `Pages`

    def slot(self) -> Deferred[Any]:
        """Fires when there may be one more snapshot; `free` gives it back."""
        return self._snapshots.acquire()

    def free(self, connection: sqlite3.Connection | None) -> None:
        """End a snapshot."""
        if connection is not None:
            self._end(connection)
        self._snapshots.release()

    def submit(self, function: Callable[[], T], done: Callable[[bool, Any], None]) -> None:
        """Run a function in a thread; `done` is called in the reactor with its success and its result."""

        def done_in_thread(is_success: bool, result: Any) -> None:
            self._reactor.callFromThread(done, is_success, result)

        self._pool.callInThreadWithCallback(done_in_thread, function)

    def snapshot_in_thread(self) -> sqlite3.Connection:
        """Begin a snapshot."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect_reader(self._path)
        with self._gate:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM archive_state LIMIT 1").fetchone()  # the snapshot begins with a read
        return connection

    # -- within

    def _is_enough(self) -> bool:
        """Count the work of a lookup; SQLite ends it when there was enough."""
        self._ticks += 1
        return self._ticks > LOOKUP_TICKS

    def _run_in_thread(self, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self.snapshot_in_thread()
        try:
            return function(connection)
        finally:
            self._end(connection)

    def _end(self, connection: sqlite3.Connection) -> None:
        connection.rollback()
        self._idle.append(connection)


class Pages(Generic[T]):
    """
    The pages of one statement; an asynchronous iterator that must be closed.

    While one page is used the next one is made, and no more: memory does not grow with the answer.
    """

    def __init__(
        self, readers: IndexReaders, text: str, parameters: Sequence[Any], fill: Fill[T], *, page_rows: int
    ) -> None:
        self._readers = readers
        self._text = text
        self._parameters = parameters
        self._fill = fill
        self._page_rows = page_rows
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._next: Deferred[tuple[T, bool]] | None = None
        self._has_slot = False
        self._is_busy = False
        self._is_ended = False
        self._is_closed = False

    def __aiter__(self) -> Pages[T]:
        return self

    async def __anext__(self) -> T:
        if self._is_ended:
            raise StopAsyncIteration
        if self._next is None:
            await self._readers.slot()
            self._has_slot = True
            self._next = self._make_next()
        page, self._is_ended = await self._next
        if self._is_ended:
            self.close()
        else:
            self._next = self._make_next()
        return page

    def stop(self) -> None:
        """Give no more pages; whoever waits for one is told that there is none."""
        self._is_ended = True
        waiting = self._next
        self.close()
        if waiting is not None and not waiting.called:
            waiting.errback(Failure(StopAsyncIteration()))

    def close(self) -> None:
        """End the snapshot; a statement that runs is interrupted."""
        if self._is_closed:
            return
        self._is_closed = self._is_ended = True
        if self._is_busy:
            if self._connection is not None:
                self._connection.interrupt()
        else:
            self._free()

    # -- within

    def _make_next(self) -> Deferred[tuple[T, bool]]:
        made: Deferred[tuple[T, bool]] = Deferred()
        self._is_busy = True
        if self._is_closed:
            raise StopAsyncIteration

        def done(is_success: bool, result: Any) -> None:
            self._is_busy = False
            if self._is_closed:
                self._free()
            elif not made.called:
                made.callback(result) if is_success else made.errback(result)

        self._readers.submit(self._make_in_thread, done)
        return made

    def _make_in_thread(self) -> tuple[T, bool]:
        if self._connection is None:
            self._connection = self._readers.snapshot_in_thread()
        if self._is_closed:
            raise StopAsyncIteration
        if self._cursor is None:
            self._cursor = self._connection.execute(self._text, self._parameters)
        rows = self._cursor.fetchmany(self._page_rows)
        page, is_enough = self._fill(self._connection, rows)
        return page, is_enough or len(rows) < self._page_rows

    def _free(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._readers.free(self._connection)


def _as_they_are(_: sqlite3.Connection, rows: list[Row]) -> tuple[list[Row], bool]:
    return rows, False
