"""
The index's readers: consistent snapshots, pages of rows, never the reactor's time.

A snapshot is begun only while no batch is committed and not yet durable: what a query shows would survive a power cut.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Select
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from pacs.archive.index.database import connect_reader
from pacs.archive.index.sql import compile_select

READER_THREADS: Final = 4
SNAPSHOTS: Final = 32
PAGE_ROWS: Final = 200

T = TypeVar("T")
Row = tuple[Any, ...]


class IndexReaders:
    """
    A bounded pool of threads and of connections.

    Args:
        gate: the commit thread holds it while a batch is committed and not yet durable.
    """

    def __init__(self, *, path: Path, gate: threading.Lock, reactor: Any) -> None:
        self._path = path
        self._gate = gate
        self._reactor = reactor
        self._pool = ThreadPool(0, READER_THREADS, name="index")
        self._snapshots = DeferredSemaphore(SNAPSHOTS)
        self._idle: list[sqlite3.Connection] = []
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

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function with a snapshot, in a thread."""
        await self._snapshots.acquire()
        try:
            return await self._defer(self._run_in_thread, function)
        finally:
            self._snapshots.release()

    async def pages(self, statement: Select[Any], *, page_rows: int = PAGE_ROWS) -> AsyncIterator[list[Row]]:
        """Give the rows of a statement page by page, all of one snapshot."""
        text, parameters = compile_select(statement)
        await self._snapshots.acquire()
        connection: sqlite3.Connection | None = None
        try:
            connection, cursor = await self._defer(self._begin_in_thread, text, parameters)
            while True:
                rows = await self._defer(cursor.fetchmany, page_rows)
                if rows:
                    yield rows
                if len(rows) < page_rows:
                    return
        finally:
            if connection is not None:
                self._end(connection)
            self._snapshots.release()

    # -- within

    async def _defer(self, function: Callable[..., T], *arguments: object) -> T:
        result: T = await deferToThreadPool(self._reactor, self._pool, function, *arguments)
        return result

    def _run_in_thread(self, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._snapshot_in_thread()
        try:
            return function(connection)
        finally:
            self._end(connection)

    def _begin_in_thread(self, text: str, parameters: Row) -> tuple[sqlite3.Connection, sqlite3.Cursor]:
        connection = self._snapshot_in_thread()
        try:
            return connection, connection.execute(text, parameters)
        except BaseException:
            self._end(connection)
            raise

    def _snapshot_in_thread(self) -> sqlite3.Connection:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect_reader(self._path)
        with self._gate:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM archive_state LIMIT 1").fetchone()  # the snapshot begins with a read
        return connection

    def _end(self, connection: sqlite3.Connection) -> None:
        connection.rollback()
        self._idle.append(connection)
