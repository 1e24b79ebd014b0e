"""
`pacsctl reidentify`: the way back from a pseudonym.
"""

from __future__ import annotations

from pathlib import Path

import click

from pacs.command import Call
from pacs.commands.pseudonyms import ask_vault


@click.command("reidentify")
@click.argument("pseudonym")
def command(config: Path | None, wants_json: bool, pseudonym: str) -> None:
    """Tell who stands behind a pseudonym; recorded in the audit log."""
    call = Call(config, wants_json)
    result = ask_vault(call, "reidentify", {"pseudonym": pseudonym})
    if result["identity"] is None:
        call.fail("reidentify: the vault does not know this pseudonym")
    call.tell("\t".join(result["identity"]), **result)
