"""
`pacsctl forget`: the end of a pseudonym, and with `--erase` of what is kept of the patient.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from pacs.command import Call
from pacs.commands.pseudonyms import ask_vault

WHAT_REMAINS: Final = (
    "What remains: who has the site key and an original UID can compute the new UID; an original that is sent again"
    " gets the same UIDs under a new pseudonym; backups of the vault and of the archive keep what they have until they"
    " expire; the audit log says that it was done; copies that were sent elsewhere are not reached."
)


@click.command("forget")
@click.argument("pseudonym", required=False)
@click.option("--patient-id", help="The original Patient ID, instead of the pseudonym.")
@click.option("--issuer", default="", help="Issuer of Patient ID.")
@click.option(
    "--erase", is_flag=True, help="Delete the patient's objects too, those under the pseudonym and originals."
)
def command(
    config: Path | None, wants_json: bool, pseudonym: str | None, patient_id: str | None, issuer: str, erase: bool
) -> None:
    """Destroy a patient's secret: no pseudonym, number or date leads back any more."""
    call = Call(config, wants_json)
    if (pseudonym is None) == (patient_id is None):
        call.fail("forget: give a pseudonym or --patient-id")
    arguments = {"pseudonym": pseudonym, "patient_id": patient_id, "issuer": issuer, "erase": erase}
    result = ask_vault(call, "forget", arguments)
    if not result["forgotten"]:
        call.fail("forget: the vault does not know this patient")
    call.tell("\n".join(_lines(result)), **result, remains=WHAT_REMAINS)
    if erase and result["erased"]["files_left"]:
        call.fail("forget: files of deleted objects could not be removed; the server tries again at its next start")


def _lines(result: dict[str, Any]) -> list[str]:
    copies, erased = result["copies"], result["erased"]
    lines = [f"{result['pseudonym']} is forgotten"]
    if erased is None:
        lines += [f"{len(copies)} studies of it are kept here:", *copies]
    else:
        lines += [
            f"{erased['instances']} objects are deleted, {erased['size_bytes']} bytes; studies of the pseudonym:",
            *copies,
        ]
    if result["sent"]:
        lines += ["sent elsewhere, as the audit log tells:"]
        lines += [f"{copy['study_instance_uid']} to {copy['receiver']}" for copy in result["sent"]]
    return [*lines, WHAT_REMAINS]
