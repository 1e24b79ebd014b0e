"""
`pacsctl reindex`: the index rebuilt from the objects alone.

A running server reconciles its index while it serves; without one, a new index is made and replaces the old.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pacs.archive.reindex import PUT_ASIDE, rebuild
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
    not_kept = result.get("not_kept", [])
    call.tell(", ".join(f"{count} {name}" for name, count in result.items() if name != "not_kept"), **result)
    if not_kept:
        what = ", ".join(name.replace("_", " ") for name in not_kept)
        aside = f"{settings.index_path}{PUT_ASIDE}"
        click.echo(f"reindex: of the old index, now {aside}, could not be read: {what}", err=True)


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
