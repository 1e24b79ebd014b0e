"""
A kind of task, as whoever has such tasks describes it: what does them, how often they are tried, and how an attempt
says that it did not succeed.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pacs.archive.index.tasks import Task
from pacs.events import Event

JITTER: Final = 0.2
_DAY_S: Final = 86400.0

Events = Sequence[Event]
Handler = Callable[[Task], Awaitable[Events | None]]
"""
Does what a task says; raises `TryAgain` or `GiveUp`, and may be called again for the same task. What it gives is noted
in the change feed in the transaction that ends the task: once, however often the task is tried.
"""

Failed = Callable[[Task, str], Events]
"""The same for a task that is given up; called with the reason."""


class TryAgain(Exception):
    """
    It can't be done now.

    Attributes:
        after_s: when to try again; None leaves it to the queue.
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class GiveUp(Exception):
    """It can't be done, and trying again would not help."""


@dataclass(frozen=True, slots=True)
class Policy:
    """
    How tasks of a kind are tried.

    Attributes:
        concurrency: how many are run at once by this process.
        first_delay_s, longest_delay_s: after the first failure, and at most; each is twice the one before.
        give_up_after_s: a task that is older is not tried again.
        attempt_timeout_s: a longer attempt has failed.
        keeps_done_s, keeps_failed_s: how long an ended task stays visible.
    """

    concurrency: int = 4
    first_delay_s: float = 5.0
    longest_delay_s: float = 900.0
    give_up_after_s: float = 3 * _DAY_S
    attempt_timeout_s: float = 600.0
    keeps_done_s: float = 7 * _DAY_S
    keeps_failed_s: float = 90 * _DAY_S

    def delay_s(self, attempts: int) -> float:
        """Give how long to wait after some attempts, somewhat at random: not all come back at once."""
        delay_s = self.first_delay_s * 2.0 ** min(attempts - 1, 32)
        return min(delay_s, self.longest_delay_s) * random.uniform(1 - JITTER, 1 + JITTER)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of task."""

    handler: Handler
    policy: Policy
    failed: Failed
