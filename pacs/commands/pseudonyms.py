"""
What `pacsctl forget` and `pacsctl reidentify` share: the running server does it; without one it is done here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pacs.archive.errors import IndexTooNew
from pacs.command import Call, operator_name
from pacs.control.client import CommandFailed, NoServer, command_server
from pacs.control.lock import RootPathLocked


def ask_vault(call: Call, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Have something done with the vault, and recorded in the audit log."""
    configuration = call.configuration()
    whole = {**arguments, "user": operator_name()}
    try:
        try:
            return command_server(Path(configuration.storage.root_path), command, whole, lambda _: None)
        except NoServer:
            from pacs.commands.alone import perform_alone  # the archive takes its time

            return perform_alone(configuration, command, whole)
    except (CommandFailed, RootPathLocked, IndexTooNew, OSError) as error:
        call.fail(f"{command}: {error}")
