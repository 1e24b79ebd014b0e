"""
Slow answers to those who keep failing to identify themselves. Nobody is locked out: a modality whose passcode is right
is served, however often another device behind the same address was wrong.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from twisted.internet.interfaces import IReactorTime

WINDOW_S: Final = 60.0
FREE_FAILURES: Final = 10
STEP_S: Final = 0.5
LONGEST_DELAY_S: Final = 5.0
REMEMBERED_ADDRESSES: Final = 10_000


class FailureThrottle:
    """Counts failures by address for a minute, and says how long the next refusal should wait."""

    def __init__(self, *, clock: IReactorTime) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str) -> float:
        """
        Note a failure.

        Returns:
            how many seconds its answer should wait: none for the first ten in a minute, five at most.
        """
        failures = self._failures.setdefault(address, deque(maxlen=FREE_FAILURES + int(LONGEST_DELAY_S / STEP_S)))
        self._failures.move_to_end(address)
        if len(self._failures) > REMEMBERED_ADDRESSES:
            self._failures.popitem(last=False)
        failures.append(self._clock.seconds())
        return self.delay_s(address)

    def delay_s(self, address: str) -> float:
        """Give the delay after the failures so far."""
        failures = self._failures.get(address)
        if failures is None:
            return 0.0
        oldest_s = self._clock.seconds() - WINDOW_S
        while failures and failures[0] <= oldest_s:
            failures.popleft()
        return min(LONGEST_DELAY_S, max(0, len(failures) - FREE_FAILURES) * STEP_S)
