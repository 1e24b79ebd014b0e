"""
A flood: what begins and ends one, who waits meanwhile and for how long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pacs.monitoring.metrics import Metrics
from pacs.net.flood import (
    CALM_S,
    FREE_BURST,
    FREE_PER_S,
    LET_IN_INTERVAL_S,
    LET_IN_PER_S,
    MOST_WAITING,
    REMEMBERED_ADDRESSES,
    FloodGate,
)

BAD, GOOD = "192.0.2.66", "192.0.2.1"


class FloodTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.gate = FloodGate(clock=self.clock, metrics=self.metrics)
        self.let_in: list[int] = []
        self.turned_away: list[int] = []

    def flood(self, address: str = BAD) -> None:
        for _ in range(FREE_BURST + 1):
            self.gate.came_to_nothing(address)

    def hold(self, *numbers: int) -> None:
        for number in numbers:
            self.gate.wait(BAD, self.noted(self.let_in, number), self.noted(self.turned_away, number))

    def noted(self, where: list[int], number: int) -> Callable[[], None]:
        return lambda: where.append(number)

    def run_for(self, duration_s: float) -> None:
        self.clock.pump([LET_IN_INTERVAL_S] * round(duration_s / LET_IN_INTERVAL_S))

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def test_an_address_may_have_some_that_come_to_nothing(self) -> None:
        for _ in range(FREE_BURST):
            self.gate.came_to_nothing(BAD)
        self.assertFalse(self.gate.must_wait(BAD))
        self.gate.came_to_nothing(BAD)
        self.assertTrue(self.gate.must_wait(BAD))

    def test_some_each_second_are_no_flood_however_long_they_go_on(self) -> None:
        """A probe of the port, a device whose configuration is wrong."""
        for _ in range(600 * FREE_PER_S):
            self.gate.came_to_nothing(BAD)
            self.clock.advance(1 / FREE_PER_S)
        self.assertFalse(self.gate.must_wait(BAD))

    def test_other_addresses_do_not_wait(self) -> None:
        self.flood()
        self.assertFalse(self.gate.must_wait(GOOD))

    def test_who_waits_is_let_in_in_order_at_a_limited_rate(self) -> None:
        self.flood()
        self.hold(*range(LET_IN_PER_S))
        self.assertEqual(self.let_in, [])
        self.run_for(0.5)
        self.assertEqual(self.let_in, list(range(LET_IN_PER_S // 2)))
        self.run_for(0.5)
        self.assertEqual(self.let_in, list(range(LET_IN_PER_S)))
        self.assertEqual(self.turned_away, [])
        self.assertEqual(self.sample("pacs_connections_held_total"), LET_IN_PER_S)

    def test_when_too_many_wait_further_ones_are_closed_at_once(self) -> None:
        self.flood()
        self.hold(*range(MOST_WAITING + 2))
        self.assertEqual(self.turned_away, [MOST_WAITING, MOST_WAITING + 1])
        self.assertEqual(self.sample("pacs_associations_total", result="refused"), 2)
        self.run_for(10)
        self.assertEqual(self.let_in, list(range(MOST_WAITING)))

    def test_it_is_over_after_a_calm_minute_and_told_in_two_lines(self) -> None:
        with capturedLogs() as logged:
            self.flood()
            self.hold(*range(MOST_WAITING + 1))
            self.flood()
            self.run_for(CALM_S - 1)
            self.assertTrue(self.gate.must_wait(BAD))
            self.run_for(1.1)
        self.assertFalse(self.gate.must_wait(BAD))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        began, ended = lines(logged)
        self.assertEqual((began["peer_address"], ended["peer_address"]), (BAD, BAD))
        self.assertEqual((ended["held"], ended["turned_away"]), (MOST_WAITING, 1))

    def test_it_goes_on_as_long_as_what_is_let_in_comes_to_nothing(self) -> None:
        """The limited rate itself does not end it."""
        with capturedLogs() as logged:
            self.flood()
            for _ in range(3 * int(CALM_S)):
                for _ in range(LET_IN_PER_S):
                    self.gate.wait(BAD, lambda: self.gate.came_to_nothing(BAD), lambda: None)
                self.run_for(1)
            self.assertTrue(self.gate.must_wait(BAD))
        self.assertEqual(len(lines(logged)), 1)

    def test_who_is_turned_away_goes_on_flooding(self) -> None:
        """Several addresses share the rate, so that hardly one of this one is let in."""
        self.flood()
        for _ in range(3 * int(CALM_S)):
            self.hold(*range(MOST_WAITING + LET_IN_PER_S))
            self.run_for(1)
        self.assertTrue(self.gate.must_wait(BAD))

    def test_at_the_end_everybody_is_let_in(self) -> None:
        self.flood()
        self.hold(1, 2, 3)
        self.gate.let_all_in()
        self.assertEqual(self.let_in, [1, 2, 3])
        self.assertFalse(self.gate.must_wait(BAD))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_addresses_are_not_remembered_without_end(self) -> None:
        for number in range(REMEMBERED_ADDRESSES + 10):
            self.gate.came_to_nothing(f"192.0.2.{number}")
        self.assertLessEqual(len(self.gate._wasted), REMEMBERED_ADDRESSES)


def lines(logged: Any) -> list[Any]:
    return [event for event in logged if "floods the server" in event["log_format"]]
