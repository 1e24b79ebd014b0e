"""
What is done about a flood: connections of one address that come to nothing, so many that serving them would take the
processor from those who store.

A connection came to nothing when no request was answered on it and it did not end by a release: a scan, garbage, a
wrong AE title, an object cut off in the middle. Each address may have some; from one that has too many, further
connections are held unread, in the order in which they come, and let in at a rate that leaves most of the processor to
the others. Associations that are there already and other addresses are never touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pacs.monitoring.metrics import Metrics

FREE_BURST: Final = 100  # connections of one address that may come to nothing at once,
FREE_PER_S: Final = 20  # and for ever
CALM_S: Final = 60.0  # without more than that, until a flood is over: two lines in the log a minute at most
LET_IN_PER_S: Final = 200  # of all flooding addresses; each takes 0.2 ms of the processor
LET_IN_INTERVAL_S: Final = 0.02
MOST_WAITING: Final = 256
REMEMBERED_ADDRESSES: Final = 10_000

_LET_IN_AT_A_TIME: Final = int(LET_IN_PER_S * LET_IN_INTERVAL_S)


@dataclass(slots=True)
class _Wasted:
    """
    What one address has had come to nothing, as a bucket that leaks.

    Attributes:
        level: how many, less those that are forgiven.
        at_s: of the last one.
    """

    level: float
    at_s: float


@dataclass(slots=True)
class _Flood:
    """
    One address that has too many.

    Attributes:
        last_s: when it last had one too many.
        held: connections that had to wait.
        turned_away: connections that were closed, since too many waited.
    """

    last_s: float
    held: int = 0
    turned_away: int = 0


class FloodGate:
    """Knows which addresses flood the server, and holds their connections."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, clock: IReactorTime, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._wasted: dict[str, _Wasted] = {}
        self._floods: dict[str, _Flood] = {}
        self._waiting: deque[Callable[[], None]] = deque()
        self._letting_in = LoopingCall(self._let_some_in)
        self._letting_in.clock = clock

    def came_to_nothing(self, address: str) -> None:
        """A connection of the address has ended in disorder, without an answered request."""
        now_s = self._clock.seconds()
        wasted = self._wasted.get(address)
        if wasted is None:
            if len(self._wasted) >= REMEMBERED_ADDRESSES:
                self._wasted.clear()
            self._wasted[address] = _Wasted(1.0, now_s)
            return
        wasted.level = max(0.0, wasted.level - FREE_PER_S * (now_s - wasted.at_s)) + 1.0
        wasted.at_s = now_s
        if wasted.level > FREE_BURST:
            wasted.level = FREE_BURST
            self._flooded(address, now_s)

    def must_wait(self, address: str) -> bool:
        """Whether a new connection of the address is to be held."""
        return address in self._floods

    def wait(self, address: str, let_in: Callable[[], None], turn_away: Callable[[], None]) -> None:
        """
        Hold a connection.

        Args:
            let_in: called when it is its turn.
            turn_away: called instead, at once, when too many wait.
        """
        flood = self._floods[address]
        if len(self._waiting) >= MOST_WAITING:
            flood.turned_away += 1
            self._metrics.associations_total.labels(result="refused").inc()
            turn_away()
            self.came_to_nothing(address)
            return
        flood.held += 1
        self._metrics.connections_held_total.inc()
        self._waiting.append(let_in)

    def let_all_in(self) -> None:
        """Hold nothing any more: the server ends, and tells everybody so."""
        self._floods.clear()
        self._let_in(len(self._waiting))
        if self._letting_in.running:
            self._letting_in.stop()

    # -- within

    def _flooded(self, address: str, now_s: float) -> None:
        flood = self._floods.get(address)
        if flood is not None:
            flood.last_s = now_s
            return
        self._floods[address] = _Flood(now_s)
        self.log.warn(
            "{peer_address} floods the server: over {limit} connections that came to nothing, and over {rate} a second."
            " Its new ones wait, {let_in_rate} a second are let in. Block the address, or mend the device that has it",
            peer_address=address,
            limit=FREE_BURST,
            rate=FREE_PER_S,
            let_in_rate=LET_IN_PER_S,
        )
        if not self._letting_in.running:
            self._letting_in.start(LET_IN_INTERVAL_S, now=False)

    def _let_some_in(self) -> None:
        self._let_in(_LET_IN_AT_A_TIME)
        calm_since_s = self._clock.seconds() - CALM_S
        for address in [address for address, flood in self._floods.items() if flood.last_s <= calm_since_s]:
            flood = self._floods.pop(address)
            self.log.warn(
                "{peer_address} floods the server no longer: {held} connections had to wait, {turned_away} were closed",
                peer_address=address,
                held=flood.held,
                turned_away=flood.turned_away,
            )
        if not self._floods and not self._waiting:
            self._letting_in.stop()

    def _let_in(self, most: int) -> None:
        for _ in range(min(most, len(self._waiting))):
            self._waiting.popleft()()
