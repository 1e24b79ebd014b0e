"""
A backup of the archive, made beside a running server or without one, and its way back (RELIABILITY S9).

The index is copied by SQLite's own means, never its file; objects never change once they have their names, so they are
linked where the backup is on the same file system, and copied elsewhere. What the index of the backup names is in the
backup: objects that were deleted or replaced meanwhile make another round necessary. `SHA256SUMS` has the checksum of
every file, in the form of sha256sum; the backup gets its name when everything is durable.

    DEST/backup.json, SHA256SUMS, index.db, objects/…, and under `more/` whatever else the caller names
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pacs.archive.index.schema import SCHEMA
from pacs.archive.objects.files import sync_file_system
from pacs.archive.objects.naming import OBJECTS
from pacs.archive.scrub import Kept
from pacs.archive.verification import kept_objects, open_index
from pacs.version import __version__

FORMAT: Final = 1
INDEX: Final = "index.db"
MORE: Final = "more"
SUMS: Final = "SHA256SUMS"
DESCRIPTION: Final = "backup.json"
PARTIAL: Final = ".partial"
ROUNDS: Final = 5
READ_BYTES: Final = 1 << 20
TOLD_EVERY: Final = 200
MODE: Final = 0o700

Progress = Callable[[dict[str, Any]], None]


class BackupError(Exception):
    """It can't be made, or is not what was made; the text says why."""


@dataclass(frozen=True, slots=True)
class Backup:
    """
    What a backup has, as its `backup.json` says.

    Attributes:
        objects, bytes: of all objects.
        linked: how many objects share their disk blocks with the archive.
        missing: SOP Instance UIDs of objects whose file the archive itself does not have.
    """

    format: int
    version: str
    schema: str
    made_at: str
    objects: int
    bytes: int
    linked: int
    missing: tuple[str, ...]


class BackupMaker:
    """
    Makes one backup.

    Args:
        more: further databases (copied by SQLite's means) and files, by the names that they get under `more/`.
        about_to_leave: told of the copied index before the backup is complete, so that it can be recorded.
        may_link: else everything is copied.
    """

    def __init__(
        self,
        *,
        root_path: Path,
        index_path: Path,
        destination: Path,
        databases: Mapping[str, Path],
        files: Mapping[str, Path],
        about_to_leave: Callable[[sqlite3.Connection], None],
        may_link: bool,
        progress: Progress,
    ) -> None:
        self._root_path = root_path
        self._index_path = index_path
        self._destination = destination
        self._databases = databases
        self._files = files
        self._about_to_leave = about_to_leave
        self._may_link = may_link
        self._progress = progress
        self._into = destination.with_name(destination.name + PARTIAL)
        self._linked: set[str] = set()
        self._copied: dict[str, str] = {}

    def make(self) -> Backup:
        """
        Make it; blocks.

        Raises:
            BackupError, OSError, sqlite3.Error, IndexTooNew
        """
        if self._destination.exists():
            raise BackupError(f"{self._destination} exists already")
        open_index(self._index_path).close()
        if self._into.exists():
            shutil.rmtree(self._into)  # of a backup that was broken off
        self._into.mkdir(mode=MODE, parents=True)
        (self._into / OBJECTS).mkdir(mode=MODE)
        missing = self._take_objects()
        with closing(sqlite3.connect(self._into / INDEX)) as index:
            self._about_to_leave(index)
            index.execute("PRAGMA journal_mode = DELETE")
        (self._into / MORE).mkdir(mode=MODE)
        for name, path in self._databases.items():
            if path.exists():
                _copy_database(path, self._into / MORE / name)
        for name, path in self._files.items():
            if path.exists():
                shutil.copy2(path, self._into / MORE / name)
        return self._finish(missing)

    # -- within

    def _take_objects(self) -> dict[str, str]:
        """Take index and objects, again until they fit together; give what is missing, by path, with its UID."""
        for _ in range(ROUNDS):
            _copy_database(self._index_path, self._into / INDEX)
            missing: dict[str, str] = {}
            wanted: set[str] = set()
            with closing(sqlite3.connect(self._into / INDEX)) as index:
                (total,) = index.execute("SELECT count(*) FROM instances").fetchone()
                for number, kept in enumerate(kept_objects(index), 1):
                    wanted.add(kept.path)
                    if not self._take(kept):
                        missing[kept.path] = kept.sop_instance_uid
                    if number % TOLD_EVERY == 0 or number == total:
                        self._progress({"done": number, "total": total})
            for path in (self._linked | set(self._copied)) - wanted:
                self._drop(path)
            if self._still_named(missing) == len(missing):
                return missing
        raise BackupError("objects were deleted or replaced all the while; try again at a quieter time")

    def _still_named(self, paths: Mapping[str, str]) -> int:
        """Count those that the archive's own index still names: these are missing there, too."""
        with closing(open_index(self._index_path)) as index:
            query = "SELECT count(*) FROM instances WHERE sop_instance_uid = ? AND path = ?"
            return sum(index.execute(query, (uid, path)).fetchone()[0] for path, uid in paths.items())

    def _take(self, kept: Kept) -> bool:
        """Have an object in the backup; give whether the archive has its file."""
        if kept.path in self._linked or kept.path in self._copied:
            return True
        source, target = self._root_path / kept.path, self._into / kept.path
        target.parent.mkdir(mode=MODE, parents=True, exist_ok=True)
        try:
            if self._may_link:
                try:
                    os.link(source, target, follow_symlinks=False)
                except FileNotFoundError:
                    raise
                except OSError:  # another file system, or one that has no links
                    self._may_link = False
                else:
                    self._linked.add(kept.path)
                    return True
            self._copied[kept.path] = _copy(source, target)
        except FileNotFoundError:
            return False
        return True

    def _drop(self, path: str) -> None:
        (self._into / path).unlink()
        self._linked.discard(path)
        self._copied.pop(path, None)

    def _finish(self, missing: Mapping[str, str]) -> Backup:
        size_bytes = 0
        with (self._into / SUMS).open("x") as sums, closing(sqlite3.connect(self._into / INDEX)) as index:
            for kept in kept_objects(index):
                if kept.path in missing:
                    continue
                size_bytes += kept.size_bytes
                digest = kept.sha256 or self._copied.get(kept.path) or sha256_of(self._into / kept.path)
                sums.write(f"{digest}  {kept.path}\n")
            for path in (self._into / INDEX, *sorted((self._into / MORE).iterdir())):
                sums.write(f"{sha256_of(path)}  {path.relative_to(self._into)}\n")
        backup = Backup(
            format=FORMAT,
            version=__version__,
            schema=SCHEMA,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            objects=len(self._linked) + len(self._copied),
            bytes=size_bytes,
            linked=len(self._linked),
            missing=tuple(missing.values()),
        )
        (self._into / DESCRIPTION).write_text(json.dumps(asdict(backup), indent=1) + "\n")
        sync_file_system(self._into)
        os.rename(self._into, self._destination)
        sync_file_system(self._destination.absolute().parent)
        return backup


