"""
Objects on their way in: how many, and which of them count.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pacs.archive.arrivals import STALLED_S, Arrivals


class ArrivalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.arrivals = Arrivals(monotonic_s=self.clock.seconds)

    def test_one_is_not_several(self) -> None:
        self.assertFalse(self.arrivals.are_several())
        for _ in range(3):
            self.arrivals.came("one")
        self.assertFalse(self.arrivals.are_several())

    def test_several_are_until_all_but_one_have_ended(self) -> None:
        for name in ("one", "two", "three"):
            self.arrivals.came(name)
        self.assertTrue(self.arrivals.are_several())
        self.arrivals.ended("one")
        self.assertTrue(self.arrivals.are_several())
        self.arrivals.ended("three")
        self.assertFalse(self.arrivals.are_several())

    def test_an_object_that_stalls_does_not_count_until_it_goes_on(self) -> None:
        self.arrivals.came("stalls")
        self.clock.advance(2 * STALLED_S)
        self.arrivals.came("goes on")
        self.assertFalse(self.arrivals.are_several())
        self.arrivals.came("stalls")
        self.assertTrue(self.arrivals.are_several())

    def test_what_never_came_may_end(self) -> None:
        self.arrivals.ended("refused on entering")
        self.assertFalse(self.arrivals.are_several())
