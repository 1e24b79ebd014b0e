"""
Data sets in other transfer syntaxes, made by worker processes of `pacs.transcoding.worker`.
"""

from __future__ import annotations

import json
from typing import Any

from pacs.dataset.file import DataSetFile
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.settings import TranscodingSettings
from pacs.transcoding.syntaxes import targets
from pacs.workers.errors import WorkerFailed
from pacs.workers.pool import WorkerPool
from pacs.workers.process import WorkerProcess


class Transcoder:
    """
    Gives data sets in other transfer syntaxes, off the reactor.

    Attributes:
        pool: of the workers.
    """

    def __init__(self, *, settings: TranscodingSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self.pool = WorkerPool(
            start=self._start_worker, limit=settings.workers, idle_s=settings.idle_s, reactor=reactor
        )

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
        request = {
            "offset": source.offset,
            "length": source.length,
            "source": source.transfer_syntax_uid,
            "target": transfer_syntax_uid,
        }
        try:
            async with self.pool.worker() as worker:
                answer, descriptor = await worker.ask(request, source.descriptor)
        except WorkerFailed as error:
            raise TranscodingError(str(error)) from error
        if "error" in answer:
            raise TranscodingError(answer["error"])
        return DataSetFile(descriptor, 0, answer["length"], transfer_syntax_uid)

    async def stop(self) -> None:
        """End all workers, and wait until they are gone; whoever waits fails."""
        await self.pool.stop()

    def _start_worker(self) -> WorkerProcess:
        return WorkerProcess(
            module="pacs.transcoding.worker",
            task="transcoding",
            settings=json.dumps(self._settings.to_message()).encode(),
            seconds=self._settings.seconds,
            reactor=self._reactor,
        )
