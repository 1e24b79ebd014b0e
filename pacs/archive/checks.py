"""
Is the archive as it should be: the index is read and written, its file is the one that was opened, the disk takes and
syncs a small file, and no queue is long.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from pacs.archive.archive import Archive
from pacs.archive.commit import WAITING_OBJECTS
from pacs.archive.errors import ArchiveError, StorageFull
from pacs.monitoring.checks import Check, Finding
from pacs.monitoring.health import ComponentHealth, Health

PROBE: Final = "health.probe"
PROBE_BYTES: Final = 4096
LONG_QUEUE: Final = WAITING_OBJECTS // 2
_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


class ArchiveChecks:
    """Looks at an open archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._index_path = archive.settings.index_path
        self._probe_path = archive.settings.root_path / PROBE
        self._index_inode: tuple[int, int] | None = None

    def checks(self, *, database: ComponentHealth, storage: ComponentHealth, queues: ComponentHealth) -> list[Check]:
        """Give the checks."""
        return [
            Check(database, "read and write", self._database, _explain),
            Check(storage, "write", self._storage, _explain),
            Check(queues, "commit", self._queues),
        ]

    async def _database(self) -> Finding:
        inode = await self._archive.run(self._read_in_thread)
        if self._index_inode is None:
            self._index_inode = inode
        if inode != self._index_inode:
            return Health.UNHEALTHY, "the index's file was replaced; put it back, or start the server again"
        now = str(int(time.time()))
        try:
            await self._archive.change(lambda writer: writer.set_state("health_check", now))
        except StorageFull as error:
            return Health.DEGRADED, error.comment
        return Health.HEALTHY, "it is read and written"

    def _read_in_thread(self, connection: sqlite3.Connection) -> tuple[int, int]:
        connection.execute("SELECT pk FROM instances ORDER BY pk DESC LIMIT 1").fetchone()
        status = self._index_path.stat()
        return status.st_dev, status.st_ino

    async def _storage(self) -> Finding:
        try:
            await self._archive.in_thread(_write_in_thread, self._probe_path)
        except OSError as error:
            if error.errno in _NO_ROOM:
                return Health.DEGRADED, "the disk is full"
            raise
        return Health.HEALTHY, "it is written and synced"

    async def _queues(self) -> Finding:
        waiting = self._archive.waiting
        if waiting > LONG_QUEUE:
            return Health.DEGRADED, f"{waiting} objects wait to be stored"
        return Health.HEALTHY, ""


def _write_in_thread(path: Path) -> None:
    """Write a file over itself: making and removing files would slow the disk down for others."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.pwrite(descriptor, os.urandom(PROBE_BYTES), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: Exception) -> str:
    if isinstance(error, ArchiveError):
        return error.comment
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, sqlite3.Error):
        return f"SQLite: {getattr(error, 'sqlite_errorname', type(error).__name__)}"
    return type(error).__name__
