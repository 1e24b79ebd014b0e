"""
Our certificates' part of the assembly: each is looked at as often as the other components, so that nobody is surprised
by one that expires.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from pacs.monitoring.health import ComponentHealth, Health, HealthRegister
from pacs.monitoring.metrics import Metrics
from pacs.security.tls import Identity

WARN_BEFORE: Final = timedelta(days=30)


class CertificateWatch(Service):
    """Says how the component `certificate` is: as bad as the worst of those that are watched."""

    def __init__(self, *, metrics: Metrics, health: HealthRegister, interval_s: float, clock: IReactorTime) -> None:
        self._metrics = metrics
        self._component = ComponentHealth(health, "certificate")
        self._interval_s = interval_s
        self._identities: dict[str, Callable[[], Identity | None]] = {}
        self._loop = LoopingCall(self.look)
        self._loop.clock = clock

    def add(self, name: str, identity: Callable[[], Identity | None]) -> None:
        """
        Watch a certificate.

        Args:
            name: what it is for, TLS or HTTPS.
            identity: gives the one that is in use.
        """
        self._identities[name] = identity

    def startService(self) -> None:
        super().startService()
        self._loop.start(self._interval_s)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def look(self) -> None:
        """Look now; costs nothing that the reactor would feel."""
        ends: list[datetime] = []
        for name, identity_of in self._identities.items():
            identity = identity_of()
            if identity is None:
                continue
            ends.append(identity.not_after)
            self._component.report(name, *_finding(name, identity.not_after))
        if ends:
            self._metrics.tls_certificate_expiry_seconds.set(min(ends).timestamp())


def _finding(name: str, not_after: datetime) -> tuple[Health, str]:
    left = not_after - datetime.now(UTC)
    if left <= timedelta(0):
        return Health.UNHEALTHY, f"the {name} certificate has expired: renew it, send SIGHUP"
    if left < WARN_BEFORE:
        return Health.DEGRADED, f"the {name} certificate expires on {not_after:%Y-%m-%d}; renew it and send SIGHUP"
    return Health.HEALTHY, f"the {name} certificate is valid"
