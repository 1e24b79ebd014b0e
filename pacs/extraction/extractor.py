"""
Objects with some frames of stored ones, made by worker processes of `pacs.extraction.worker`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from typing import Any

from pacs.dataset.file import DataSetFile
from pacs.extraction.changes import Equipment
from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.request import FrameRequest
from pacs.transcoding.settings import TranscodingSettings
from pacs.workers.errors import WorkerFailed
from pacs.workers.pool import WorkerPool
from pacs.workers.process import WorkerProcess


@dataclass(frozen=True, slots=True)
class NewObject:
    """
    What was made.

    Attributes:
        file: whoever gets it closes it.
        frames: how many it has.
    """

    file: DataSetFile
    sop_instance_uid: str
    frames: int


class FrameExtractor:
    """
    Makes objects with some frames of others, off the reactor.

    Attributes:
        pool: of the workers.
    """

    def __init__(self, *, settings: TranscodingSettings, equipment: Equipment, reactor: Any) -> None:
        self._settings = settings
        self._equipment = equipment
        self._reactor = reactor
        self.pool = WorkerPool(
            start=self._start_worker, limit=settings.workers, idle_s=settings.idle_s, reactor=reactor
        )

    async def extract(self, source: DataSetFile, request: FrameRequest) -> NewObject:
        """
        Give an object with the frames that are asked for, in the source's transfer syntax.

        The source stays open and the caller's. Canceling gives the worker's place free.

        Raises:
            ExtractionError: it can't be done; the text may go to a peer.
        """
        question = {
            "offset": source.offset,
            "length": source.length,
            "syntax": source.transfer_syntax_uid,
            "key": request.key.value,
            "value": base64.b64encode(request.value).decode("ascii"),
        }
        try:
            async with self.pool.worker() as worker:
                answer, descriptor = await worker.ask(question, source.descriptor)
        except WorkerFailed as error:
            raise ExtractionError(Cause.RESOURCES, str(error)) from error
        if "error" in answer:
            raise ExtractionError(Cause[answer["cause"]], answer["error"])
        file = DataSetFile(descriptor, 0, answer["length"], source.transfer_syntax_uid)
        return NewObject(file, answer["uid"], answer["frames"])

    async def stop(self) -> None:
        """End all workers, and wait until they are gone; whoever waits fails."""
        await self.pool.stop()

    def _start_worker(self) -> WorkerProcess:
        first = {**self._settings.to_message(), "equipment": asdict(self._equipment)}
        return WorkerProcess(
            module="pacs.extraction.worker",
            task="extraction",
            settings=json.dumps(first).encode(),
            seconds=self._settings.seconds,
            reactor=self._reactor,
        )
