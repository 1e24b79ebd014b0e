"""
The operator's side of the control socket: blocking, for `pacsctl`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pacs.control.server import CONTROL_SOCKET


class NoServer(Exception):
    """No server runs on the archive."""


class CommandFailed(Exception):
    """The server says why."""


def command_server(
    root_path: Path, command: str, arguments: dict[str, Any], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """
    Have the running server do something.

    Raises:
        NoServer: there is none.
        CommandFailed: it could not.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(root_path / CONTROL_SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoServer from None
        connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        for line in connection.makefile("rb"):
            message = json.loads(line)
            if "progress" in message:
                progress(message["progress"])
            elif "error" in message:
                raise CommandFailed(message["error"])
            else:
                result: dict[str, Any] = message["result"]
                return result
    raise CommandFailed("the server closed the connection before it answered")
