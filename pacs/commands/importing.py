"""
`pacsctl import`: files and whole directories into the archive. What is there already is left out, so that an import
that was broken off goes on where it ended.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from pacs.archive.errors import IndexTooNew
from pacs.command import Call, operator_name
from pacs.commands.bar import progress_bar
from pacs.config import Configuration
from pacs.control.client import CommandFailed, NoServer, command_server
from pacs.control.lock import RootPathLocked

FILES_PER_REQUEST: Final = 200
WORDS: Final = ("stored", "replaced", "renamed", "identical", "skipped", "no_dicom_file")
MOST_LINES: Final = 100


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--compare", "compares", is_flag=True, help="Read what seems to be there already, too.")
def import_command(config: Path | None, wants_json: bool, paths: tuple[Path, ...], compares: bool) -> None:
    """Import DICOM files and those of directories; the server must be able to read them."""
    call = Call(config, wants_json)
    configuration = call.configuration()
    counts: Counter[str] = Counter()
    failed: list[dict[str, str]] = []
    files = sorted(_files(paths, failed))
    total = len(files) + len(failed)
    with progress_bar(is_quiet=wants_json) as bar:
        task = bar.add_task("files", total=len(files))
        try:
            for result in _results(call, configuration, files, compares, lambda done: bar.update(task, completed=done)):
                counts.update({word: result.get(word, 0) for word in WORDS})
                failed += result["failed"]
        except (CommandFailed, RootPathLocked, IndexTooNew, OSError) as error:
            call.fail(f"import: {error}; what was imported stays, begin again to go on")
    told = [f"{counts[word]} {word.replace('_', ' ')}" for word in WORDS if counts[word]]
    call.tell(", ".join(told) or "nothing", **{word: counts[word] for word in WORDS}, failed=failed)
    if failed:
        for item in failed[:MOST_LINES]:
            click.echo(f"{item['path']}: {item['reason']}", err=True)
        call.fail(f"import: {len(failed)} of {total} files could not be imported")


def _results(
    call: Call, configuration: Configuration, files: Sequence[str], compares: bool, tell: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """Have the server import, some files at a time; without one all at once in this process."""
    arguments = {"user": operator_name(), "compares": compares}
    for start in range(0, len(files), FILES_PER_REQUEST):

        def progress(state: dict[str, Any], start: int = start) -> None:
            tell(start + state["done"])

        part = {**arguments, "paths": list(files[start : start + FILES_PER_REQUEST])}
        try:
            yield command_server(Path(configuration.storage.root_path), "import", part, progress)
        except NoServer:
            if configuration.security.anonymization.auto_anonymize:
                call.fail("import: objects are de-identified on their way in: start the server")
            from pacs.commands.alone import perform_alone  # the archive takes its time

            yield perform_alone(configuration, "import", {**arguments, "paths": list(files[start:])}, progress)
            return


def _files(paths: Iterable[Path], failed: list[dict[str, str]]) -> Iterator[str]:
    def closed(error: OSError) -> None:
        failed.append({"path": str(error.filename), "reason": error.strerror or "can't be read"})

    for path in paths:
        if not path.is_dir():
            yield str(path.absolute())
            continue
        for directory, _, names in os.walk(path.absolute(), onerror=closed):
            yield from (os.path.join(directory, name) for name in names)