def read_backup(source: Path) -> Backup:
    """
    Read what a backup says of itself.

    Raises:
        BackupError: it is none, or of a newer version.
    """
    try:
        values = json.loads((source / DESCRIPTION).read_text())
        backup = Backup(**{**values, "missing": tuple(values["missing"])})
    except (OSError, ValueError, TypeError, KeyError):
        raise BackupError(f"{source} is no backup: {DESCRIPTION} is missing or can't be read") from None
    if backup.format != FORMAT:
        raise BackupError(f"{source} is of version {backup.version}, whose backups this version does not know")
    return backup


def restore_files(source: Path, target_of: Callable[[str], Path | None], progress: Progress, total: int) -> int:
    """
    Copy a backup's files to where they belong, and check each while it is copied.

    Args:
        target_of: gives the place of a file; None for one that is not wanted.

    Returns:
        how many files were copied.

    Raises:
        BackupError: a file is missing or not what was backed up; what was copied so far stays.
    """
    count = 0
    directories: dict[int, Path] = {}
    for digest, name in _sums(source):
        target = target_of(name)
        if target is None:
            continue
        target.parent.mkdir(mode=MODE, parents=True, exist_ok=True)
        directories.setdefault(os.stat(target.parent).st_dev, target.parent)
        try:
            copied = _copy(source / name, target)
        except FileNotFoundError:
            raise BackupError(f"{source / name} is missing") from None
        if copied != digest:
            raise BackupError(f"{source / name} is not what was backed up: its SHA-256 differs")
        count += 1
        if count % TOLD_EVERY == 0:
            progress({"done": count, "total": max(total, count)})
    progress({"done": count, "total": count})
    for directory in directories.values():
        sync_file_system(directory)
    return count


def _sums(source: Path) -> Iterator[tuple[str, str]]:
    with (source / SUMS).open() as sums:
        for line in sums:
            digest, _, name = line.rstrip("\n").partition("  ")
            if Path(name).is_absolute() or ".." in Path(name).parts or len(digest) != 64:
                raise BackupError(f"{source / SUMS} has a line that is none of ours")
            yield digest, name


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Path, target: Path) -> str:
    """Copy a file, with its time, by which reindex sorts, to where there is none; give its content's SHA-256."""
    digest = hashlib.sha256()
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(reading, "rb", buffering=0) as old:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(writing, "wb", buffering=0) as new:
            while piece := old.read(READ_BYTES):
                digest.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[new.write(view) :]
        status = os.fstat(old.fileno())
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return digest.hexdigest()


def _copy_database(source: Path, target: Path) -> None:
    """Copy a live SQLite database by SQLite's own means."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    target.chmod(0o600)
