"""
`pacsctl backup` and `pacsctl restore`: what is kept, put elsewhere and back again.

A backup has the objects, the index, the vault of pseudonyms and the audit log with its key; not the configuration, nor
certificates. That it was made is an Export in the audit log (PS3.15 A.5.3.4).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

import click

from pacs.archive.archive import JOURNAL
from pacs.archive.backup import INDEX, MORE, BackupError, BackupMaker, read_backup, restore_files
from pacs.archive.errors import IndexTooNew
from pacs.assembly.archive import archive_settings
from pacs.assembly.audit import audit_settings
from pacs.assembly.deidentification import fingerprint_path, vault_path
from pacs.command import Call, operator_name
from pacs.commands.bar import progress_bar
from pacs.commands.recording import record
from pacs.commands.verify import tell, verify_with_progress
from pacs.config import Configuration
from pacs.control.client import CommandFailed
from pacs.control.lock import RootPathLock, RootPathLocked
from pacs.security.audit.files import log_files
from pacs.security.audit.records import AuditKeyError

STUDIES_PER_RECORD: Final = 50  # so that a record fits into a datagram
_STUDIES: Final = """
    SELECT studies.study_instance_uid, patients.patient_id, instances.sop_class_uid, count(*)
    FROM instances JOIN series ON series.pk = instances.series_pk JOIN studies ON studies.pk = series.study_pk
    JOIN patients ON patients.pk = studies.patient_pk
    GROUP BY studies.pk, instances.sop_class_uid ORDER BY studies.pk
"""
_FAULTS: Final = (
    BackupError,
    CommandFailed,
    RootPathLocked,
    AuditKeyError,
    IndexTooNew,
    sqlite3.Error,
    OSError,
)


@click.command("backup")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--copy", "copies", is_flag=True, help="Copy objects even where links would do.")
def backup_command(config: Path | None, wants_json: bool, destination: Path, copies: bool) -> None:
    """Make a backup in DESTINATION, a directory that does not exist yet; the server may run."""
    call = Call(config, wants_json)
    configuration = call.configuration()
    settings = archive_settings(configuration)
    with progress_bar(is_quiet=wants_json) as bar:
        task = bar.add_task("objects", total=None)
        maker = BackupMaker(
            root_path=settings.root_path,
            index_path=settings.index_path,
            destination=destination,
            databases={"vault.db": vault_path(configuration)},
            files=_more_files(configuration),
            about_to_leave=lambda index: _record_export(configuration, index, destination),
            may_link=not copies,
            progress=lambda state: bar.update(task, completed=state["done"], total=state["total"]),
        )
        try:
            made = maker.make()
        except _FAULTS as error:
            call.fail(f"backup: {error}")
    how = f", {made.linked} of them linked: keep another copy on another disk" if made.linked else ""
    call.tell(f"{destination}: {made.objects} objects, {made.bytes} bytes{how}", **asdict(made))
    if made.missing:
        call.fail(f"backup: the archive has no file of {len(made.missing)} objects; 'pacsctl verify' names them")


@click.command("restore")
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
def restore_command(config: Path | None, wants_json: bool, source: Path) -> None:
    """Put a backup into the configured archive, which must be empty, and verify it; no server may run."""
    call = Call(config, wants_json)
    configuration = call.configuration()
    settings = archive_settings(configuration)
    try:
        backup = read_backup(source)
        lock = RootPathLock(settings.root_path)
        lock.acquire()
    except _FAULTS as error:
        call.fail(f"restore: {error}")
    try:
        _check_empty(call, settings.root_path, settings.index_path)
        places = _places(configuration)
        with progress_bar(is_quiet=wants_json) as bar:
            task = bar.add_task("files", total=None)

            def progress(state: dict[str, Any]) -> None:
                bar.update(task, completed=state["done"], total=state["total"])

            restore_files(source, lambda name: _place(name, settings.root_path, places), progress, backup.objects)
        found = verify_with_progress(settings.root_path, settings.index_path, is_quiet=wants_json)
    except _FAULTS as error:
        call.fail(f"restore: {error}; remove what was copied before you try again")
    finally:
        lock.release()
    try:
        record(configuration, [{"what": "restore", "user": operator_name(), "source": source.absolute().as_uri()}])
    except _FAULTS as error:
        call.fail(f"restore: everything is there, but that could not be recorded in the audit log: {error}")
    tell(call, found)


def _more_files(configuration: Configuration) -> Mapping[str, Path]:
    """Give the files besides; the audit log's head first: the log may be longer than it says, never shorter."""
    audit = audit_settings(configuration)
    return {
        "vault.fingerprint": fingerprint_path(configuration),
        "audit.key": audit.key_path,
        "audit.head": audit.head_path,
        **{f"audit.log{path.name.removeprefix(audit.log_path.name)}": path for path in log_files(audit.log_path)},
    }


def _places(configuration: Configuration) -> Mapping[str, Path]:
    """Give where the files besides belong; an audit log that is there already goes on, and the other stays outside."""
    places = {
        INDEX: archive_settings(configuration).index_path,
        f"{MORE}/vault.db": vault_path(configuration),
        f"{MORE}/vault.fingerprint": fingerprint_path(configuration),
    }
    audit = audit_settings(configuration)
    if not log_files(audit.log_path) and not audit.key_path.exists():
        places |= {
            f"{MORE}/audit.key": audit.key_path,
            f"{MORE}/audit.head": audit.head_path,
            f"{MORE}/audit.log": audit.log_path,
        }
    return places


def _place(name: str, root_path: Path, places: Mapping[str, Path]) -> Path | None:
    current = places.get(f"{MORE}/audit.log")
    if current is not None and name.startswith(f"{MORE}/audit.log."):
        return current.with_name(current.name + name.removeprefix(f"{MORE}/audit.log"))
    return places.get(name) if name == INDEX or name.startswith(f"{MORE}/") else root_path / name


def _check_empty(call: Call, root_path: Path, index_path: Path) -> None:
    objects = root_path / "objects"
    # SQLite would take the log of an index that is gone for that of the new one, and the next start an old journal
    rests = (index_path.with_name(f"{index_path.name}-wal"), root_path / JOURNAL)
    for path in (index_path, *rests, *(objects.iterdir() if objects.is_dir() else ())):
        if path.exists():
            call.fail(f"restore: {path} is there already; give an empty storage.root_path")


def _record_export(configuration: Configuration, index: sqlite3.Connection, destination: Path) -> None:
    user, uri = operator_name(), destination.absolute().as_uri()
    requests = [{"what": "export", "user": user, "destination": uri, "studies": part} for part in _studies(index)]
    if requests:
        record(configuration, requests)


def _studies(index: sqlite3.Connection) -> Iterator[list[Any]]:
    """Give the studies of an index, so many at once as one record names."""
    rows = groupby(index.execute(_STUDIES), key=lambda row: (row[0], row[1]))
    studies = ([uid, patient_id, [[row[2], row[3]] for row in group]] for (uid, patient_id), group in rows)
    while part := list(islice(studies, STUDIES_PER_RECORD)):
        yield part
