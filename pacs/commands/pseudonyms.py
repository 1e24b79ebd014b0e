"""
What `pacsctl forget` and `pacsctl reidentify` share: both are done by the running server.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from pacs.command import Call
from pacs.control.client import CommandFailed, NoServer, command_server


def ask_vault(call: Call, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Have the running server, which records it in the audit log, do something with its vault."""
    root_path = Path(call.configuration().storage.root_path)
    try:
        return command_server(root_path, command, {**arguments, "user": getpass.getuser()}, lambda _: None)
    except NoServer:
        call.fail(f"{command}: no server runs on {root_path}; it is the one that records this in the audit log")
    except (CommandFailed, OSError) as error:
        call.fail(f"{command}: {error}")
