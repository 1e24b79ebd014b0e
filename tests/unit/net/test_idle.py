"""
A request of ours waits until the peer's are served, and until our own are answered.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pacs.net.idle import until_idle


class Busy:
    """An association that serves a request for a while."""

    def __init__(self, clock: Clock, until_s: float) -> None:
        self.is_open = True
        self.awaits_answer = False
        self._clock = clock
        self._until_s = until_s

    @property
    def is_busy(self) -> bool:
        return self._clock.seconds() < self._until_s


def waiting(association: Any, clock: Clock, timeout_s: float) -> list[bool]:
    results: list[bool] = []
    Deferred.fromCoroutine(until_idle(association, timeout_s=timeout_s, clock=clock)).addCallback(results.append)
    return results


def test_it_goes_on_at_once_when_nothing_is_being_served() -> None:
    clock = Clock()
    assert waiting(Busy(clock, 0), clock, 5) == [True]


def test_it_waits_for_the_end_of_a_request() -> None:
    clock = Clock()
    results = waiting(Busy(clock, 2), clock, 5)
    clock.pump([0.5] * 3)
    assert results == []
    clock.pump([0.5] * 2)
    assert results == [True]


def test_it_waits_for_the_answer_to_another_request_of_ours() -> None:
    clock = Clock()
    association = Busy(clock, 0)
    association.awaits_answer = True
    results = waiting(association, clock, 5)
    clock.pump([0.5] * 3)
    assert results == []
    association.awaits_answer = False
    clock.advance(0.5)
    assert results == [True]


def test_it_does_not_wait_for_ever_nor_for_an_association_that_has_ended() -> None:
    clock = Clock()
    results = waiting(Busy(clock, 100), clock, 5)
    clock.pump([0.5] * 12)
    assert results == [False]
    association = Busy(clock, 100)
    results = waiting(association, clock, 50)
    association.is_open = False
    clock.advance(0.1)
    assert results == [True]
