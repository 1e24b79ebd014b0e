"""
A service whose children start one after the other and stop in reverse, each waiting for the one before.

Twisted's MultiService starts all at once and stops all at once, and waits for none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.logger import Logger


class OrderedMultiService(MultiService):
    """
    Starts its children in the order in which they were added.

    One that is starting when all are to stop starts to its end, and is stopped then as the others are.

    Attributes:
        when_started: fires when the last child has started; fails with the failure of the first that could not, or
            with CancelledError when all are to stop before.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self) -> None:
        super().__init__()
        self._started: list[IService] = []
        self._starting: Deferred[None] | None = None
        self.when_started: Deferred[None] = Deferred()

    def startService(self) -> Deferred[None] | None:
        Service.startService(self)
        self._starting = Deferred.fromCoroutine(self._start_children())
        self._starting.addCallbacks(self.when_started.callback, self.when_started.errback)
        return None

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_children())

    async def _start_children(self) -> None:
        for child in list(self.services):
            if not self.running:
                raise CancelledError
            await maybeDeferred(child.startService)
            self._started.append(child)

    async def _stop_children(self) -> None:
        if self._starting is not None and not self._starting.called:
            await self._starting
        started, self._started = self._started[::-1], []
        await self._stop_all(started)

    async def _stop_all(self, started: Sequence[IService]) -> None:
        for child in started:
            await self._stop_one(child)

    async def _stop_one(self, child: IService) -> None:
        try:
            await maybeDeferred(child.stopService)
        except Exception:  # noqa: BLE001 - one that can't stop must not keep the others from stopping
            self.log.failure("{child} did not stop cleanly", child=child)


class Doors(OrderedMultiService):
    """Children that peers come in by: they close all at once, and have the time of grace together."""

    def startService(self) -> Deferred[None]:
        super().startService()
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        try:
            await self.when_started
        except Exception:
            await self.stopService()  # nobody else stops those that have opened
            raise

    async def _stop_all(self, started: Sequence[IService]) -> None:
        await gatherResults([Deferred.fromCoroutine(self._stop_one(child)) for child in started])
