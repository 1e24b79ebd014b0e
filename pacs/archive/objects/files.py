"""
Objects as files: written under `incoming/`, renamed to their final names, made durable by one barrier for many.

The functions here block; who calls them from the reactor measures how long they take.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from pacs.archive.objects.naming import OBJECTS

INCOMING: Final = "incoming"
QUARANTINE: Final = "quarantine"
IOVECTORS: Final = 1000  # IOV_MAX is 1024
SLOW_FOR_S: Final = 2.0
COMPARED_BYTES: Final = 1 << 20

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700


def _find_syncfs() -> Callable[[int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int]
    function.restype = ctypes.c_int

    def syncfs(descriptor: int) -> int:
        return int(function(descriptor))

    return syncfs


def _find_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function.restype = ctypes.c_int
    found: Callable[[int, bytes, int, bytes, int], int] = function
    return found


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    function.restype = ctypes.c_int
    found: Callable[[int, int, int, int], int] = function
    return found


_SYNC_FILE_RANGE: Final = _find_sync_file_range()
_SYNC_FILE_RANGE_WRITE: Final = 2
_SYNCFS: Final = _find_syncfs()
_RENAMEAT2: Final = _find_renameat2()
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1


def write_all(descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
    """Write pieces one behind the other, all of them."""
    for start in range(0, len(pieces), IOVECTORS):
        group = pieces[start : start + IOVECTORS]
        wanted = sum(map(len, group))
        written = os.writev(descriptor, group)
        if written < wanted:
            rest = memoryview(b"".join(group))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]


def start_writeback(descriptor: int) -> None:
    """Have the disk begin to write what was written to a file: the barrier then waits for less. A hint, no promise."""
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def sync_file_system(directory: Path) -> None:
    """
    Make everything durable that was written to the file system of a directory.

    Raises:
        OSError: it may not be.
    """
    if _SYNCFS is None:
        os.sync()
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _SYNCFS(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"syncfs: {os.strerror(number)}")
    finally:
        os.close(descriptor)


class FileStore:
    """
    The files below the archive's root.

    Args:
        root: is made when it is missing, with mode 0700.
        index_directory: where the index's log is; under the same barrier when it is on the same file system.
    """

    def __init__(self, root: Path, *, index_directory: Path) -> None:
        self.root = root
        self._prefix = f"{root}{os.sep}"
        self._index_directory = index_directory
        self._known_directories: set[str] = set()
        self._unsynced: dict[str, int] = {}  # directories that got another since the last barrier: how many so far
        self._unsynced_lock = threading.Lock()
        self._synced_log: tuple[int, int] | None = None
        self._descriptors: list[list[int]] = [[]]  # for each that makes barriers, the store's own first
        self._numbers = count()
        self._process = secrets.token_hex(4)
        self._slow_until_s = 0.0

    def open(self) -> None:
        """Make the directories and open what the barrier needs."""
        for name in (".", INCOMING, OBJECTS, QUARANTINE):
            os.makedirs(self.root / name, mode=_DIRECTORY_MODE, exist_ok=True)
        directories = [self.root]
        if os.stat(self._index_directory).st_dev != os.stat(self.root).st_dev:
            directories.append(self._index_directory)
        for descriptors in self._descriptors:
            descriptors += [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in directories]

    def close(self) -> None:
        """Close what `open` opened."""
        for descriptors in self._descriptors:
            while descriptors:
                os.close(descriptors.pop())

    def absolute(self, path: str) -> str:
        """Give the absolute path of one below the root."""
        return self._prefix + path

    # -- incoming objects

    def create_incoming(self) -> tuple[str, int]:
        """Create a file for an object that arrives; give its path below the root and its descriptor."""
        path = f"{INCOMING}/{self._process}-{next(self._numbers):x}"
        return path, os.open(self._prefix + path, _CREATE, _FILE_MODE)

    def write_incoming(self, pieces: Sequence[bytes | memoryview]) -> str:
        """Write a whole short object; give its path below the root."""
        path, descriptor = self.create_incoming()
        try:
            write_all(descriptor, pieces)
        except OSError:
            self.discard(path)
            raise
        finally:
            os.close(descriptor)
        return path

    def restore(self, path: str, data: bytes) -> bool:
        """
        Make a file what it was, for the next barrier to make durable.

        One that seems right is written again in its place: when a sync has failed, memory may have what the disk lacks.

        Returns:
            whether it seemed right.
        """
        try:
            descriptor = os.open(self._prefix + path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                if file.read(len(data) + 1) == data:
                    file.seek(0)
                    write_all(descriptor, [data])
                    return True
        except FileNotFoundError:
            pass
        written = self.write_incoming([data])
        self.make_directory(path[: path.rindex("/")])
        os.replace(self._prefix + written, self._prefix + path)
        return False

    def discard(self, path: str) -> None:
        """Remove a file; that it is gone already is fine."""
        try:
            os.unlink(self._prefix + path)
        except FileNotFoundError:
            return

    def discard_if_possible(self, path: str) -> None:
        """Remove a file that must not stop who comes next: the start or the sweep removes it else."""
        with suppress(OSError):
            self.discard(path)

    def remove_empty_directories(self, paths: Iterable[str]) -> None:
        """Remove the directories that some removed objects have left empty."""
        for directory in {os.path.dirname(path) for path in paths}:
            while directory.startswith(OBJECTS + "/"):
                try:
                    os.rmdir(self._prefix + directory)
                except OSError:
                    break  # it has something
                self._known_directories.discard(directory)
                self._unsynced.pop(directory, None)
                directory = os.path.dirname(directory)

    def clear_incoming(self) -> int:
        """Remove what an earlier process left unfinished; give how many."""
        paths = [entry.path for entry in os.scandir(self.root / INCOMING)]
        for path in paths:
            os.unlink(path)
        return len(paths)

    def note_slow(self) -> None:
        """A write has taken long: leave the next ones to threads."""
        self._slow_until_s = time.monotonic() + SLOW_FOR_S

    def is_slow(self) -> bool:
        """Whether the disk has been slow lately."""
        return time.monotonic() < self._slow_until_s

    # -- final names

    def exists(self, path: str) -> bool:
        """Whether something has the name."""
        return os.path.lexists(self._prefix + path)

    def rename(self, source: str, target: str) -> None:
        """
        Give a file its final name, making directories as needed; nothing is ever overwritten.

        Raises:
            FileExistsError: something has the name.
        """
        self.make_directory(target[: target.rindex("/")])
        old, new = self._prefix + source, self._prefix + target
        if _RENAMEAT2 is None:
            self._rename_by_link(old, new)
            return
        if _RENAMEAT2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE) != 0:
            number = ctypes.get_errno()
            if number in (errno.EINVAL, errno.ENOSYS):  # a file system that does not have it
                self._rename_by_link(old, new)
                return
            raise OSError(number, os.strerror(number), old)

    def _rename_by_link(self, old: str, new: str) -> None:
        os.link(old, new, follow_symlinks=False)
        os.unlink(old)

    def make_directory(self, directory: str) -> None:
        """Make a directory and those above it."""
        if directory in self._known_directories:
            return
        if len(self._known_directories) > 100_000:
            self._known_directories.clear()
        above = directory
        while above and not os.path.isdir(self._prefix + above):
            above = os.path.dirname(above)
            with self._unsynced_lock:
                self._unsynced[above] = self._unsynced.get(above, 0) + 1
        os.makedirs(self._prefix + directory, mode=_DIRECTORY_MODE, exist_ok=True)
        self._known_directories.add(directory)

    def forget_directories(self) -> None:
        """Look again whether directories exist: someone may have removed some."""
        self._known_directories.clear()

    def size(self, path: str) -> int | None:
        """Give the length of a file, or None when there is none."""
        try:
            return os.stat(self._prefix + path, follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open_object(self, path: str) -> int:
        """Give a descriptor for reading an object; a symbolic link is refused."""
        return os.open(self._prefix + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def quarantine(self, path: str) -> str:
        """Put a file aside; give its new path."""
        target = f"{QUARANTINE}/{secrets.token_hex(4)}-{os.path.basename(path)}"
        os.rename(self._prefix + path, self._prefix + target)
        return target

    def objects(self) -> Iterator[str]:
        """Give the paths of all objects, directory by directory."""
        for directory, names, files in os.walk(self._prefix + OBJECTS):
            names.sort()
            below = directory[len(self._prefix) :]
            for name in sorted(files):
                yield f"{below}/{name}"

    # -- durability

    def barrier(self) -> None:
        """
        Make everything durable that was written, renamed or logged before.

        One `syncfs` covers files, directories and the index's log: it costs what one fsync does, and does for many.

        Raises:
            OSError: it may not be durable.
        """
        self._barrier(self._descriptors[0])

    def another_barrier(self) -> Callable[[], None]:
        """
        Give a barrier for a second thread; it is used when the store is open.

        The kernel tells each open directory once of what could not be written: with one for both, the thread that asks
        second would take the other's loss for durable.
        """
        descriptors: list[int] = []
        self._descriptors.append(descriptors)
        return partial(self._barrier, descriptors)

    def _barrier(self, descriptors: Sequence[int]) -> None:
        with self._unsynced_lock:
            unsynced = dict(self._unsynced)
        for descriptor in descriptors:
            if _SYNCFS is None:
                os.sync()
            elif _SYNCFS(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"syncfs: {os.strerror(number)}")
        self._forget_unsynced(unsynced)

    def sync_file(self, path: str) -> None:
        """
        Make one object and its name durable: its file, its directory and those that are new above it.

        These take less than a sync of the file system, which looks for everything else too.

        Raises:
            OSError: it may not be durable.
        """
        with self._unsynced_lock:
            unsynced = dict(self._unsynced)
        _sync_at(self._prefix + path, os.fdatasync)
        directory_of_it = os.path.dirname(path)
        _sync_at(self._prefix + directory_of_it, os.fsync)
        for directory in unsynced.keys() - {directory_of_it}:
            with suppress(FileNotFoundError):  # somebody has removed it since, it was empty
                _sync_at(self._prefix + directory, os.fsync)
        self._forget_unsynced(unsynced)

    def sync_log(self, log_path: str) -> None:
        """
        Make the index's log durable.

        Raises:
            OSError: it may not be durable.
        """
        log = os.open(log_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(log)
            status = os.fstat(log)
        finally:
            os.close(log)
        if self._synced_log != (status.st_dev, status.st_ino):
            _sync_at(os.path.dirname(log_path), os.fsync)  # a new log has a name to be kept
            self._synced_log = (status.st_dev, status.st_ino)

    def _forget_unsynced(self, synced: Mapping[str, int]) -> None:
        with self._unsynced_lock:
            for directory, count_then in synced.items():
                if self._unsynced.get(directory) == count_then:
                    del self._unsynced[directory]


def _sync_at(path: str, sync: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def same_content(store: FileStore, path: str, offset: int, other_path: str, other_offset: int) -> bool:
    """Whether two files are equal from the given offsets on."""
    with (
        os.fdopen(store.open_object(path), "rb", buffering=0) as one,
        os.fdopen(store.open_object(other_path), "rb", buffering=0) as other,
    ):
        if os.fstat(one.fileno()).st_size - offset != os.fstat(other.fileno()).st_size - other_offset:
            return False
        one.seek(offset)
        other.seek(other_offset)
        while True:
            piece = one.read(COMPARED_BYTES)
            if piece != other.read(len(piece) or 1):
                return False
            if not piece:
                return True
