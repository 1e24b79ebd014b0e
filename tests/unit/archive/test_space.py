"""
The watermarks of free space, on a real file system.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from pacs.archive.errors import StorageFailed, StorageFull
from pacs.archive.space import FEWEST_INODES, SpaceGuard
from pacs.events import EventBus
from pacs.monitoring.health import ComponentHealth, Health, HealthRegister
from pacs.monitoring.metrics import Metrics
from tests.filesystems import MIB, fill, small_file_system


class Guarded:
    """A guard with its clock and what it says."""

    def __init__(self, path: Path, *, min_free_bytes: int = 0, warn_free_percent: float = 10) -> None:
        self.clock = Clock()
        metrics = Metrics()
        self.register = HealthRegister(bus=EventBus(reactor=None), metrics=metrics)  # type: ignore[arg-type]
        self.component = ComponentHealth(self.register, "storage")
        self.guard = SpaceGuard(
            directories=(path, path),
            min_free_bytes=min_free_bytes,
            warn_free_percent=warn_free_percent,
            interval_s=30,
            clock=self.clock,
            metrics=metrics,
            health=self.component,
        )
        self.guard.start()

    @property
    def health(self) -> str:
        return self.register.components()["storage"]

    def after_s(self, seconds: float) -> str:
        self.clock.advance(seconds)
        return self.health


def test_few_inodes_warn_and_hardly_any_refuse_objects(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small", size_bytes=8 * MIB, inodes=20 * FEWEST_INODES) as path:
        guarded = Guarded(path)
        assert guarded.health == "healthy"
        for number in range(18 * FEWEST_INODES + 100):
            (path / str(number)).touch()
        assert guarded.after_s(29) == "healthy"
        assert guarded.after_s(1) == "degraded"
        guarded.guard.check()
        for number in range(FEWEST_INODES):
            (path / f"more{number}").touch()
        guarded.clock.advance(2)
        with pytest.raises(StorageFull):
            guarded.guard.check()
        for number in range(5 * FEWEST_INODES):
            (path / str(number)).unlink()
        guarded.clock.advance(2)
        guarded.guard.check()
        assert guarded.health == "healthy"


def test_few_bytes_warn_before_the_reserve_refuses_objects(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small", size_bytes=50 * MIB) as path:
        guarded = Guarded(path, min_free_bytes=2 * MIB)
        filler = fill(path, leave_bytes=4 * MIB)
        assert guarded.after_s(30) == "degraded"
        guarded.guard.check()
        filler.unlink()
        filler = fill(path, leave_bytes=MIB)
        with pytest.raises(StorageFull):
            guarded.after_s(1)
            guarded.guard.check()
        filler.unlink()
        assert guarded.after_s(30) == "healthy"
        guarded.guard.check()


def test_a_file_system_that_does_not_answer_refuses_objects(tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    guarded = Guarded(directory, warn_free_percent=0)
    directory.rmdir()
    assert guarded.after_s(30) == "unhealthy"
    with pytest.raises(StorageFailed):
        guarded.guard.check()
    directory.mkdir()
    guarded.clock.advance(1)
    guarded.guard.check()
    assert guarded.health == "healthy"


def test_a_component_is_as_bad_as_the_worst_that_is_said_of_it() -> None:
    register = HealthRegister(bus=EventBus(reactor=None), metrics=Metrics())  # type: ignore[arg-type]
    component = ComponentHealth(register, "storage")
    component.report("space", Health.HEALTHY)
    component.report("objects", Health.DEGRADED, "one is missing")
    component.report("sweep", Health.RECOVERING, "looking")
    assert register.components() == {"storage": "degraded"}
    component.report("objects", Health.HEALTHY)
    assert register.components() == {"storage": "recovering"}
    component.report("sweep", Health.HEALTHY)
    assert register.components() == {"storage": "healthy"}
