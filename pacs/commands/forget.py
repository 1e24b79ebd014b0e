"""
`pacsctl forget`: the end of a pseudonym.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from pacs.command import Call
from pacs.commands.pseudonyms import ask_vault

WHAT_REMAINS: Final = (
    "What remains: who has the site key and an original UID can compute the new UID; an original that is sent again"
    " gets the same UIDs under a new pseudonym; backups of the vault keep the secret until they expire;"
    " copies that were sent elsewhere are not reached."
)


@click.command("forget")
@click.argument("pseudonym", required=False)
@click.option("--patient-id", help="The original Patient ID, instead of the pseudonym.")
@click.option("--issuer", default="", help="Issuer of Patient ID.")
def command(config: Path | None, wants_json: bool, pseudonym: str | None, patient_id: str | None, issuer: str) -> None:
    """Destroy a patient's secret: no pseudonym, number or date leads back any more."""
    call = Call(config, wants_json)
    if (pseudonym is None) == (patient_id is None):
        call.fail("forget: give a pseudonym or --patient-id")
    result = ask_vault(call, "forget", {"pseudonym": pseudonym, "patient_id": patient_id, "issuer": issuer})
    if not result["forgotten"]:
        call.fail("forget: the vault does not know this patient")
    copies = result["copies"]
    lines = [f"{result['pseudonym']} is forgotten; {len(copies)} studies of it are kept here", *copies, WHAT_REMAINS]
    call.tell("\n".join(lines), **result, remains=WHAT_REMAINS)
