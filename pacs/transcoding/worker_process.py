"""
One worker process as the server sees it: started, given one data set at a time, killed when it takes too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import asdict
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pacs.dataset.file import DataSetFile
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.settings import TranscodingSettings

MESSAGE_BYTES: Final = 4096
_CHANNEL: Final = 3  # the socket's descriptor in the worker
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@implementer(IReadDescriptor)
class _Channel:
    """The socket to a worker, watched by the reactor."""

    def __init__(self, channel: socket.socket, worker: WorkerProcess) -> None:
        self._socket = channel
        self._worker = worker

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "transcoding"

    def doRead(self) -> None:
        self._worker.receive()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has lost it: what follows is the process's end."""


class WorkerProcess(ProcessProtocol):
    """
    A process of `pacs.transcoding.worker`.

    Attributes:
        is_alive: it can be given a data set.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, settings: TranscodingSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._job: Deferred[DataSetFile] | None = None
        self._target = ""
        self._reason = "the decoder ended unexpectedly"
        self._timer: Any = None
        self._ended: list[Deferred[None]] = []
        self.is_alive = True
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            self._socket = ours
            self._channel = _Channel(ours, self)
            try:
                self._process: Any = reactor.spawnProcess(
                    self,
                    sys.executable,
                    [sys.executable, "-P", "-m", "pacs.transcoding.worker", str(_CHANNEL), str(os.getpid())],
                    env={**os.environ, **_ENVIRONMENT},
                    childFDs={0: "w", 1: "r", 2: "r", _CHANNEL: theirs.fileno()},
                )
            except OSError:
                ours.close()
                raise
        reactor.addReader(self._channel)
        ours.send(json.dumps({**asdict(settings), "directory": str(settings.directory)}).encode())

    async def transcode(self, data_set: DataSetFile, target_ts: str) -> DataSetFile:
        """
        Give a data set in another transfer syntax. Canceling kills the process.

        Raises:
            TranscodingError: it can't be done, took too long, or took the process with it.
        """
        job: Deferred[DataSetFile] = Deferred(lambda _: self.kill("the peer has gone"))
        self._job, self._target = job, target_ts
        request = {
            "offset": data_set.offset,
            "length": data_set.length,
            "source": data_set.transfer_syntax_uid,
            "target": target_ts,
        }
        self._timer = self._reactor.callLater(self._settings.seconds, self._take_too_long)
        try:
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], [data_set.descriptor])
            except OSError:
                self.kill(self._reason)
            return await job
        finally:
            self._job = None
            if self._timer.active():
                self._timer.cancel()

    def receive(self) -> None:
        """Take an answer, or notice the process's end."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES, 1)
        except OSError:
            message, descriptors = b"", []
        job, self._job = self._job, None
        if not message:
            self._job = job
            self.kill(self._reason)
            return
        answer = json.loads(message)
        if "error" in answer and job is not None:
            job.errback(TranscodingError(answer["error"]))
        elif descriptors and job is not None:
            job.callback(DataSetFile(descriptors[0], 0, answer["length"], self._target))
        else:
            for descriptor in descriptors:
                os.close(descriptor)

    def kill(self, reason: str) -> None:
        """End the process at once; what it was given fails."""
        if self.is_alive:
            self.is_alive = False
            self._reactor.removeReader(self._channel)
            self._socket.close()
            with contextlib.suppress(ProcessExitedAlready):
                self._process.signalProcess("KILL")
        job, self._job = self._job, None
        if job is not None and not job.called:
            job.errback(TranscodingError(reason))

    def when_ended(self) -> Deferred[None]:
        """Fire when the process is gone."""
        waiter: Deferred[None] = Deferred()
        if self._process.pid is None:
            waiter.callback(None)
        else:
            self._ended.append(waiter)
        return waiter

    def processEnded(self, reason: Failure) -> None:
        """It is gone, by us or by itself."""
        if self.is_alive:
            number = getattr(reason.value, "signal", None)
            self.log.warn("a transcoding process ended by itself: {cause}", cause=_cause(number, reason.value))
        self.kill(self._reason)
        waiters, self._ended = self._ended, []
        for waiter in waiters:
            waiter.callback(None)

    def _take_too_long(self) -> None:
        self.log.warn("transcoding took more than {limit_s:g} s; its process is killed", limit_s=self._settings.seconds)
        self.kill(f"transcoding took more than {self._settings.seconds:g} s")


def _cause(number: int | None, value: BaseException | None) -> str:
    if number is not None:
        return signal.Signals(number).name
    return f"status {getattr(value, 'exitCode', None)}"
