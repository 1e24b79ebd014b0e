"""
Whether several senders store at once.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pacs.archive.arrivals import LATELY_S, Arrivals


class Sender:
    """An association, as far as arrivals are concerned."""


class ArrivalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.arrivals = Arrivals(monotonic_s=self.clock.seconds)

    def test_one_is_not_several(self) -> None:
        self.assertFalse(self.arrivals.are_several())
        sender = Sender()
        for _ in range(3):
            self.arrivals.came(sender)
        self.assertFalse(self.arrivals.are_several())

    def test_several_are_until_only_one_has_sent_something_for_a_while(self) -> None:
        one, other = Sender(), Sender()
        self.arrivals.came(one)
        for sender in (other, one, other):
            self.clock.advance(LATELY_S / 2)
            self.arrivals.came(sender)
            self.assertTrue(self.arrivals.are_several())
        for _ in range(3):
            self.clock.advance(LATELY_S / 2)
            self.arrivals.came(other)
        self.assertFalse(self.arrivals.are_several())
        self.arrivals.came(one)
        self.assertTrue(self.arrivals.are_several())

    def test_associations_that_follow_each_other_are_one_sender(self) -> None:
        for _ in range(3):
            sender = Sender()
            self.arrivals.came(sender)
            del sender
        self.assertFalse(self.arrivals.are_several())
