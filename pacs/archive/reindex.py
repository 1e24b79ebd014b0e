"""
The index made again from the objects alone: into a new file when no server runs, by reconciling when one does.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from pacs.archive.archive import Archive
from pacs.archive.attributes import index_values
from pacs.archive.candidate import add_candidate, candidate_of_file
from pacs.archive.errors import ArchiveError, ObjectGone
from pacs.archive.index.database import connect_reader, connect_writer, migrate
from pacs.archive.index.schema import PERFORMED_STEPS, STEP_LINKS, TASKS, TOKENS, WORKLIST
from pacs.archive.index.writer import IndexWriter
from pacs.archive.interfaces import DuplicatePolicy
from pacs.archive.objects.files import FileStore
from pacs.archive.recovery import CLEAN_STOP
from pacs.archive.settings import ArchiveSettings
from pacs.dataset.errors import DataSetError

OBJECTS_AT_ONCE: Final = 500
PUT_ASIDE: Final = ".before-reindex"
DELETIONS: Final = "deletions under way"
NOT_OF_OBJECTS: Final = (TOKENS, WORKLIST, PERFORMED_STEPS, STEP_LINKS, TASKS)

log = Logger()

Progress = Callable[[dict[str, Any]], None]


def rebuild(settings: ArchiveSettings, progress: Progress) -> dict[str, Any]:
    """
    Rebuild the index into a new file, then put it in the old one's place; the old one is kept beside it.

    The archive's lock is the caller's business. Objects come in the order in which they were received, so that the
    first of a patient, study or series describes it, as before.

    Returns:
        counts: indexed, unreadable, and kept: rows of the old index that no object tells, as worklist items; and
        not_kept: names of what could not be read of it.
    """
    new_path = settings.index_path.with_name(settings.index_path.name + ".new")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{new_path}{suffix}").unlink(missing_ok=True)
    settings.index_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = FileStore(settings.root_path, index_directory=settings.index_path.parent)
    store.open()
    try:
        not_kept = [] if _finish_deletions(settings.index_path, store) else [DELETIONS]
        migrate(new_path)
        connection = connect_writer(new_path)
        writer = IndexWriter(connection, conflict_noticed=lambda: None)
        counts = _index_all(settings, store, writer, progress)
        writer.set_state(CLEAN_STOP, "yes")  # there is nothing to sweep
        counts["kept"], tables = _keep_what_objects_do_not_tell(settings.index_path, connection)
        counts["not_kept"] = [*not_kept, *tables]
        writer.checkpoint()
        connection.execute("PRAGMA journal_mode = DELETE")
        writer.close()
        _replace(settings.index_path, new_path)
        store.barrier()
    finally:
        store.close()
    return counts


def _index_all(settings: ArchiveSettings, store: FileStore, writer: IndexWriter, progress: Progress) -> dict[str, Any]:
    paths = sorted(store.objects(), key=lambda path: os.stat(store.absolute(path)).st_mtime_ns)
    indexed = unreadable = 0
    writer.begin()
    for number, path in enumerate(paths, 1):
        try:
            candidate = candidate_of_file(store, path, limits=settings.scan_limits)
        except (DataSetError, OSError):
            unreadable += 1
        else:
            uid = candidate.header.sop_instance_uid
            writer.flush()
            copies = writer.existing([uid]).get(uid, [])
            values = index_values(candidate.scanned, default_character_set=settings.default_character_set)
            if copies and settings.duplicate_policy is DuplicatePolicy.REPLACE:
                writer.remove(copies[-1])  # what a crash left of a replaced object: the newer one counts
                copies = []
            copy_number = copies[-1].copy_number + 1 if copies else 0
            add_candidate(writer, candidate, values, path=path, copy_number=copy_number)
            indexed += 1
        if number % OBJECTS_AT_ONCE == 0:
            writer.commit()
            writer.begin()
            progress({"done": number, "total": len(paths)})
    writer.commit()
    progress({"done": len(paths), "total": len(paths)})
    return {"indexed": indexed, "unreadable": unreadable}


def _finish_deletions(old_path: Path, store: FileStore) -> bool:
    """
    Remove the files of objects that were deleted and had not gone yet.

    Returns:
        whether the old index can be read; else they come back.
    """
    if not old_path.exists():
        return True
    try:
        with closing(connect_reader(old_path)) as connection:
            rows = connection.execute(
                "SELECT path FROM deletions d WHERE NOT EXISTS (SELECT 1 FROM instances i"
                " WHERE i.sop_instance_uid = d.sop_instance_uid AND i.path = d.path)"
            ).fetchall()
    except sqlite3.DatabaseError as error:
        log.warn("deletions of the old index can't be read: {error}", error=str(error))
        return False
    for (path,) in rows:
        store.discard(path)
    store.remove_empty_directories([path for (path,) in rows])
    return True


def _keep_what_objects_do_not_tell(old_path: Path, connection: sqlite3.Connection) -> tuple[int, list[str]]:
    """
    Take over tokens, worklist, performed steps and tasks, as far as the old index can be read.

    Returns:
        how many rows, and the tables that can't be read.
    """
    if not old_path.exists():
        return 0, []
    kept = 0
    not_kept: list[str] = []
    try:
        connection.execute("ATTACH DATABASE ? AS old", (str(old_path),))
    except sqlite3.DatabaseError as error:
        log.warn("the old index can't be read: {error}", error=str(error))
        return 0, [table.name for table in NOT_OF_OBJECTS]
    try:
        for table in NOT_OF_OBJECTS:
            names = ", ".join(column.name for column in table.columns)
            try:
                connection.execute(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM old.{table.name}")
                kept += int(connection.execute("SELECT changes()").fetchone()[0])
            except sqlite3.DatabaseError as error:
                log.warn("{table} of the old index can't be read: {error}", table=table.name, error=str(error))
                not_kept.append(table.name)
    finally:
        connection.execute("DETACH DATABASE old")
    return kept, not_kept


def _replace(path: Path, new_path: Path) -> None:
    """Put the new index in the old one's place; a log of the old one would be taken for the new one's."""
    if path.exists():
        os.replace(path, path.with_name(path.name + PUT_ASIDE))
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    os.replace(new_path, path)


async def reconcile(archive: Archive, progress: Progress) -> dict[str, Any]:
    """
    Bring a running server's index and its objects together.

    Files without a row are indexed, rows without a file are removed.

    Returns:
        counts: indexed, removed, unreadable.
    """
    counts = {"indexed": 0, "removed": 0, "unreadable": 0}
    paths = await deferToThread(lambda: list(archive.store.objects()))
    known = await archive.run(lambda connection: {str(r[0]) for r in connection.execute("SELECT path FROM instances")})
    going = await archive.run(lambda connection: {str(r[0]) for r in connection.execute("SELECT path FROM deletions")})
    unknown = [path for path in paths if path not in known and path not in going]
    for number, path in enumerate(unknown, 1):
        try:
            candidate = await deferToThread(candidate_of_file, archive.store, path, limits=archive.settings.scan_limits)
            await archive.take_in(candidate)
            counts["indexed"] += 1
        except (FileNotFoundError, ObjectGone):
            continue
        except (DataSetError, ArchiveError, OSError):
            counts["unreadable"] += 1
        progress({"done": number, "total": len(unknown)})
    missing = await deferToThread(lambda: [path for path in known if archive.store.size(path) is None])

    def remove(writer: IndexWriter) -> None:
        for path in missing:
            for (uid,) in writer.execute("SELECT sop_instance_uid FROM instances WHERE path = ?", (path,)):
                for row in writer.existing([uid]).get(uid, []):
                    if row.path == path and archive.store.size(path) is None:
                        writer.remove(row)
                        counts["removed"] += 1

    await archive.write_index(remove)
    return counts
