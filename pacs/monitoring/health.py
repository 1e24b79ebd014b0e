"""
How the server is: the health of each component, and whether the reactor keeps its time.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pacs.events import EventBus, HealthChanged
from pacs.monitoring.metrics import Metrics

LOOK_INTERVAL_S: Final = 0.5
LATE_S: Final = 1.0


class Health(Enum):
    """The health of a component, with the value of its gauge."""

    HEALTHY = 1.0
    RECOVERING = 0.75
    DEGRADED = 0.5
    UNHEALTHY = 0.0


class HealthRegister:
    """Keeps the health of each component; changes are logged, counted and published once."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, bus: EventBus, metrics: Metrics) -> None:
        self._bus = bus
        self._metrics = metrics
        self._components: dict[str, Health] = {}

    def set(self, component: str, health: Health, reason: str = "") -> None:
        """Say how a component is."""
        before = self._components.get(component)
        if before is health:
            return
        self._components[component] = health
        gauge = Health.DEGRADED if health is Health.RECOVERING else health
        self._metrics.component_health.labels(component=component).set(gauge.value)
        if before is None and health is Health.HEALTHY:
            return
        say = self.log.info if health is Health.HEALTHY else self.log.warn
        say("{component} is {health}: {reason}", component=component, health=health.name.lower(), reason=reason)
        if self._bus.has_subscribers(HealthChanged):
            self._bus.publish(HealthChanged(component=component, health=health.name.lower(), reason=reason))

    def overall(self) -> str:
        """Give how the whole server is: as its worst component; what recovers is degraded."""
        worst = min(self._components.values(), key=lambda health: health.value, default=Health.HEALTHY)
        return (Health.DEGRADED if worst is Health.RECOVERING else worst).name.lower()

    def components(self) -> dict[str, str]:
        """Give the health of each component by name."""
        return {name: health.name.lower() for name, health in self._components.items()}


class ComponentHealth:
    """
    A component that several look at: it is as bad as the worst of what they say.

    Args:
        component: its name in the register.
    """

    def __init__(self, register: HealthRegister, component: str) -> None:
        self._register = register
        self._component = component
        self._reports: dict[str, tuple[Health, str]] = {}

    def report(self, source: str, health: Health, reason: str = "") -> None:
        """Say how the component is, as one of those who look at it sees it; in the reactor's thread."""
        self._reports[source] = (health, reason)
        worst, why = min(self._reports.values(), key=lambda report: report[0].value)
        self._register.set(self._component, worst, reason if worst is health else why)


class LatenessWatchdog:
    """Measures how late the reactor is; more than a second means that something blocks it."""

    def __init__(self, *, clock: IReactorTime, metrics: Metrics, health: HealthRegister) -> None:
        self._clock = clock
        self._metrics = metrics
        self._health = health
        self._due_s = 0.0
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to look."""
        self._due_s = self._clock.seconds() + LOOK_INTERVAL_S
        self._loop.start(LOOK_INTERVAL_S, now=False)

    def stop(self) -> None:
        """Look no longer."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        now_s = self._clock.seconds()
        late_s = max(0.0, now_s - self._due_s)
        self._due_s = now_s + LOOK_INTERVAL_S
        self._metrics.event_loop_lateness_seconds.set(late_s)
        if late_s > LATE_S:
            self._health.set("event_loop", Health.DEGRADED, f"the event loop was {late_s:.1f} s late")
        else:
            self._health.set("event_loop", Health.HEALTHY, "the event loop keeps its time")
