"""
The control socket, `<root_path>/control.sock`: how `pacsctl` talks to the running server.

One JSON object a line. A request is `{"command": NAME, ...}`; answers are any number of `{"progress": {...}}` and one
`{"result": {...}}` or `{"error": "..."}`. Who may open the socket (mode 0600) may command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

CONTROL_SOCKET: Final = "control.sock"
LONGEST_LINE_BYTES: Final = 1 << 20

Progress = Callable[[dict[str, Any]], None]
ControlCommand = Callable[[dict[str, Any], Progress], Awaitable[dict[str, Any]]]
"""Serves one command: its arguments, a way to tell progress; gives the result."""


class ControlProtocol(LineReceiver):
    """
    One operator.

    Args:
        refusals: what commands raise when they can't do what is asked: for the operator. All else is our failure.
    """

    log: ClassVar[Logger] = Logger()
    delimiter = b"\n"
    MAX_LENGTH = LONGEST_LINE_BYTES

    def __init__(self, commands: Mapping[str, ControlCommand], refusals: tuple[type[Exception], ...]) -> None:
        self._commands = commands
        self._refusals = refusals
        self._running: Deferred[None] | None = None

    def lineReceived(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            command = self._commands[request["command"]]
        except (ValueError, KeyError, TypeError):
            self._send({"error": "unknown command"})
            return
        self._running = Deferred.fromCoroutine(self._serve(command, request))
        self._running.addErrback(self._failed)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _serve(self, command: ControlCommand, request: dict[str, Any]) -> None:
        result = await command(request, lambda progress: self._send({"progress": progress}))
        self._send({"result": result})

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return  # the operator has interrupted it
        if not failure.check(*self._refusals):
            self.log.failure("a command of the control socket failed", failure)
        self._send({"error": failure.getErrorMessage()})

    def _send(self, message: dict[str, Any]) -> None:
        if self.connected:
            self.sendLine(json.dumps(message).encode())


class ControlServer(Service):
    """
    Listens on the control socket.

    Args:
        refusals: as for `ControlProtocol`.
    """

    def __init__(
        self,
        *,
        root_path: Path,
        commands: Mapping[str, ControlCommand],
        refusals: tuple[type[Exception], ...],
        reactor: Any,
    ) -> None:
        self._path = root_path / CONTROL_SOCKET
        self._commands = commands
        self._refusals = refusals
        self._reactor = reactor
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        super().startService()
        self._path.unlink(missing_ok=True)  # of a server that was killed; the lock says that there is no other
        factory = Factory.forProtocol(lambda: ControlProtocol(self._commands, self._refusals))
        factory.noisy = False
        before = os.umask(0o177)
        try:
            self._port = self._reactor.listenUNIX(str(self._path), factory, mode=0o600)
        finally:
            os.umask(before)

    async def _stop(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())
