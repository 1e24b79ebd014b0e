"""
Memory as on a machine that has been up for a while: full of what was read and written.

A virtual machine gives memory that nobody uses back to its host. The first write to each page of it then takes about
8 µs, for whoever is so unlucky as to be measured: a CT image written to a file takes 1.1 ms instead of 0.1. So the page
cache is filled before each case, by reading a file that has a length and no blocks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ENOUGH_KIB: Final = 1 << 20
READ_BYTES: Final = 1 << 20


def free_kib() -> int:
    """Give what is in no use at all, not even as page cache."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("MemFree:")).split()[1])


def use_free_memory(directory: Path) -> None:
    """Fill the page cache, if much memory is free."""
    if free_kib() < ENOUGH_KIB:
        return
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "sparse"
    with path.open("wb") as file:
        file.truncate(2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # in pages, which are not taken back at once
        buffer = bytearray(READ_BYTES)
        while file.readinto(buffer) and free_kib() > ENOUGH_KIB // 4:
            pass
