"""
What third parties may implement, and the shapes that rooms agree on without knowing each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import Attribute

from pacs.events import EventBus


class IEventSubscriber(IPlugin):
    """A twisted plugin that listens to the server's events."""

    name = Attribute("A short name for the log.")

    def subscribe(bus: EventBus) -> None:
        """Subscribe to what is wanted; called once, before the server listens."""


class DataSetConsumer(Protocol):
    """Takes a data set in pieces."""

    def write(self, pieces: Sequence[memoryview]) -> Deferred[None] | None:
        """Take pieces, in order; a Deferred asks the producer to wait until it fires."""
