"""
The control commands on the vault: the way back from a pseudonym, and its end. Each is an event, and so an audit record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.threads import deferToThread

from pacs.archive.archive import Archive
from pacs.assembly.deidentification import fingerprint_path, vault_path
from pacs.config import Configuration
from pacs.control.server import ControlCommand, Progress
from pacs.deidentification.errors import VaultError
from pacs.deidentification.pseudonyms import Identity
from pacs.deidentification.vault import Vault
from pacs.events import EventBus, PseudonymResolved

T = TypeVar("T")


def vault_commands(configuration: Configuration, *, archive: Archive, bus: EventBus) -> dict[str, ControlCommand]:
    """Give the commands by name."""

    def with_vault_in_thread(function: Callable[[Vault], T]) -> T:
        path = vault_path(configuration)
        if not path.exists():
            raise VaultError(f"no vault at {path}")
        vault = Vault(path, fingerprint_path=fingerprint_path(configuration))
        try:
            return function(vault)
        finally:
            vault.close()

    async def reidentify(arguments: dict[str, Any], _: Progress) -> dict[str, Any]:
        pseudonym = str(arguments["pseudonym"])
        identity = await deferToThread(with_vault_in_thread, lambda vault: vault.reidentify(pseudonym))
        bus.publish(
            PseudonymResolved(
                action="reidentify", pseudonym=pseudonym, found=identity is not None, user=str(arguments["user"])
            )
        )
        return {"pseudonym": pseudonym, "identity": None if identity is None else list(identity.parts)}

    async def forget(arguments: dict[str, Any], _: Progress) -> dict[str, Any]:
        pseudonym = await deferToThread(with_vault_in_thread, lambda vault: _pseudonym(vault, arguments))
        is_forgotten = pseudonym is not None and await deferToThread(
            with_vault_in_thread, lambda vault: vault.forget(pseudonym)
        )
        bus.publish(
            PseudonymResolved(
                action="forget", pseudonym=pseudonym or "-", found=is_forgotten, user=str(arguments["user"])
            )
        )
        copies = await archive.run(lambda connection: _copies(connection, pseudonym)) if pseudonym else []
        return {"pseudonym": pseudonym, "forgotten": is_forgotten, "copies": copies}

    return {"reidentify": reidentify, "forget": forget}


def _pseudonym(vault: Vault, arguments: dict[str, Any]) -> str | None:
    if arguments.get("pseudonym"):
        known = vault.find_pseudonym(str(arguments["pseudonym"]))
    else:
        known = vault.find(Identity((str(arguments["patient_id"]), str(arguments["issuer"]))))
    return None if known is None else known.pseudonym


def _copies(connection: Any, pseudonym: str) -> list[str]:
    """Give the Study Instance UIDs of what is kept here under a pseudonym."""
    rows = connection.execute(
        "SELECT s.study_instance_uid FROM studies s JOIN patients p ON p.pk = s.patient_pk WHERE p.patient_id = ?"
        " ORDER BY s.pk",
        (pseudonym,),
    )
    return [row[0] for row in rows]
