"""
Start-up after whatever happened: what was not acknowledged is whole or gone, what was acknowledged is there.

Before the archive opens, only the tail is looked at: rows newer than the last checkpoint. The sweep for files that the
index does not know runs in the background; an archive's size does not delay its start.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import ClassVar, Final

from twisted.logger import Logger

from pacs.archive.batch import Batch
from pacs.archive.candidate import Candidate, candidate_of_file
from pacs.archive.index.changes import forget_received
from pacs.archive.index.database import connect_reader
from pacs.archive.index.writer import IndexWriter
from pacs.archive.objects.files import FileStore
from pacs.archive.objects.journal import Journal
from pacs.archive.settings import ArchiveSettings
from pacs.dataset.errors import DataSetError

CHECKED_PK: Final = "checked_pk"
CLEAN_STOP: Final = "clean_stop"
PATHS_AT_ONCE: Final = 500
SWEEP_PAUSE_S: Final = 0.002
CLOCK_TICK_S: Final = 0.02  # time stamps of files lag behind the clock by a tick of the kernel

log = Logger()


def check_tail(store: FileStore, writer: IndexWriter) -> int:
    """
    Delete the rows of the tail whose file is not whole: they were never acknowledged.

    Returns:
        how many there were.
    """
    checked_pk = int(writer.state(CHECKED_PK) or 0)
    uids = [
        str(uid)
        for uid, path, size_bytes in writer.execute(
            "SELECT sop_instance_uid, path, size_bytes FROM instances WHERE pk >= ?", (checked_pk,)
        )
        if store.size(path) != size_bytes
    ]
    if not uids:
        return 0
    writer.begin()
    for known in (row for rows in writer.existing(uids).values() for row in rows):
        if store.size(known.path) != known.size_bytes:
            writer.remove(known)
            log.info(
                "instance {sop_instance_uid} was not acknowledged before the server ended; its row is removed",
                sop_instance_uid=known.sop_instance_uid,
            )
            forget_received(writer.execute, known.sop_instance_uid)
    writer.commit()
    return len(uids)


def replay_journal(settings: ArchiveSettings, store: FileStore, journal: Journal, writer: IndexWriter) -> int:
    """
    Give the objects of the journal what a crash took from them: their files, their names, their rows.

    Args:
        journal: not opened yet; it is empty after a clean stop.

    Returns:
        how many lacked something.

    Raises:
        OSError: it can't be made durable.
    """
    entries = journal.open()
    if not entries:
        return 0
    restored = 0
    checked_pk = int(writer.state(CHECKED_PK) or 0)
    known = {str(path) for (path,) in writer.execute("SELECT path FROM instances WHERE pk >= ?", (checked_pk,))}
    writer.begin()
    for entry in entries:
        if store.restore(entry.path, entry.data) and entry.path in known:
            continue
        batch = Batch(settings, store, writer, retire_journal=lambda: None)
        try:
            candidate = candidate_of_file(store, entry.path, limits=settings.scan_limits)
        except DataSetError as error:
            log.error("an object of the journal can't be read: {reason}", reason=str(error))
            continue
        candidate.received_at = entry.received_at
        batch.place_all([candidate], is_restoring=True)
        writer.flush()
        restored += 1
    writer.commit()
    store.barrier()
    journal.clear()
    return restored


class Sweep:
    """
    Looks in the background for files that the index does not know, and takes them in or puts them aside.

    Args:
        take_in: has the commit thread index a file; may be called from any thread.
        ended: called in the thread when it is over.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        settings: ArchiveSettings,
        store: FileStore,
        take_in: Callable[[Candidate], None],
        ended: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._take_in = take_in
        self._ended = ended
        self._started_s = time.time()
        self.is_complete = False
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-sweep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, done or not."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run_in_thread(self) -> None:
        connection = connect_reader(self._settings.index_path)
        try:
            paths: list[str] = []
            for path in self._store.objects():
                paths.append(path)
                if len(paths) >= PATHS_AT_ONCE:
                    self._look_at(connection, paths)
                    paths = []
                if self._is_stopping.is_set():
                    return
            self._look_at(connection, paths)
            self.is_complete = True
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.log.error("the sweep for unknown files ended early: {reason}", reason=reason)
        finally:
            connection.close()
            self._ended()

    def _look_at(self, connection: sqlite3.Connection, paths: list[str]) -> None:
        marks = ",".join("?" * len(paths))
        rows = connection.execute(
            f"SELECT path FROM instances WHERE path IN ({marks})"
            f" UNION SELECT path FROM deletions WHERE path IN ({marks})",
            [*paths, *paths],
        )
        known = {str(row[0]) for row in rows}
        for path in paths:
            if path not in known:
                self._unknown(path)
        self._is_stopping.wait(SWEEP_PAUSE_S)

    def _unknown(self, path: str) -> None:
        """Take in a file from before the start that the index does not know."""
        try:
            named_s = os.stat(self._store.absolute(path), follow_symlinks=False).st_ctime
            if self._started_s - CLOCK_TICK_S <= named_s <= time.time():
                return  # arriving while we look; what is of the future was there before the clock was put back
            candidate = candidate_of_file(self._store, path, limits=self._settings.scan_limits)
        except FileNotFoundError:
            return
        except (DataSetError, OSError) as error:
            self.log.warn("a file without a row can't be read, it is put into quarantine: {reason}", reason=str(error))
            self._store.quarantine(path)
            return
        self.log.info(
            "instance {sop_instance_uid} has a file and no row; it is indexed",
            sop_instance_uid=candidate.header.sop_instance_uid,
        )
        self._take_in(candidate)
