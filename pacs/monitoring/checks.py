"""
Looking at the components again and again: each check runs where it blocks nobody, and has its time.

A check that does not answer in time says that its component is unhealthy; it is not begun again before it has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.monitoring.health import ComponentHealth, Health

LONGEST_S: Final = 10.0
SHORTEST_S: Final = 0.5
LOOKS_AN_INTERVAL: Final = 2
SHARE_OF_A_LOOK: Final = 0.4
"""Of the interval: what begins right after a look is found by the next one, and told before the interval ends."""

Finding = tuple[Health, str]


@dataclass(frozen=True, slots=True)
class Check:
    """
    One look at one component.

    Attributes:
        source: the name of this look among those of the component.
        look: gives what it found; what it raises means that the component is unhealthy.
        explain: gives the words for what it raised, without patient data.
    """

    component: ComponentHealth
    source: str
    look: Callable[[], Awaitable[Finding]]
    explain: Callable[[Exception], str] = lambda error: type(error).__name__


class HealthChecks:
    """
    Runs checks.

    Args:
        interval_s: within which a fault is noticed: a look is begun twice in it, and has less than half of it to
            answer, ten seconds at most.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, checks: Sequence[Check], interval_s: float, clock: IReactorTime) -> None:
        self._checks = checks
        self._clock = clock
        self._interval_s = interval_s
        self._timeout_s = max(SHORTEST_S, min(LONGEST_S, SHARE_OF_A_LOOK * interval_s))
        self._running: dict[int, Deferred[None]] = {}
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """Look now, and then again and again."""
        self._loop.start(self._interval_s / LOOKS_AN_INTERVAL)

    def stop(self) -> None:
        """Look no longer."""
        if self._loop.running:
            self._loop.stop()
        for running in tuple(self._running.values()):
            running.cancel()

    def _look(self) -> None:
        for number, check in enumerate(self._checks):
            if number not in self._running:
                running = Deferred.fromCoroutine(self._run(check))
                if not running.called:
                    self._running[number] = running
                running.addErrback(lambda _: None)  # canceled by `stop`
                running.addCallback(self._forget, number)

    def _forget(self, _: None, number: int) -> None:
        self._running.pop(number, None)

    async def _run(self, check: Check) -> None:
        overdue = self._clock.callLater(
            self._timeout_s,
            check.component.report,
            check.source,
            Health.UNHEALTHY,
            f"does not answer within {self._timeout_s:g} s",
        )
        try:
            health, reason = await check.look()
        except Exception as error:  # noqa: BLE001 - whatever it is: that is what the check is there to find
            health, reason = Health.UNHEALTHY, check.explain(error)
            self.log.debug("check {source} failed", source=check.source, log_failure=Failure())
        finally:
            if overdue.active():
                overdue.cancel()
        if self._loop.running:
            check.component.report(check.source, health, reason)
