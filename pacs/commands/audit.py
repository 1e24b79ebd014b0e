"""
`pacsctl audit`: is the audit log whole and unchanged? That it was read is recorded in it (PS3.15 A.5.3.2).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from pacs.assembly.audit import audit_settings
from pacs.command import Call, operator_name
from pacs.commands.recording import record
from pacs.control.client import CommandFailed
from pacs.control.lock import RootPathLocked
from pacs.control.server import CONTROL_SOCKET
from pacs.security.audit.files import log_files
from pacs.security.audit.records import AuditKeyError, load_key
from pacs.security.audit.verify import Verdict, verify


@click.group("audit")
def command() -> None:
    """The audit log."""


@command.command("verify")
@click.option(
    "--first",
    default=1,
    show_default=True,
    help="The oldest record that should be here, when older files were archived.",
)
def verify_command(config: Path | None, wants_json: bool, first: int) -> None:
    """Check every record's seal and link, and the end; works beside a running server and without one."""
    call = Call(config, wants_json)
    settings = audit_settings(call.configuration())
    try:
        if not (settings.key_path.exists() or settings.head_path.exists() or log_files(settings.log_path)):
            call.fail(f"audit verify: {settings.log_path}: there is no audit log")
        key = load_key(settings.key_path, may_make=False)
        verdict = verify(settings.log_path, key=key, head_path=settings.head_path, first_sequence=first, is_live=True)
    except AuditKeyError as error:
        call.fail(f"audit verify: {error}")
    except OSError as error:
        call.fail(f"audit verify: {error.filename}: {error.strerror}")
    if verdict.records:
        _record_use(call, may_write=verdict.is_intact)
    values = {"intact": verdict.is_intact, **asdict(verdict)}
    if verdict.is_intact:
        call.tell(_sound(verdict), **values)
        return
    if wants_json:
        call.tell("", **values)
    call.fail(f"audit verify: record {verdict.bad_sequence} ({verdict.file}, line {verdict.line}): {verdict.fault}")


def _record_use(call: Call, *, may_write: bool) -> None:
    """
    Record who has read the log; a log that is not sound stays as it is while no server runs.

    It is no fault when that can't be done: who looks into a copy has no archive at all.
    """
    configuration = call.configuration()
    root_path = Path(configuration.storage.root_path)
    if not root_path.is_dir() or not (may_write or (root_path / CONTROL_SOCKET).exists()):
        return
    try:
        record(configuration, [{"what": "audit-log-used", "user": operator_name()}])
    except (CommandFailed, RootPathLocked, AuditKeyError, OSError) as error:
        click.echo(f"audit verify: that the log was read could not be recorded: {error}", err=True)


def _sound(verdict: Verdict) -> str:
    if not verdict.records:
        return "no records"
    return f"{verdict.records} records, {verdict.first_sequence} to {verdict.last_sequence}: whole and unchanged"
