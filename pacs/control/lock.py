"""
One server a `root_path`: a lock that the operating system releases when its holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

LOCK: Final = "lock"


class RootPathLocked(Exception):
    """
    Another process works on the archive.

    Attributes:
        holder: its process id as it wrote it down; "unknown" when it did not yet.
    """

    def __init__(self, root_path: Path, holder: str) -> None:
        super().__init__(f"{root_path} is in use by process {holder}; stop it first, or give another storage.root_path")
        self.holder = holder


class RootPathLock:
    """The lock of an archive's directory, `<root_path>/lock`."""

    def __init__(self, root_path: Path) -> None:
        self._root_path = root_path
        self._descriptor = -1

    def acquire(self) -> None:
        """
        Take it.

        Raises:
            RootPathLocked: another process has it.
            OSError: the directory can't be used.
        """
        self._root_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._root_path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise RootPathLocked(self._root_path, holder) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.ftruncate(descriptor, 0)
            os.close(descriptor)
