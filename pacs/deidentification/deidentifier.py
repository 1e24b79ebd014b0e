"""
De-identification off the reactor: which senders it applies to, and a pool of worker processes.
"""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pacs.dataset.file import DataSetFile
from pacs.deidentification.errors import NotDeidentifiable
from pacs.deidentification.settings import EngineSettings, Released
from pacs.deidentification.worker_process import WorkerProcess


class Deidentifier:
    """
    De-identifies what arrives from some AE titles.

    Who asks when all workers are busy waits in turn.

    Args:
        ae_titles: wildcards * and ?.
        workers: processes at most.
        seconds: for one object.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self, *, settings: EngineSettings, ae_titles: tuple[str, ...], workers: int, seconds: float, reactor: Any
    ) -> None:
        self.settings = settings
        self._ae_titles = ae_titles
        self._limit = workers
        self._seconds = seconds
        self._reactor = reactor
        self._workers: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._waiting: deque[Deferred[None]] = deque()
        self._is_stopping = False

    @property
    def profile(self) -> str:
        """The profile's name in the configuration."""
        return self.settings.policy.profile.value

    def applies_to(self, ae_title: str) -> bool:
        """Whether what this sender sends is de-identified."""
        return any(fnmatchcase(ae_title, pattern) for pattern in self._ae_titles)

    async def start(self) -> None:
        """
        Start a worker, which opens the vault, or makes it at the very first start.

        Raises:
            VaultError: it can't; nothing will be de-identified, nothing stored of whoever it applies to.
        """
        worker = await self._acquire()
        try:
            await worker.start()
        finally:
            self._release(worker)

    async def deidentify(self, data_set: DataSetFile) -> Released:
        """
        Give an object de-identified and verified; the caller closes its file.

        Raises:
            NotDeidentifiable: it is not released; the text has no patient data.
            VaultError: the vault can't be used.
        """
        worker = await self._acquire()
        try:
            return await worker.deidentify(data_set)
        finally:
            self._release(worker)

    async def stop(self) -> None:
        """End all workers, and wait until they are gone; whoever waits fails."""
        self._is_stopping = True
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            waiter.callback(None)
        workers = list(self._workers)
        ended = [worker.when_ended() for worker in workers]
        for worker in workers:
            worker.kill("the server is stopping")
        for waiter in ended:
            await waiter

    async def _acquire(self) -> WorkerProcess:
        while not self._is_stopping:
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive:
                    return worker
            self._workers = {worker for worker in self._workers if worker.is_alive}
            if len(self._workers) < self._limit:
                try:
                    worker = WorkerProcess(settings=self.settings, seconds=self._seconds, reactor=self._reactor)
                except OSError as error:
                    self.log.error("a de-identifying process can't be started: {reason}", reason=str(error))
                    raise NotDeidentifiable("process", "no process can be started") from error
                self._workers.add(worker)
                return worker
            waiter: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            await waiter
        raise NotDeidentifiable("process", "the server is stopping")

    def _release(self, worker: WorkerProcess) -> None:
        if worker.is_alive and not self._is_stopping:
            self._idle.append(worker)
        if self._waiting:
            self._waiting.popleft().callback(None)
