"""
`pacsctl audit`: is the audit log whole and unchanged?
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from pacs.assembly.audit import audit_settings
from pacs.command import Call
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
        key = load_key(settings.key_path, may_make=False)
        verdict = verify(settings.log_path, key=key, head_path=settings.head_path, first_sequence=first, is_live=True)
    except AuditKeyError as error:
        call.fail(f"audit verify: {error}")
    except OSError as error:
        call.fail(f"audit verify: {error.filename}: {error.strerror}")
    values = {"intact": verdict.is_intact, **asdict(verdict)}
    if verdict.is_intact:
        call.tell(_sound(verdict), **values)
        return
    if wants_json:
        call.tell("", **values)
    call.fail(f"audit verify: record {verdict.bad_sequence} ({verdict.file}, line {verdict.line}): {verdict.fault}")


def _sound(verdict: Verdict) -> str:
    if not verdict.records:
        return "no records"
    return f"{verdict.records} records, {verdict.first_sequence} to {verdict.last_sequence}: whole and unchanged"
