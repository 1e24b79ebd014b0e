"""
The audit log's files on disk: the one that is written, with space reserved ahead of its end, and the older ones.

The reserve is allocated to the log itself (`fallocate` beyond the end), so that nobody else can take it when the disk
becomes full. Older files are named by the number of their first record: `audit.log.000000000001`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path
from typing import Final

from pacs.security.audit.records import sync_directory

FALLOC_FL_KEEP_SIZE: Final = 1
TAIL_BYTES: Final = 1 << 20  # the longest record is a fraction of it
_OLDER: Final = re.compile(r"\d{12}")

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


def log_files(path: Path) -> list[Path]:
    """Give the log's files that exist, oldest first, the one that is written last."""
    try:
        names = os.listdir(path.parent)
    except FileNotFoundError:
        return []
    older = sorted(n for n in names if n.startswith(f"{path.name}.") and _OLDER.fullmatch(n[len(path.name) + 1 :]))
    return [path.with_name(name) for name in older] + ([path] if path.name in names else [])


def last_line(path: Path) -> tuple[bytes, int]:
    """Give a file's last whole line, and how many bytes of an unfinished one come after it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
    end = tail.rfind(b"\n")
    begin = tail.rfind(b"\n", 0, end) if end > 0 else -1
    return (tail[begin + 1 : end] if end >= 0 else b""), len(tail) - end - 1


class LogFile:
    """
    The file that is written; every function blocks.

    Attributes:
        length: of what has been written whole.
        has_reserve: space ahead of the end is ours.
    """

    def __init__(self, path: Path, *, reserve_bytes: int) -> None:
        self.path = path
        self.length = 0
        self.has_reserve = True
        self._reserve_bytes = reserve_bytes
        self._reserved_until = 0
        self._descriptor = -1

    def open(self) -> int:
        """
        Open it for appending, made when there is none; cut off an unfinished line.

        Returns:
            how many bytes were cut off.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o600)
        os.fchmod(self._descriptor, 0o600)
        sync_directory(self.path.parent)
        _, unfinished = last_line(self.path)
        self.length = os.fstat(self._descriptor).st_size - unfinished
        if unfinished:
            os.ftruncate(self._descriptor, self.length)
        self._reserved_until = 0
        self.reserve()
        return unfinished

    @property
    def is_open(self) -> bool:
        """Whether it can be written."""
        return self._descriptor >= 0

    def reserve(self) -> None:
        """Keep space ahead of the end allocated; renew it when half of it is used."""
        if self._reserved_until - self.length > self._reserve_bytes // 2 or not self._reserve_bytes:
            return
        if _libc.fallocate(self._descriptor, FALLOC_FL_KEEP_SIZE, self.length, self._reserve_bytes) == 0:
            self._reserved_until = self.length + self._reserve_bytes
            self.has_reserve = True
        else:
            self.has_reserve = ctypes.get_errno() == errno.EOPNOTSUPP and self.has_reserve

    def append(self, data: bytes) -> None:
        """
        Write and sync; all of it, or nothing remains.

        Raises:
            OSError: it could not.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fdatasync(self._descriptor)
        except OSError:
            self._reserved_until = 0
            os.ftruncate(self._descriptor, self.length)
            raise
        self.length += len(data)
        self.reserve()

    def disturbance(self) -> str:
        """Say what somebody else did with the file since the last look; "" when nothing."""
        status = os.fstat(self._descriptor)
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return "the audit log's file was removed"
        if (named.st_ino, named.st_dev) != (status.st_ino, status.st_dev):
            return "the audit log's file was replaced"
        if status.st_size != self.length:
            return "the audit log's file was cut or written to by somebody else"
        return ""

    def put_aside(self, first_sequence: int) -> None:
        """Close the file and name it by the number of its first record; `open` begins a new one."""
        self.close()
        older = self.path.with_name(f"{self.path.name}.{first_sequence:012d}")
        if older.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(older))
        self.path.rename(older)

    def close(self) -> None:
        """Give the reserve back and close."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
