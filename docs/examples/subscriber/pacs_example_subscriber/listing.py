"""
One line of a CSV file for each stored object.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from pacs.events import EventBus, ImageReceived
from pacs.interfaces import IEventSubscriber


@implementer(IEventSubscriber)
class Listing:
    """Appends to the file that `PACS_EXAMPLE_CSV` names; does nothing without it."""

    log = Logger()
    name = "example-listing"

    def __init__(self) -> None:
        self._lock = DeferredLock()  # one line after the other
        self._path: Path | None = None

    def subscribe(self, bus: EventBus) -> None:
        """Subscribe to stored objects."""
        if path := os.environ.get("PACS_EXAMPLE_CSV"):
            self._path = Path(path)
            bus.on_image_received(self.image_received)

    async def image_received(self, event: ImageReceived) -> None:
        """Write a line, in a thread: handlers run in the reactor's, which must never wait for a disk."""
        await self._lock.run(deferToThread, self._append_in_thread, event)

    def _append_in_thread(self, event: ImageReceived) -> None:
        assert self._path is not None
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow(
                [event.timestamp.isoformat(), event.calling_ae, event.sop_instance_uid, event.size_bytes]
            )
