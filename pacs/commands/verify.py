"""
`pacsctl verify`: is every object what was stored? It only reads, beside a running server or without one.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import click

from pacs.archive.errors import IndexTooNew
from pacs.archive.verification import Verification, verify_objects
from pacs.assembly.archive import archive_settings
from pacs.command import Call
from pacs.commands.bar import progress_bar

MOST_LINES: int = 100


@click.command("verify")
def command(config: Path | None, wants_json: bool) -> None:
    """Read each object and compare it with its SHA-256; status 1 when one is missing or altered."""
    call = Call(config, wants_json)
    settings = archive_settings(call.configuration())
    try:
        found = verify_with_progress(settings.root_path, settings.index_path, is_quiet=wants_json)
    except (IndexTooNew, sqlite3.Error, OSError) as error:
        call.fail(f"verify: {error}")
    tell(call, found)


def verify_with_progress(root_path: Path, index_path: Path, *, is_quiet: bool) -> Verification:
    """Verify an archive, with a bar."""
    with progress_bar(is_quiet=is_quiet) as bar:
        task = bar.add_task("verify", total=None)

        def progress(state: dict[str, Any]) -> None:
            bar.update(task, completed=state["done"], total=state["total"])

        return verify_objects(root_path, index_path, progress)


def tell(call: Call, found: Verification) -> None:
    """Print what was found; end with status 1 when something is wrong."""
    faults = [{"sop_instance_uid": uid, "fault": fault.value} for uid, fault in found.faults]
    values = {
        "objects": found.objects,
        "without_checksum": found.unchecked,
        "faults": faults,
        "index_fault": found.index_fault,
    }
    if found.is_sound:
        without = f"; {found.unchecked} have no checksum yet" if found.unchecked else ""
        call.tell(f"{found.objects} objects, all as they were stored{without}", **values)
        return
    if call.wants_json:
        call.tell("", **values)
    for item in faults[:MOST_LINES]:
        click.echo(f"{item['sop_instance_uid']}: {item['fault']}", err=True)
    if found.index_fault:
        click.echo(f"the index is damaged: {found.index_fault}; 'pacsctl reindex' makes a new one", err=True)
    call.fail(f"verify: {len(faults)} of {found.objects} objects are not as they were stored")
