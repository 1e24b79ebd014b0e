"""
One worker process as the server sees it: started, asked one thing at a time, killed when it takes too long.

Requests and answers are JSON over a socket, each with a descriptor beside it where there is a file to hand over.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pacs.workers.errors import WorkerFailed

MESSAGE_BYTES: Final = 1 << 17
NO_DESCRIPTOR: Final = -1
_CHANNEL: Final = 3  # the socket's descriptor in the worker
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

Answer = tuple[dict[str, Any], int]
"""What a worker said, and the descriptor that came with it, which is the receiver's; or NO_DESCRIPTOR."""


@implementer(IReadDescriptor)
class _Channel:
    """The socket to a worker, watched by the reactor."""

    def __init__(self, channel: socket.socket, worker: WorkerProcess) -> None:
        self._socket = channel
        self._worker = worker

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "worker"

    def doRead(self) -> None:
        self._worker.receive()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has lost it: what follows is the process's end."""


class WorkerProcess(ProcessProtocol):
    """
    A process that runs a module; see `pacs.workers.child` for its side.

    Args:
        task: what it does, for the log and for errors.
        settings: its first message.
        seconds: for one answer, wall-clock time.

    Attributes:
        is_alive: it can be asked.
        has_answered: at least once.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, module: str, task: str, settings: bytes, seconds: float, reactor: Any) -> None:
        self._task = task
        self._seconds = seconds
        self._reactor = reactor
        self._waiting: Deferred[Answer] | None = None
        self._ended: list[Deferred[None]] = []
        self.is_alive = True
        self.has_answered = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            self._socket = ours
            self._channel = _Channel(ours, self)
            try:
                self._process: Any = reactor.spawnProcess(
                    self,
                    sys.executable,
                    [sys.executable, "-P", "-m", module, str(_CHANNEL), str(os.getpid())],
                    env={**os.environ, **_ENVIRONMENT},
                    childFDs={0: "w", 1: "r", 2: "r", _CHANNEL: theirs.fileno()},
                )
            except OSError:
                ours.close()
                raise
        reactor.addReader(self._channel)
        ours.send(settings)

    @property
    def pid(self) -> int | None:
        """Of the process; None when it is gone."""
        pid: int | None = self._process.pid
        return pid

    async def ask(self, request: dict[str, Any], descriptor: int) -> Answer:
        """
        Give the answer to a request. Canceling kills the process.

        Raises:
            WorkerFailed: it took too long, or the process ended.
        """
        if self.is_alive:
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], [descriptor])
            except OSError:
                self.kill(self._unexpected_end)
        return await self.answer()

    async def answer(self) -> Answer:
        """
        Give the next thing that it says.

        Raises:
            WorkerFailed: it took too long, or the process ended.
        """
        if not self.is_alive:
            raise WorkerFailed(self._unexpected_end)
        waiting: Deferred[Answer] = Deferred(lambda _: self.kill("the peer has gone"))
        self._waiting = waiting
        timer = self._reactor.callLater(self._seconds, self._take_too_long)
        try:
            return await waiting
        finally:
            self._waiting = None
            if timer.active():
                timer.cancel()

    def receive(self) -> None:
        """Take an answer, or notice the process's end."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES, 1)
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._end_unexpectedly()
            return
        self.has_answered = True
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        waiting.callback((json.loads(message), descriptors[0] if descriptors else NO_DESCRIPTOR))

    def kill(self, reason: str) -> None:
        """End the process at once; what it was asked fails."""
        if self.is_alive:
            self.is_alive = False
            self._reactor.removeReader(self._channel)
            self._socket.close()
            with suppress(ProcessExitedAlready):
                self._process.signalProcess("KILL")
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.errback(WorkerFailed(reason))

    def when_ended(self) -> Deferred[None]:
        """Fire when the process is gone."""
        waiter: Deferred[None] = Deferred()
        if self.pid is None:
            waiter.callback(None)
        else:
            self._ended.append(waiter)
        return waiter

    def processEnded(self, reason: Failure) -> None:
        """It is gone, by us or by itself."""
        if self.is_alive:
            self.log.warn("a {task} process ended by itself: {cause}", task=self._task, cause=_cause(reason.value))
        self.kill(self._unexpected_end)
        waiters, self._ended = self._ended, []
        for waiter in waiters:
            waiter.callback(None)

    # -- within

    @property
    def _unexpected_end(self) -> str:
        return f"the {self._task} process ended unexpectedly"

    def _end_unexpectedly(self) -> None:
        if self._waiting is not None:
            self.log.warn("a {task} process ended while it was needed", task=self._task)
        self.kill(self._unexpected_end)

    def _take_too_long(self) -> None:
        self.log.warn(
            "{task} took more than {limit_s:g} s; its process is killed", task=self._task, limit_s=self._seconds
        )
        self.kill(f"{self._task} took more than {self._seconds:g} s")


def _cause(value: BaseException | None) -> str:
    number = getattr(value, "signal", None)
    return f"status {getattr(value, 'exitCode', None)}" if number is None else signal.Signals(number).name
