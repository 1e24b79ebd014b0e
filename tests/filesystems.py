"""
Small file systems, to fill them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


@contextmanager
def small_file_system(path: Path, *, size_bytes: int, inodes: int = 0) -> Iterator[Path]:
    """Mount a file system in memory; the test is skipped where that is not allowed."""
    path.mkdir(parents=True, exist_ok=True)
    options = f"size={size_bytes},mode=700" + (f",nr_inodes={inodes}" if inodes else "")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("file systems can't be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path, *, leave_bytes: int) -> Path:
    """Take the free space of a file system but some bytes; give the file that has it."""
    status = os.statvfs(path)
    filler = path / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leave_bytes)
    return filler
