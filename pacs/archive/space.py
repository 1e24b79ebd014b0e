"""
Is there room: the reserve of free space that objects may not touch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IReactorTime

from pacs.archive.errors import StorageFull
from pacs.monitoring.metrics import Metrics

LOOK_INTERVAL_S: Final = 1.0
FEWEST_INODES: Final = 1000


class SpaceGuard:
    """Looks at the file system once a second at most."""

    def __init__(self, *, root: Path, min_free_bytes: int, clock: IReactorTime, metrics: Metrics) -> None:
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._metrics = metrics
        self._looked_s = -LOOK_INTERVAL_S
        self._free_bytes = 0
        self._has_inodes = True
        self.is_full = False

    def check(self) -> None:
        """
        Look whether an object may be taken.

        Raises:
            StorageFull: the reserve is reached.
        """
        now_s = self._clock.seconds()
        if now_s - self._looked_s >= LOOK_INTERVAL_S:
            self._looked_s = now_s
            self._look()
        if self.is_full:
            raise StorageFull("storage full: the reserve of free space is reached")

    def _look(self) -> None:
        status = os.statvfs(self._root)
        self._free_bytes = status.f_bavail * status.f_frsize
        self._has_inodes = status.f_files == 0 or status.f_favail >= FEWEST_INODES
        self._metrics.storage_free_bytes.set(self._free_bytes)
        self.is_full = self._free_bytes < self._min_free_bytes or not self._has_inodes
