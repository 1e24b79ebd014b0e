"""
Is there room: the reserve of free space that objects may not touch, and the watermarks above it (RELIABILITY S7).

Objects are refused when less than the reserve is free, or hardly an inode; the storage is degraded then, and already
when little of the file system of the objects or of the index is left.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from pacs.archive.errors import StorageFailed, StorageFull
from pacs.monitoring.health import ComponentHealth, Health
from pacs.monitoring.metrics import Metrics

LOOK_INTERVAL_S: Final = 1.0
FEWEST_INODES: Final = 1000
SOURCE: Final = "space"


class SpaceGuard:
    """
    Looks at the file systems: now and then, and before an object is taken, but then once a second at most.

    Args:
        directories: of the objects first, then of the index.
        warn_free_percent: of bytes and of inodes; with less the storage is degraded.
    """

    def __init__(
        self,
        *,
        directories: tuple[Path, ...],
        min_free_bytes: int,
        warn_free_percent: float,
        interval_s: float,
        clock: IReactorTime,
        metrics: Metrics,
        health: ComponentHealth,
    ) -> None:
        self._directories = directories
        self._min_free_bytes = min_free_bytes
        self._warn_free = warn_free_percent / 100
        self._interval_s = interval_s
        self._clock = clock
        self._metrics = metrics
        self._health = health
        self._looked_s = -LOOK_INTERVAL_S
        self._is_unusable = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        self.is_full = False

    def start(self) -> None:
        """Look now, and then again and again."""
        self._looking.start(self._interval_s)

    def stop(self) -> None:
        """Look no longer."""
        if self._looking.running:
            self._looking.stop()

    def check(self) -> None:
        """
        Look whether an object may be taken.

        Raises:
            StorageFull: the reserve is reached.
            StorageFailed: the file system can't be looked at.
        """
        if self._clock.seconds() - self._looked_s >= LOOK_INTERVAL_S:
            self._look()
        if self._is_unusable:
            raise StorageFailed("storage failed: the file system does not answer")
        if self.is_full:
            raise StorageFull("storage full: the reserve of free space is reached")

    def _look(self) -> None:
        self._looked_s = self._clock.seconds()
        try:
            statuses = [os.statvfs(directory) for directory in self._directories]
        except OSError as error:
            self._is_unusable = True
            self._health.report(SOURCE, Health.UNHEALTHY, f"a file system does not answer: {error.strerror}")
            return
        self._is_unusable = False
        objects = statuses[0]
        free_bytes = objects.f_bavail * objects.f_frsize
        self._metrics.storage_free_bytes.set(free_bytes)
        has_bytes = free_bytes >= self._min_free_bytes
        has_inodes = objects.f_files == 0 or objects.f_favail >= FEWEST_INODES
        self.is_full = not (has_bytes and has_inodes)
        if self.is_full:
            missing = "inodes" if has_bytes else "bytes"
            self._health.report(
                SOURCE, Health.DEGRADED, f"objects are refused: the reserve of free {missing} is reached"
            )
        elif low := next(filter(None, map(self._low, statuses)), ""):
            self._health.report(SOURCE, Health.DEGRADED, low)
        else:
            self._health.report(SOURCE, Health.HEALTHY, "there is room")

    def _low(self, status: os.statvfs_result) -> str:
        """Say what there is little of, or nothing."""
        for name, free, total in (
            ("bytes", status.f_bavail, status.f_blocks),
            ("inodes", status.f_favail, status.f_files),
        ):
            if total and free / total < self._warn_free:
                return f"{free / total:.1%} of the {name} of a file system are free"
        return ""
