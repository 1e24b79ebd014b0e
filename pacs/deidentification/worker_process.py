"""
One worker process as the server sees it: started, given one object at a time, killed when it takes too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import sys
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pacs.dataset.file import DataSetFile
from pacs.deidentification.errors import NotDeidentifiable, VaultError
from pacs.deidentification.settings import EngineSettings, Released

MESSAGE_BYTES: Final = 1 << 16
_CHANNEL: Final = 3  # the socket's descriptor in the worker
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
_ENDED: Final = "the process ended unexpectedly"


@implementer(IReadDescriptor)
class _Channel:
    """The socket to a worker, watched by the reactor."""

    def __init__(self, channel: socket.socket, worker: WorkerProcess) -> None:
        self._socket = channel
        self._worker = worker

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "de-identification"

    def doRead(self) -> None:
        self._worker.receive()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has lost it: what follows is the process's end."""


class WorkerProcess(ProcessProtocol):
    """
    A process of `pacs.deidentification.worker`.

    Attributes:
        is_alive: it can be given an object.
    """

    def __init__(self, *, settings: EngineSettings, seconds: float, reactor: Any) -> None:
        self._seconds = seconds
        self._reactor = reactor
        self._waiting: Deferred[tuple[dict[str, Any], int]] | None = None
        self._ended: list[Deferred[None]] = []
        self._is_ready = False
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
                    [sys.executable, "-P", "-m", "pacs.deidentification.worker", str(_CHANNEL), str(os.getpid())],
                    env={**os.environ, **_ENVIRONMENT},
                    childFDs={0: "w", 1: "r", 2: "r", _CHANNEL: theirs.fileno()},
                )
            except OSError:
                ours.close()
                raise
        reactor.addReader(self._channel)
        ours.send(pickle.dumps(settings))

    async def start(self) -> None:
        """
        Wait until it has opened the vault.

        Raises:
            VaultError: it can't.
        """
        if not self._is_ready:
            await self._answer()
            self._is_ready = True

    async def deidentify(self, data_set: DataSetFile) -> Released:
        """
        Give an object de-identified. Canceling kills the process.

        Raises:
            NotDeidentifiable: it is not released.
            VaultError: the vault can't be used.
        """
        await self.start()
        request = {
            "offset": data_set.offset,
            "length": data_set.length,
            "syntax": data_set.transfer_syntax_uid,
        }
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [data_set.descriptor])
        except OSError:
            self.kill(_ENDED)
        answer, descriptor = await self._answer()
        return Released(**{**answer["released"], "descriptor": descriptor})

    async def _answer(self) -> tuple[dict[str, Any], int]:
        if not self.is_alive:
            raise NotDeidentifiable("process", _ENDED)
        waiting: Deferred[tuple[dict[str, Any], int]] = Deferred(lambda _: self.kill("the peer has gone"))
        self._waiting = waiting
        timer = self._reactor.callLater(self._seconds, self.kill, f"it took more than {self._seconds:g} s")
        try:
            answer, descriptor = await waiting
        finally:
            self._waiting = None
            if timer.active():
                timer.cancel()
        if "vault" in answer:
            raise VaultError(answer["vault"])
        if "rule" in answer:
            raise NotDeidentifiable(answer["rule"], answer["reason"], answer["tag"])
        return answer, descriptor

    def receive(self) -> None:
        """Take an answer, or notice the process's end."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES, 1)
        except OSError:
            message, descriptors = b"", []
        if not message:
            self.kill(_ENDED)
            return
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        waiting.callback((json.loads(message), descriptors[0] if descriptors else -1))

    def kill(self, reason: str) -> None:
        """End the process at once; what it was given fails."""
        if self.is_alive:
            self.is_alive = False
            self._reactor.removeReader(self._channel)
            self._socket.close()
            with contextlib.suppress(ProcessExitedAlready):
                self._process.signalProcess("KILL")
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.errback(NotDeidentifiable("process", reason))

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
        self.kill(_ENDED)
        waiters, self._ended = self._ended, []
        for waiter in waiters:
            waiter.callback(None)
