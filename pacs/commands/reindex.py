"""
`pacsctl reindex`: the index rebuilt from the objects alone.

A running server reconciles its index while it serves; without one, a new index is made and replaces the old.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pacs.archive.reindex import rebuild
from pacs.assembly.archive import archive_settings
from pacs.command import Call
from pacs.commands.bar import progress_bar
from pacs.control.client import CommandFailed, NoServer, command_server
from pacs.control.lock import RootPathLock, RootPathLocked


@click.command("reindex")
def command(config: Path | None, wants_json: bool) -> None:
    """Rebuild the index from the objects."""
    call = Call(config, wants_json)
    settings = archive_settings(call.configuration())
    with progress_bar(is_quiet=wants_json) as bar:
        task = bar.add_task("objects", total=None)

        def progress(state: dict[str, Any]) -> None:
            bar.update(task, completed=state["done"], total=state["total"])

        try:
            result = _reindex(settings.root_path, lambda: rebuild(settings, progress), progress)
        except (CommandFailed, RootPathLocked, OSError) as error:
            call.fail(f"reindex: {error}")
    call.tell(", ".join(f"{count} {name}" for name, count in result.items()), **result)


def _reindex(
    root_path: Path, offline: Callable[[], dict[str, Any]], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    try:
        return command_server(root_path, "reindex", {}, progress)
    except NoServer:
        pass
    lock = RootPathLock(root_path)
    lock.acquire()
    try:
        return offline()
    finally:
        lock.release()
