"""
Whether several senders store at once: whoever commits an object by itself must know whether others are about to follow.

To commit in the reactor's thread is fastest for one sender, who waits for the answer anyway. Beside others it would
keep their bytes waiting while the disk works, and each object would be a batch of its own. That the others have begun
does not show: their bytes are not read meanwhile. So it is asked who has sent something lately. A sender that stalls,
or is gone, is none that others should take the longer way for.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Final

LATELY_S: Final = 0.05


def _nobody() -> None:
    """Refer to no sender."""


class Arrivals:
    """Knows when objects last came from another sender than those before; lives in the reactor's thread."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._latest: Callable[[], object | None] = _nobody
        self._changed_s = -LATELY_S

    def came(self, sender: object) -> None:
        """Something of an object of a sender has come, its request or some of its bytes."""
        before = self._latest()
        if before is sender:
            return
        self._latest = weakref.ref(sender)
        if before is not None:  # an association that was closed is followed by the next, mostly of the same sender
            self._changed_s = self._monotonic_s()

    def are_several(self) -> bool:
        """Whether more than one sender has sent something lately."""
        return self._monotonic_s() - self._changed_s < LATELY_S
