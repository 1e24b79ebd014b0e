"""
Which objects are on their way in: whoever commits one by itself must know whether others are about to follow.

An object that stalls, of a peer that is slow or hangs, is none that others should be committed together with: it would
send every other sender's objects the longer way through the commit thread until it is given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

STALLED_S: Final = 0.1


class Arrivals:
    """Knows when something of each object last came; lives in the reactor's thread."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._last_s: dict[object, float] = {}

    def came(self, incoming: object) -> None:
        """Something of an object has come, its request or some of its bytes."""
        self._last_s[incoming] = self._monotonic_s()

    def ended(self, incoming: object) -> None:
        """An object is whole, or will never be."""
        self._last_s.pop(incoming, None)

    def are_several(self) -> bool:
        """Whether more than one object is coming, stalled ones left out."""
        if len(self._last_s) <= 1:
            return False
        stalled_since_s = self._monotonic_s() - STALLED_S
        return sum(last_s > stalled_since_s for last_s in self._last_s.values()) > 1
