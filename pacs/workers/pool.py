"""
A small pool of worker processes, each started when it is needed. Who asks when all are busy waits in turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pacs.workers.errors import WorkerFailed
from pacs.workers.process import WorkerProcess


class WorkerPool:
    """
    Lends workers.

    Args:
        start: starts one more.
        limit: processes at most.
        idle_s: a worker that nobody needed for so long is ended; None keeps it.

    Attributes:
        workers: those that were started and not yet forgotten, dead ones maybe among them.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self, *, start: Callable[[], WorkerProcess], limit: int, idle_s: float | None = None, reactor: Any
    ) -> None:
        self._start = start
        self._limit = limit
        self._idle_s = idle_s
        self._reactor = reactor
        self._idle: list[WorkerProcess] = []
        self._timers: dict[WorkerProcess, Any] = {}
        self._waiting: deque[Deferred[None]] = deque()
        self._is_stopping = False
        self.workers: set[WorkerProcess] = set()

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[WorkerProcess]:
        """
        Lend a worker.

        Raises:
            WorkerFailed: none can be started, or the server is stopping.
        """
        worker = await self._acquire()
        try:
            yield worker
        finally:
            self._release(worker)

    async def stop(self) -> None:
        """End all workers, and wait until they are gone; whoever waits fails."""
        self._is_stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers = {}
        self._idle = []
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            waiter.callback(None)
        workers = list(self.workers)
        ended = [worker.when_ended() for worker in workers]
        for worker in workers:
            worker.kill("the server is stopping")
        for waiter in ended:
            await waiter

    async def _acquire(self) -> WorkerProcess:
        while not self._is_stopping:
            while self._idle:
                worker = self._idle.pop()
                timer = self._timers.pop(worker, None)
                if timer is not None:
                    timer.cancel()
                if worker.is_alive:
                    return worker
            self.workers = {worker for worker in self.workers if worker.is_alive}
            if len(self.workers) < self._limit:
                try:
                    worker = self._start()
                except OSError as error:
                    self.log.error("a worker process can't be started: {reason}", reason=str(error))
                    raise WorkerFailed("no worker process can be started") from error
                self.workers.add(worker)
                return worker
            waiter: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            await waiter
        raise WorkerFailed("the server is stopping")

    def _release(self, worker: WorkerProcess) -> None:
        if worker.is_alive and not self._is_stopping:
            self._idle.append(worker)
            if self._idle_s is not None:
                self._timers[worker] = self._reactor.callLater(self._idle_s, self._retire, worker)
        if self._waiting:
            self._waiting.popleft().callback(None)

    def _retire(self, worker: WorkerProcess) -> None:
        """End a worker that nobody needed."""
        del self._timers[worker]
        self._idle.remove(worker)
        worker.kill("it was idle")
