"""
Every object against its SHA-256, at once and by whoever asks: `pacsctl verify`, and the end of a restore.

It only reads, beside a running server too. What changes meanwhile is looked at again before it is called a fault.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pacs.archive.errors import IndexTooNew
from pacs.archive.index.database import connect_reader, schema_of
from pacs.archive.index.schema import SCHEMA
from pacs.archive.integrity import index_fault
from pacs.archive.objects.files import FileStore
from pacs.archive.scrub import KEPT_COLUMNS, Fault, Kept, Pace, content_fault

PAGE_ROWS: Final = 500

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Verification:
    """
    What was found.

    Attributes:
        objects: how many were looked at.
        unchecked: of these without a checksum yet; their length was looked at.
        faults: by SOP Instance UID; an object may have several files.
        index_fault: what `PRAGMA quick_check` says, or nothing.
    """

    objects: int
    unchecked: int
    faults: tuple[tuple[str, Fault], ...]
    index_fault: str = ""

    @property
    def is_sound(self) -> bool:
        """Nothing is wrong."""
        return not self.faults and not self.index_fault


def verify_objects(root_path: Path, index_path: Path, progress: Progress) -> Verification:
    """
    Look at every object.

    Raises:
        FileNotFoundError: there is no index.
        IndexTooNew: it is not of this version.
        sqlite3.Error: it can't be read.
    """
    store = FileStore(root_path, index_directory=index_path.parent)
    pace = Pace(share=1.0, rest=lambda _: None)
    with closing(open_index(index_path)) as connection:
        (total,) = connection.execute("SELECT count(*) FROM instances").fetchone()
        done = unchecked = 0
        faults: list[tuple[str, Fault]] = []
        for kept in kept_objects(connection):
            fault = content_fault(store, kept, pace=pace, is_stopping=lambda: False)
            if fault is not None and _is_unchanged(connection, kept):
                faults.append((kept.sop_instance_uid, fault))
            unchecked += kept.sha256 is None
            done += 1
            if done % PAGE_ROWS == 0:
                progress({"done": done, "total": max(done, total)})
        progress({"done": done, "total": done})
        return Verification(done, unchecked, tuple(faults), index_fault(connection, "quick_check", lambda: False))


def open_index(path: Path) -> sqlite3.Connection:
    """
    Open an index that must be there, for reading.

    Raises:
        FileNotFoundError: there is none.
        IndexTooNew: it is not of this version.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no index")
    if schema_of(path) != SCHEMA:
        raise IndexTooNew(f"{path}: the index is of another version; start the server once, or use its own version")
    return connect_reader(path)


def kept_objects(connection: sqlite3.Connection) -> Iterator[Kept]:
    """Give what the index says of each object; each page is a snapshot of its own, so that the log can be emptied."""
    last = 0
    while page := connection.execute(
        f"SELECT {KEPT_COLUMNS} FROM instances WHERE pk > ? ORDER BY pk LIMIT ?", (last, PAGE_ROWS)
    ).fetchall():
        for row in page:
            yield Kept(*row)
        last = page[-1][0]


def _is_unchanged(connection: sqlite3.Connection, kept: Kept) -> bool:
    row = connection.execute(f"SELECT {KEPT_COLUMNS} FROM instances WHERE pk = ?", (kept.pk,)).fetchone()
    return row is not None and Kept(*row)[:4] == kept[:4] and kept.sha256 in (None, row[4])
