"""
Is an object still what it was: its file is there, as long as it was, and has the SHA-256 that was noted.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from pacs.archive.objects.files import FileStore

READ_BYTES: Final = 1 << 20


class Fault(Enum):
    """What can be wrong with an object; the values stand in the table `quarantine`."""

    MISSING = "its file is missing"
    ALTERED = "its file is not what was stored"
    UNREADABLE = "its file can't be read"


class Kept(NamedTuple):
    """What the index says of an object; no checksum while it is not computed yet."""

    pk: int
    sop_instance_uid: str
    path: str
    size_bytes: int
    sha256: str | None


KEPT_COLUMNS: Final = "pk, sop_instance_uid, path, size_bytes, sha256"


class Pace:
    """
    Keeps work in the background to a share of the time, so that the disk is others' for the rest.

    Args:
        share: of the time that may be worked, above 0 to 1.
        rest: waits for some seconds, or until it is time to stop.
    """

    def __init__(self, *, share: float, rest: Callable[[float], object]) -> None:
        self._rest_per_work = 1 / share - 1
        self._rest = rest
        self._started_s = time.monotonic()

    def begin(self) -> None:
        """Work begins."""
        self._started_s = time.monotonic()

    def rest(self) -> None:
        """Rest for what was worked since `begin`, and begin again."""
        self._rest((time.monotonic() - self._started_s) * self._rest_per_work)
        self.begin()


def size_fault(store: FileStore, kept: Kept) -> Fault | None:
    """Look at a file from outside: is it there, and as long as it was?"""
    size_bytes = store.size(kept.path)
    if size_bytes is None:
        return Fault.MISSING
    return None if size_bytes == kept.size_bytes else Fault.ALTERED


def content_fault(
    store: FileStore, kept: Kept, *, pace: Pace, is_stopping: Callable[[], bool], leaves_cache: bool = True
) -> Fault | None:
    """
    Read a whole object and compare it with its checksum.

    Args:
        leaves_cache: the page cache is others'; False for an object that somebody may want soon.

    Returns:
        nothing for an object without a checksum, and when it was stopped.
    """
    fault = size_fault(store, kept)
    if fault is not None or kept.sha256 is None:
        return fault
    digest = hashlib.sha256()
    try:
        with os.fdopen(store.open_object(kept.path), "rb", buffering=0) as file:
            pace.begin()
            while piece := file.read(READ_BYTES):
                digest.update(piece)
                pace.rest()
                if is_stopping():
                    return None
            if leaves_cache:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except FileNotFoundError:
        return Fault.MISSING
    except OSError:
        return Fault.UNREADABLE
    return None if digest.hexdigest() == kept.sha256 else Fault.ALTERED
