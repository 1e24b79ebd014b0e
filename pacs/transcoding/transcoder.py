"""
Data sets in other transfer syntaxes: a small pool of worker processes, each started when it is needed.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pacs.dataset.file import DataSetFile
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.settings import TranscodingSettings
from pacs.transcoding.syntaxes import targets
from pacs.transcoding.worker_process import WorkerProcess


class Transcoder:
    """
    Gives data sets in other transfer syntaxes, off the reactor.

    Who asks when all workers are busy waits in turn.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, settings: TranscodingSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._workers: set[WorkerProcess] = set()
        self._idle: list[tuple[WorkerProcess, Any]] = []  # with the timer that ends it
        self._waiting: deque[Deferred[None]] = deque()
        self._is_stopping = False

    def targets(self, transfer_syntax_uid: str) -> tuple[str, ...]:
        """Give the transfer syntaxes that can be made of one, the best first, without itself."""
        return targets(transfer_syntax_uid)

    async def transcode(self, source: DataSetFile, transfer_syntax_uid: str) -> DataSetFile:
        """
        Give a data set in another transfer syntax, in a file without a name that the caller closes.

        The source stays open and the caller's. Canceling gives the worker's place free.

        Raises:
            TranscodingError: it can't be done; the text may go to a peer.
        """
        if transfer_syntax_uid not in targets(source.transfer_syntax_uid):
            raise TranscodingError(
                f"transfer syntax {source.transfer_syntax_uid} can't be given as {transfer_syntax_uid}"
            )
        worker = await self._acquire()
        try:
            return await worker.transcode(source, transfer_syntax_uid)
        finally:
            self._release(worker)

    async def stop(self) -> None:
        """End all workers, and wait until they are gone; whoever waits fails."""
        self._is_stopping = True
        for _, timer in self._idle:
            timer.cancel()
        self._idle = []
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
                worker, timer = self._idle.pop()
                timer.cancel()
                if worker.is_alive:
                    return worker
                self._workers.discard(worker)
            self._workers = {worker for worker in self._workers if worker.is_alive}
            if len(self._workers) < self._settings.workers:
                try:
                    worker = WorkerProcess(settings=self._settings, reactor=self._reactor)
                except OSError as error:
                    self.log.error("a transcoding process can't be started: {reason}", reason=str(error))
                    raise TranscodingError("no transcoding process can be started") from error
                self._workers.add(worker)
                return worker
            waiter: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            await waiter
        raise TranscodingError("the server is stopping")

    def _release(self, worker: WorkerProcess) -> None:
        if worker.is_alive and not self._is_stopping:
            timer = self._reactor.callLater(self._settings.idle_s, self._retire, worker)
            self._idle.append((worker, timer))
        if self._waiting:
            self._waiting.popleft().callback(None)

    def _retire(self, worker: WorkerProcess) -> None:
        """End a worker that nobody needed."""
        self._idle = [(other, timer) for other, timer in self._idle if other is not worker]
        worker.kill("it was idle")
