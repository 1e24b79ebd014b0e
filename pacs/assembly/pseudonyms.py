"""
The control commands on the vault: the way back from a pseudonym, and its end. Each is an event, and so an audit record.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from twisted.internet.threads import deferToThread

from pacs.archive.archive import Archive
from pacs.archive.attributes import Level
from pacs.archive.index.removal import Doomed
from pacs.assembly.deidentification import fingerprint_path, vault_path
from pacs.config import Configuration
from pacs.control.server import ControlCommand, Progress
from pacs.deidentification.errors import VaultError
from pacs.deidentification.pseudonyms import Identity
from pacs.deidentification.vault import Vault
from pacs.events import EventBus, PseudonymResolved
from pacs.security.access import Principal, Role
from pacs.security.audit import AuditLog

T = TypeVar("T")


def vault_commands(
    configuration: Configuration, *, archive: Archive, bus: EventBus, audit: AuditLog
) -> dict[str, ControlCommand]:
    """Give the commands by name."""
    commands = VaultCommands(configuration, archive=archive, bus=bus, audit=audit)
    return {"reidentify": commands.reidentify, "forget": commands.forget}


class VaultCommands:
    """What an administrator may do with the vault of an open archive."""

    def __init__(self, configuration: Configuration, *, archive: Archive, bus: EventBus, audit: AuditLog) -> None:
        self._vault_path = vault_path(configuration)
        self._fingerprint_path = fingerprint_path(configuration)
        self._archive = archive
        self._bus = bus
        self._audit = audit

    async def reidentify(self, arguments: dict[str, Any], _: Progress) -> dict[str, Any]:
        """Tell who stands behind a pseudonym."""
        pseudonym = str(arguments["pseudonym"])
        identity = await self._ask(lambda vault: vault.reidentify(pseudonym))
        self._tell("reidentify", pseudonym, arguments, is_found=identity is not None)
        return {"pseudonym": pseudonym, "identity": None if identity is None else list(identity.parts)}

    async def forget(self, arguments: dict[str, Any], _: Progress) -> dict[str, Any]:
        """
        Destroy a patient's secret, and maybe delete what is kept of the patient before.

        Whoever is interrupted does it again: the secret goes last, and what arrived meanwhile is deleted after it.
        """
        pseudonym = await self._ask(lambda vault: _pseudonym(vault, arguments))
        if pseudonym is None:
            self._tell("forget", "-", arguments, is_found=False)
            return {"pseudonym": None, "forgotten": False}
        erases = bool(arguments.get("erase"))
        identity = await self._ask(lambda vault: vault.reidentify(pseudonym)) if erases else None
        doomed = _doomed(pseudonym, identity)
        found = {
            "pseudonym": pseudonym,
            "copies": await self._archive.run(lambda connection: _copies(connection, pseudonym)),
            "sent": await self._sent(doomed, str(arguments["user"])),
        }
        erased = {"instances": 0, "size_bytes": 0, "files_left": 0}
        if erases:
            await self._erase(doomed, arguments, erased)
        is_forgotten = await self._ask(lambda vault: vault.forget(pseudonym))
        self._tell("forget", pseudonym, arguments, is_found=is_forgotten)
        if erases:
            await self._erase(doomed, arguments, erased)
        return {**found, "forgotten": is_forgotten, "erased": erased if erases else None}

    async def _erase(self, doomed: Sequence[Doomed], arguments: dict[str, Any], erased: dict[str, int]) -> None:
        user = str(arguments["user"])
        principal = Principal(name=user, peer_address="", role=Role.ADMINISTRATOR, because="pacsctl", user=user)
        for part in doomed:
            deleted = await self._archive.delete(part, principal)
            erased["instances"] += deleted.instances
            erased["size_bytes"] += deleted.size_bytes
            erased["files_left"] += deleted.files_left

    async def _sent(self, doomed: Sequence[Doomed], user: str) -> list[dict[str, str]]:
        """Give where objects went, as the audit log tells; that it was read is recorded."""
        from pacs.security.audit.copies import sent_copies  # with an XML parser

        patient_ids = [value for part in doomed if part.level is Level.PATIENT for value in part.values]
        found = await deferToThread(sent_copies, self._audit.settings.log_path, patient_ids)
        self._audit.audit_log_used(user, peer_address="")
        return [asdict(copy) for copy in found]

    async def _ask(self, function: Callable[[Vault], T]) -> T:
        result: T = await deferToThread(self._ask_in_thread, function)
        return result

    def _ask_in_thread(self, function: Callable[[Vault], T]) -> T:
        if not self._vault_path.exists():
            raise VaultError(f"no vault at {self._vault_path}")
        vault = Vault(self._vault_path, fingerprint_path=self._fingerprint_path)
        try:
            return function(vault)
        finally:
            vault.close()

    def _tell(self, action: str, pseudonym: str, arguments: dict[str, Any], *, is_found: bool) -> None:
        user = str(arguments["user"])
        self._bus.publish(PseudonymResolved(action=action, pseudonym=pseudonym, found=is_found, user=user))


def _pseudonym(vault: Vault, arguments: dict[str, Any]) -> str | None:
    if arguments.get("pseudonym"):
        known = vault.find_pseudonym(str(arguments["pseudonym"]))
        return None if known is None else known.pseudonym
    found = vault.find_all(str(arguments["patient_id"]), str(arguments["issuer"]))
    if len(found) > 1:
        pseudonyms = ", ".join(patient.pseudonym for patient in found)
        raise VaultError(f"several patients have this ID and issuer, with other qualifiers; give one of {pseudonyms}")
    return found[0].pseudonym if found else None


def _doomed(pseudonym: str, identity: Identity | None) -> list[Doomed]:
    """Give what is kept of a patient: under the pseudonym and, with the identity, the originals."""
    found = [Doomed(Level.PATIENT, (pseudonym,))]
    if identity is not None and len(identity.parts) > 1:
        found.append(Doomed(Level.PATIENT, identity.parts[:1], issuer=identity.parts[1]))
    elif identity is not None:  # objects without a Patient ID: their study stands for the patient
        found.append(Doomed(Level.STUDY, identity.parts))
    return found


def _copies(connection: sqlite3.Connection, pseudonym: str) -> list[str]:
    """Give the Study Instance UIDs of what is kept here under a pseudonym."""
    rows = connection.execute(
        "SELECT s.study_instance_uid FROM studies s JOIN patients p ON p.pk = s.patient_pk WHERE p.patient_id = ?"
        " ORDER BY s.pk",
        (pseudonym,),
    )
    return [row[0] for row in rows]
