"""
`pacsctl worklist`: scheduled procedure steps, added, listed, removed, and imported from files.

A running server does it and tells who listens; without one it is done here, in the change feed and the audit log too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from pacs.archive.errors import IndexTooNew
from pacs.command import Call
from pacs.control.client import CommandFailed, NoServer, command_server
from pacs.control.lock import RootPathLocked
from pacs.workflow.files import FilesRefused, read_files
from pacs.workflow.item import FIELD_NAMES
from pacs.workflow.stored_form import to_stored

REQUEST_CHARACTERS: Final = 128 << 10  # of data sets in one request: the control socket's lines have a limit
LARGEST_NUMBER: Final = 2**62  # SQLite takes no larger ones
_FILTERS: Final = ("status", "modality", "station_ae_title", "patient_id", "accession_number")


@click.group("worklist")
def command() -> None:
    """Scheduled procedure steps."""


def _field_options(function: Any) -> Any:
    for name in reversed(FIELD_NAMES):
        function = click.option(f"--{name.replace('_', '-')}", name, help=_HELP.get(name))(function)
    return function


_HELP: Final = {
    "scheduled_datetime": "ISO 8601, 2026-11-25T10:30.",
    "study_instance_uid": "Made when it is left out, as are step id and requested procedure id.",
    "birth_date": "YYYY-MM-DD.",
}


@command.command("add")
@_field_options
def add(config: Path | None, wants_json: bool, **fields: str | None) -> None:
    """Add an item."""
    call = Call(config, wants_json)
    given = {name: value for name, value in fields.items() if value is not None}
    item = _perform(call, "add", {"fields": given})
    call.tell(f"added {item['id']}", **item)


@command.command("list")
@click.option("--status")
@click.option("--modality")
@click.option("--station-ae-title", "station_ae_title")
@click.option("--patient-id", "patient_id")
@click.option("--accession-number", "accession_number")
@click.option("--from", "first", help="YYYYMMDD or YYYY-MM-DD.")
@click.option("--to", "last", help="YYYYMMDD or YYYY-MM-DD.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, LARGEST_NUMBER))
@click.option("--offset", default=0, type=click.IntRange(0, LARGEST_NUMBER))
def list_command(
    config: Path | None,
    wants_json: bool,
    first: str | None,
    last: str | None,
    limit: int,
    offset: int,
    **filters: str | None,
) -> None:
    """List items in the order of schedule."""
    call = Call(config, wants_json)
    given = {name: value for name, value in filters.items() if value is not None}
    if first:
        given["scheduled_date_from"] = first
    if last:
        given["scheduled_date_to"] = last
    found = _perform(call, "list", {"filters": given, "limit": limit, "offset": offset})
    lines = [
        "  ".join(str(item[name]) for name in ("id", "status", "scheduled_datetime", "modality", "station_ae_title"))
        + f"  {item['patient_id']}  {item['patient_name']}  {item['description']}"
        for item in found["items"]
    ]
    call.tell("\n".join([*lines, f"{len(lines)} of {found['total']}"]), **found)


@command.command("remove")
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(1, LARGEST_NUMBER))
def remove(config: Path | None, wants_json: bool, ids: tuple[int, ...]) -> None:
    """Remove items by their ids, all or none."""
    call = Call(config, wants_json)
    result = _perform(call, "remove", {"ids": list(ids)})
    call.tell(f"removed {result['removed']}", **result)


@command.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def import_command(config: Path | None, wants_json: bool, paths: tuple[Path, ...]) -> None:
    """Import CSV, JSON and .wl files, and the .wl files of directories; nothing when one has a fault."""
    call = Call(config, wants_json)
    try:
        items = read_files(list(paths))
    except FilesRefused as error:
        call.fail(str(error))
    requests = [{"data_sets": group} for group in _groups([to_stored(item.answered()) for item in items])]
    results = _perform_all(call, "import", requests)
    total = {name: sum(result[name] for result in results) for name in ("added", "replaced")}
    call.tell(", ".join(f"{count} {name}" for name, count in total.items()), **total)


def _groups(texts: list[str]) -> Iterator[list[str]]:
    """Cut data sets into groups that a request can have."""
    group: list[str] = []
    characters = 0
    for text in texts:
        if group and characters + len(text) > REQUEST_CHARACTERS:
            yield group
            group, characters = [], 0
        group.append(text)
        characters += len(text)
    if group:
        yield group


def _perform(call: Call, action: str, request: dict[str, Any]) -> dict[str, Any]:
    return _perform_all(call, action, [request])[0]


def _perform_all(call: Call, action: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Have a running server do it, request by request; without one what is left is done here."""
    configuration = call.configuration()
    root_path = Path(configuration.storage.root_path)
    results: list[dict[str, Any]] = []
    try:
        try:
            for request in requests:
                results.append(command_server(root_path, "worklist", {"action": action, **request}, lambda _: None))
        except NoServer:
            from pacs.commands.alone import perform_alone  # the archive takes its time

            left = _as_one(requests[len(results) :])
            results.append(perform_alone(configuration, "worklist", {"action": action, **left}))
    except (CommandFailed, RootPathLocked, IndexTooNew, OSError) as error:
        call.fail(f"worklist {action}: {error}")
    return results


def _as_one(requests: list[dict[str, Any]]) -> dict[str, Any]:
    """Give one request for several of an import: what is done here needs no groups."""
    if len(requests) == 1:
        return requests[0]
    return {"data_sets": [text for request in requests for text in request["data_sets"]]}
