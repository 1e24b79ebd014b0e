"""
Is what is kept still there, still right? One low-priority thread looks, for as long as the server runs
(RELIABILITY S3 and S6).

After the start: what was found wrong before, `PRAGMA quick_check` of the index, and whether every object has its file.
Then each object is read once in some days against its SHA-256, with a small share of the disk's time, and the index
gets an `integrity_check` every week. What is wrong is noted in the table `quarantine`, makes the component degraded and
raises an alarm; nothing is ever deleted, and a person who put it right finds it healthy again within the hour.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from twisted.logger import Logger

from pacs.archive.index.database import connect_reader
from pacs.archive.index.writer import IndexWriter
from pacs.archive.objects.files import FileStore
from pacs.archive.scrub import KEPT_COLUMNS, Fault, Kept, Pace, content_fault, size_fault
from pacs.monitoring.health import Health

NICENESS: Final = 19
SHARE_OF_THE_DISK: Final = 0.05
PAGE_ROWS: Final = 200
INDEX_CHECK_INTERVAL_S: Final = 7 * 86400.0
RECHECK_INTERVAL_S: Final = 3600.0
LONGEST_NAP_S: Final = 60.0
MOST_FAULTS: Final = 1000  # that are noted one by one; with more something larger is wrong
PAGE_CACHE_KIB: Final = 256
JOIN_S: Final = 5.0  # a check of a large table can't be interrupted; it ends with the process

SCRUB_PK: Final = "scrub_pk"
SCRUB_BEGAN: Final = "scrub_began"
INDEX_CHECKED: Final = "index_checked"

INDEX_SOURCE: Final = "check"
OBJECTS_SOURCE: Final = "objects"

_NOTE: Final = (
    "INSERT INTO quarantine (path, reason, noted_at) SELECT path, ?, ? FROM instances WHERE pk = ? AND path = ?"
)
_FAULTS: Final = tuple(fault.value for fault in Fault)
FAULTY_ROWS: Final = "SELECT path, pk FROM instances WHERE path IN (SELECT path FROM quarantine)"
"""One pass over all objects, once after the start and only where something was wrong; paths have no index."""
KEPT_ROW: Final = f"SELECT {KEPT_COLUMNS} FROM instances WHERE pk = ? AND path = ?"


@dataclass(frozen=True, slots=True)
class Reporter:
    """
    Where findings go; each may be called from any thread.

    Attributes:
        write: has the commit thread run a job.
        database, storage: how a component is, as one of those who look at it sees it.
        alarm: what is wrong, and the UID of the object.
    """

    write: Callable[[Callable[[IndexWriter], None]], object]
    database: Callable[[str, Health, str], None]
    storage: Callable[[str, Health, str], None]
    alarm: Callable[[str, str], None]


def index_fault(connection: sqlite3.Connection, pragma: str, is_stopping: Callable[[], bool]) -> str:
    """
    Check the index table by table, so that no snapshot lasts longer than it must; give the first fault, or "".

    Args:
        pragma: `quick_check` or `integrity_check`.
    """
    try:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if is_stopping():
                return ""
            for (text,) in connection.execute(f'PRAGMA {pragma}("{table}")'):
                if text != "ok":
                    return str(text)
    except sqlite3.DatabaseError as error:
        return str(error)
    return ""


class IntegrityThread:
    """
    Looks in the background.

    Args:
        scrub_interval_s: within which each object is read once; 0: never.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, index_path: Path, store: FileStore, scrub_interval_s: float, reporter: Reporter) -> None:
        self._index_path = index_path
        self._store = store
        self._scrub_interval_s = scrub_interval_s
        self._reporter = reporter
        self._stop = threading.Event()
        self._pace = Pace(share=SHARE_OF_THE_DISK, rest=self._stop.wait)
        self._faulty: dict[str, Fault] = {}
        self._keys: dict[str, int] = {}  # of the faulty ones' rows, by path
        self._rechecked_s = 0.0
        self._has_too_many = False
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-integrity", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; what was read of the present object is read again after the next start."""
        self._stop.set()
        self._thread.join(JOIN_S)

    # -- the thread

    def _run_in_thread(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        except OSError:
            self.log.debug("the integrity thread keeps its priority")
        try:
            with closing(connect_reader(self._index_path)) as connection:
                connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
                self._remember(connection)
                self._recheck(connection)
                self._check_index(connection, "quick_check")
                self._look_for_missing(connection)
                while not self._stop.is_set():
                    nap_s = min(self._check_index_weekly(connection), self._scrub(connection), LONGEST_NAP_S)
                    if time.monotonic() - self._rechecked_s > RECHECK_INTERVAL_S:
                        self._recheck(connection)
                    self._stop.wait(nap_s)
        except Exception:  # noqa: BLE001 - the thread's own border
            self.log.failure("nobody looks any more whether what is kept is right")
            self._reporter.storage(OBJECTS_SOURCE, Health.DEGRADED, "the check of what is kept has failed")

    # -- the index

    def _check_index(self, connection: sqlite3.Connection, pragma: str) -> None:
        fault = index_fault(connection, pragma, self._stop.is_set)
        if fault:
            self.log.error("{pragma} finds the index damaged: {fault}", pragma=pragma, fault=fault)
            reason = "the index is damaged; stop the server and rebuild it with 'pacsctl reindex'"
            self._reporter.database(INDEX_SOURCE, Health.DEGRADED, reason)
            self._reporter.alarm("the index is damaged", "")
        elif not self._stop.is_set():
            self._reporter.database(INDEX_SOURCE, Health.HEALTHY, f"{pragma} finds nothing wrong")

    def _check_index_weekly(self, connection: sqlite3.Connection) -> float:
        """Check the index thoroughly when it is time; give the seconds until it is again."""
        now_s = time.time()
        due_s = float(self._state(connection, INDEX_CHECKED) or 0) + INDEX_CHECK_INTERVAL_S
        if due_s > now_s:
            return due_s - now_s
        self._check_index(connection, "integrity_check")
        if not self._stop.is_set():
            self._set_state({INDEX_CHECKED: str(now_s)})
        return INDEX_CHECK_INTERVAL_S

    # -- the objects

    def _look_for_missing(self, connection: sqlite3.Connection) -> None:
        """Look at every object from outside."""
        for kept in self._kept_after(connection, 0):
            fault = size_fault(self._store, kept)
            if fault is not None:
                self._judge(connection, kept, fault)

    def _scrub(self, connection: sqlite3.Connection) -> float:
        """Read the objects when it is time, from where the last run ended; give the seconds until it is again."""
        if not self._scrub_interval_s or self._has_too_many:
            return LONGEST_NAP_S
        began_s = float(self._state(connection, SCRUB_BEGAN) or 0)
        position = self._state(connection, SCRUB_PK) or ""
        if not position:
            due_s = began_s + self._scrub_interval_s
            if due_s > time.time():
                return due_s - time.time()
            began_s, position = time.time(), "0"
            self._set_state({SCRUB_BEGAN: str(began_s), SCRUB_PK: position})
        for kept in self._kept_after(connection, int(position), remembers=True):
            fault = content_fault(self._store, kept, pace=self._pace, is_stopping=self._stop.is_set)
            self._judge(connection, kept, fault)
        if self._has_too_many:
            return LONGEST_NAP_S
        if not self._stop.is_set():
            self._set_state({SCRUB_PK: ""})
        return max(0.1, began_s + self._scrub_interval_s - time.time())

    def _kept_after(self, connection: sqlite3.Connection, pk: int, *, remembers: bool = False) -> Iterator[Kept]:
        """Give what the index keeps, page by page, until it is time to stop; maybe note how far it got."""
        statement = f"SELECT {KEPT_COLUMNS} FROM instances WHERE pk > ? ORDER BY pk LIMIT {PAGE_ROWS}"
        while True:
            self._pace.begin()
            rows = [Kept(*row) for row in connection.execute(statement, (pk,))]
            for kept in rows:
                if self._stop.is_set() or self._has_too_many:
                    return
                yield kept
            if len(rows) < PAGE_ROWS:
                return
            pk = rows[-1].pk
            self._pace.rest()
            if remembers:
                self._set_state({SCRUB_PK: str(pk)})

    def _remember(self, connection: sqlite3.Connection) -> None:
        """Take up what was wrong in the last run."""
        self._faulty = {
            path: Fault(reason)
            for path, reason in connection.execute("SELECT path, reason FROM quarantine")
            if reason in _FAULTS
        }
        if self._faulty:
            self._keys = dict(connection.execute(FAULTY_ROWS))

    def _recheck(self, connection: sqlite3.Connection) -> None:
        """Look again at what was wrong."""
        self._rechecked_s = time.monotonic()
        for path in list(self._faulty):
            row = connection.execute(KEPT_ROW, (self._keys.get(path), path)).fetchone()
            if self._stop.is_set():
                return
            if row is None:
                self._clear(path)
            else:
                kept = Kept(*row)
                fault = content_fault(self._store, kept, pace=self._pace, is_stopping=self._stop.is_set)
                self._judge(connection, kept, fault)
        self._report()

    def _judge(self, connection: sqlite3.Connection, kept: Kept, fault: Fault | None) -> None:
        before = self._faulty.get(kept.path)
        if self._stop.is_set() or fault is before:
            return
        if before is not None:
            if fault is None and before is not Fault.MISSING and kept.sha256 is None:
                return  # nothing says that it is right again
            self._clear(kept.path)
        if fault is not None:
            self._note(connection, kept, fault)
        self._report()

    def _note(self, connection: sqlite3.Connection, kept: Kept, fault: Fault) -> None:
        """Note what is wrong, unless the object was replaced or deleted in the meantime."""
        row = connection.execute("SELECT path FROM instances WHERE pk = ?", (kept.pk,)).fetchone()
        if row is None or row[0] != kept.path:
            return
        if len(self._faulty) >= MOST_FAULTS:
            self._has_too_many = True
            self.log.error(
                "more than {count} objects are missing, altered or unreadable: is their file system mounted?"
                " Nobody looks any more until the next start",
                count=MOST_FAULTS,
            )
            return
        self._faulty[kept.path] = fault
        self._keys[kept.path] = kept.pk
        self._write(_NOTE, (fault.value, time.time_ns() // 1000, kept.pk, kept.path))
        self.log.error(
            "instance {sop_instance_uid}: {fault}; restore it from a backup, nothing was changed",
            sop_instance_uid=kept.sop_instance_uid,
            fault=fault.value,
        )
        self._reporter.alarm(fault.value, kept.sop_instance_uid)

    def _clear(self, path: str) -> None:
        self._faulty.pop(path, None)
        self._keys.pop(path, None)
        marks = ", ".join("?" * len(_FAULTS))
        self._write(f"DELETE FROM quarantine WHERE path = ? AND reason IN ({marks})", (path, *_FAULTS))

    def _report(self) -> None:
        if self._faulty:
            number = f"more than {MOST_FAULTS}" if self._has_too_many else str(len(self._faulty))
            reason = f"{number} objects are missing, altered or unreadable; the log names them"
            self._reporter.storage(OBJECTS_SOURCE, Health.DEGRADED, reason)
        else:
            self._reporter.storage(OBJECTS_SOURCE, Health.HEALTHY, "every object is there")

    # -- what is remembered

    def _write(self, statement: str, parameters: Sequence[object]) -> None:
        def job(writer: IndexWriter) -> None:
            writer.execute(statement, parameters)

        self._reporter.write(job)

    def _state(self, connection: sqlite3.Connection, name: str) -> str | None:
        row = connection.execute("SELECT value FROM archive_state WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _set_state(self, values: dict[str, str]) -> None:
        def job(writer: IndexWriter) -> None:
            for name, value in values.items():
                writer.set_state(name, value)

        self._reporter.write(job)
