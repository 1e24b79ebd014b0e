"""
Each fault is noticed within one interval and forgotten within the next: by a clock that does not wait, on a real
database file and with a real certificate.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pacs.assembly.certificates import CertificateWatch
from pacs.events import EventBus, HealthChanged
from pacs.monitoring.checks import LONGEST_S, Check, Finding, HealthChecks
from pacs.monitoring.health import ComponentHealth, Health, HealthRegister
from pacs.monitoring.metrics import Metrics
from pacs.security.tls import TLSSettings, load_identity
from tests.certificates import Authority

INTERVAL_S: Final = 30.0


class _Thread:
    """Where events are delivered: at once."""

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        function(*arguments)


class Watched:
    """A register with all that it has said."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.clock = Clock()
        self.metrics = Metrics()
        bus = EventBus(reactor=_Thread())
        bus.subscribe(HealthChanged, lambda event: self.changes.append(f"{event.component} {event.health}"))
        self.register = HealthRegister(bus=bus, metrics=self.metrics)

    def checks(self, look: Callable[[], Awaitable[Finding]]) -> HealthChecks:
        component = ComponentHealth(self.register, "database")
        return HealthChecks(checks=[Check(component, "look", look)], interval_s=INTERVAL_S, clock=self.clock)

    @property
    def gauges(self) -> dict[str, float]:
        return {
            sample.labels["component"]: sample.value
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "pacs_component_health"
        }


def test_a_database_that_is_locked_or_gone_is_noticed_in_one_interval(tmp_path: Path) -> None:
    watched = Watched()
    path = tmp_path / "index.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (v)")
        other.isolation_level = None

        async def look() -> Finding:
            with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=0)) as connection, connection:
                connection.execute("INSERT INTO t VALUES (1)")
            return Health.HEALTHY, "it writes"

        checks = watched.checks(look)
        checks.start()
        assert watched.register.components() == {"database": "healthy"}
        for harm, heal in (
            (lambda: other.execute("BEGIN IMMEDIATE"), lambda: other.execute("ROLLBACK")),
            (lambda: path.rename(tmp_path / "aside"), lambda: (tmp_path / "aside").rename(path)),
        ):
            harm()
            watched.clock.advance(INTERVAL_S)
            assert watched.register.overall() == "unhealthy"
            assert watched.gauges == {"database": 0.0}
            heal()
            watched.clock.advance(INTERVAL_S)
            assert watched.register.overall() == "healthy"
            assert watched.gauges == {"database": 1.0}
        checks.stop()
    assert watched.changes == ["database unhealthy", "database healthy"] * 2


def test_what_stops_answering_right_after_a_look_is_noticed_in_one_interval() -> None:
    watched = Watched()
    answers: list[Deferred[Finding]] = []

    async def look() -> Finding:
        answers.append(Deferred())
        return await answers[-1]

    checks = watched.checks(look)
    checks.start()
    answers[0].callback((Health.HEALTHY, "it answers"))
    assert watched.register.components() == {"database": "healthy"}
    watched.clock.pump([0.5] * int(2 * INTERVAL_S))
    assert watched.register.components() == {"database": "unhealthy"}
    checks.stop()


def test_a_look_that_does_not_answer_has_its_time_and_is_not_begun_again() -> None:
    watched = Watched()
    looks: list[Deferred[Finding]] = []

    async def look() -> Finding:
        looks.append(Deferred())
        return await looks[-1]

    checks = watched.checks(look)
    checks.start()
    watched.clock.advance(LONGEST_S - 0.1)
    assert watched.register.components() == {}
    watched.clock.advance(0.1)
    assert watched.register.components() == {"database": "unhealthy"}
    watched.clock.advance(INTERVAL_S)
    assert len(looks) == 1
    looks[0].callback((Health.HEALTHY, "late"))
    assert watched.register.components() == {"database": "healthy"}
    watched.clock.advance(INTERVAL_S)
    assert len(looks) == 2
    checks.stop()
    assert watched.changes == ["database unhealthy", "database healthy"]


@pytest.mark.parametrize("left", [timedelta(seconds=-1), timedelta(days=20)])
def test_a_certificate_that_has_expired_or_soon_will_is_noticed_in_one_interval(
    tmp_path: Path, left: timedelta
) -> None:
    watched = Watched()
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("good", "localhost", ends=timedelta(days=300))
    settings = TLSSettings(certificate=certificate, private_key=key, ca_certificate=authority.pem)
    good = load_identity(settings, lambda _: None)
    bad = replace(good, not_after=datetime.now(UTC) + left)
    identities = {"TLS": good, "HTTPS": good}
    watch = CertificateWatch(
        metrics=watched.metrics, health=watched.register, interval_s=INTERVAL_S, clock=watched.clock
    )
    for name in identities:
        watch.add(name, lambda name=name: identities[name])  # type: ignore[misc]
    watch.startService()
    expected = "unhealthy" if left < timedelta(0) else "degraded"
    for name in ("TLS", "HTTPS"):
        assert watched.register.components() == {"certificate": "healthy"}
        identities[name] = bad
        watched.clock.advance(INTERVAL_S)
        assert watched.register.components() == {"certificate": expected}
        value = watched.metrics.registry.get_sample_value("pacs_tls_certificate_expiry_timestamp_seconds")
        assert value == bad.not_after.timestamp()
        identities[name] = good
        watched.clock.advance(INTERVAL_S)
    assert watched.register.components() == {"certificate": "healthy"}
    watch.stopService()
    assert watched.changes == [f"certificate {expected}", "certificate healthy"] * 2
