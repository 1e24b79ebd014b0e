"""
`pacsctl deidentify`: the files of a folder, de-identified into another, on all cores.

What is there already is left alone, so a run that was interrupted goes on where it was. The report says what became of
each file; it holds the original paths, so it belongs to the originals, not to what is given away.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from pacs.assembly.deidentification import engine_settings
from pacs.command import Call
from pacs.commands.bar import progress_bar
from pacs.dataset.errors import DataSetError
from pacs.dataset.part10 import open_file, read_file_meta
from pacs.deidentification.engine import Engine
from pacs.deidentification.errors import DeidentificationError, VaultError
from pacs.deidentification.keys import keyed_hash
from pacs.deidentification.regions import RegionRulesError
from pacs.deidentification.settings import EngineSettings
from pacs.deidentification.tables import Profile

REPORT_COLUMNS: Final = ("source", "destination", "outcome", "rule", "tag", "reason")
RECENT_JOBS: Final = 64  # of each process, handed out at once

_engine: Engine | None = None


def _start_process(settings: EngineSettings) -> None:
    global _engine
    from pacs.deidentification.decoding import decode

    os.umask(0o077)
    _engine = Engine(settings, decode=decode)


def destination_of(source: Path, root: Path, target: Path, key: bytes) -> Path:
    """
    Give a name that says nothing: of folders and files nothing of the original name is left.

    Args:
        key: the vault's; without one, names could be found out by trying all.
    """
    relative = source.relative_to(root)
    parts = [keyed_hash(key, os.fsencode(part)).hex()[:12] for part in relative.parts]
    return target.joinpath(*parts).with_suffix(".dcm")


def deidentify_file(source: Path, destination: Path) -> tuple[str, str, str, str]:
    """
    De-identify one file; give outcome, rule, tag and reason.

    Raises:
        VaultError: no file can be de-identified.
    """
    assert _engine is not None
    if destination.exists():
        return "present", "", "", ""
    try:
        with open_file(source) as file:
            meta = read_file_meta(file)
            length = os.fstat(file.fileno()).st_size - meta.data_set_offset
            destination.parent.mkdir(parents=True, exist_ok=True)
            output = os.open(destination.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                _engine.deidentify(file.fileno(), meta.data_set_offset, length, meta.transfer_syntax_uid, output)
                # with a descriptor, which an absolute path does not need, Python calls linkat and not link
                os.link(f"/proc/self/fd/{output}", destination, src_dir_fd=output, follow_symlinks=True)
            finally:
                os.close(output)
    except DeidentificationError as error:
        tag = "" if error.tag is None else f"({error.tag >> 16:04X},{error.tag & 0xFFFF:04X})"
        return "refused", error.rule, tag, error.reason
    except DataSetError:
        return "skipped", "no_dicom", "", "no DICOM file"
    except FileExistsError:
        return "present", "", "", ""
    except OSError as error:
        return "failed", "file", "", error.strerror or "can't be read or written"
    except VaultError:
        raise
    except MemoryError:
        return "refused", "memory", "", "it needs too much memory"
    except Exception as error:  # noqa: BLE001 - the border: what an unforeseen error says may have anything in it
        return "refused", "internal", "", f"the object can't be de-identified ({type(error).__name__})"
    return "deidentified", "", "", ""


def _work(jobs: list[tuple[Path, Path]]) -> list[tuple[str, str, str, str]]:
    return [deidentify_file(source, destination) for source, destination in jobs]


def _files(source: Path) -> Iterator[Path]:
    """Give the files below a folder, and the folders that can't be read: they fail as files do."""
    closed: list[Path] = []
    for folder, _, names in os.walk(source, onerror=lambda error: closed.append(Path(error.filename))):
        for name in sorted(names):
            yield Path(folder, name)
    yield from closed


@click.command("deidentify")
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("destination", type=click.Path(file_okay=False, path_type=Path))
@click.option("--profile", type=click.Choice([profile.value for profile in Profile]), help="Instead of the configured.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="CSV; default SOURCE's name + .csv here."
)
@click.option("--processes", type=click.IntRange(1, 1024), help="Default: one for each core.")
def command(
    config: Path | None,
    wants_json: bool,
    source: Path,
    destination: Path,
    profile: str | None,
    report: Path | None,
    processes: int | None,
) -> None:
    """De-identify the files below SOURCE into DESTINATION."""
    call = Call(config, wants_json)
    source, destination = source.resolve(), destination.resolve()
    if destination == source or source in destination.parents or destination in source.parents:
        call.fail("deidentify: SOURCE and DESTINATION must not lie in one another")
    configuration = call.configuration()
    try:
        settings = engine_settings(configuration, profile=profile)
        settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = Engine(settings, decode=_never)  # the vault is made here, once, and its faults are told
        name_key = engine.name_key
        engine.close()
    except (VaultError, RegionRulesError, OSError) as error:
        call.fail(f"deidentify: {error}")
    report = report or Path(f"{source.name}.csv")
    jobs = [(path, destination_of(path, source, destination, name_key)) for path in _files(source)]
    try:
        counts = _run(settings, jobs, report, processes, wants_json)
    except (VaultError, BrokenProcessPool, OSError) as error:
        why = "a process ended unexpectedly" if isinstance(error, BrokenProcessPool) else str(error)
        call.fail(f"deidentify: {why}; what was done stays, begin again to go on")
    text = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items())) or "no files"
    call.tell(f"{text}; report: {report}", **counts, report=str(report))
    if left := counts.get("failed", 0) + counts.get("refused", 0):
        call.fail(f"deidentify: {left} files were not de-identified; the report tells why")


def _never(*_: Any) -> Any:
    raise AssertionError("nothing is decoded here")


def _run(
    settings: EngineSettings,
    jobs: list[tuple[Path, Path]],
    report: Path,
    processes: int | None,
    wants_json: bool,
) -> dict[str, int]:
    counts: dict[str, int] = {}
    groups = [jobs[start : start + RECENT_JOBS] for start in range(0, len(jobs), RECENT_JOBS)]
    settings = replace(settings, directory=settings.directory.absolute())
    descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        os.fdopen(descriptor, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        progress_bar(is_quiet=wants_json) as bar,
        ProcessPoolExecutor(processes, initializer=_start_process, initargs=(settings,)) as pool,
    ):
        rows = csv.writer(file)
        rows.writerow(REPORT_COLUMNS)
        task = bar.add_task("files", total=len(jobs))
        for group, results in zip(groups, pool.map(_work, groups), strict=True):
            for (path, target), (outcome, rule, tag, reason) in zip(group, results, strict=True):
                counts[outcome] = counts.get(outcome, 0) + 1
                is_there = outcome in ("deidentified", "present")
                rows.writerow((path, target if is_there else "", outcome, rule, tag, reason))
            bar.advance(task, len(group))
    return counts
