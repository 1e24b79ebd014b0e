"""
The command of the control socket that imports files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pacs.archive.archive import Archive
from pacs.archive.importing import Importer
from pacs.control.server import ControlCommand, Progress
from pacs.events import EventBus
from pacs.security.access import Principal, Role
from pacs.services.sop_classes import is_storage_sop_class

SENDER: Final = "PACSCTL"
"""Stands as the sender's AE title, in the index, the audit log and for the de-identification's `ae_titles`."""


def import_commands(archive: Archive, bus: EventBus) -> Mapping[str, ControlCommand]:
    """Give the command of `pacsctl import`."""

    async def imported(arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
        principal = Principal(SENDER, "", Role.ADMINISTRATOR, "pacsctl import", str(arguments["user"]))
        importer = Importer(
            archive=archive,
            bus=bus,
            is_storage=is_storage_sop_class,
            principal=principal,
            compares=bool(arguments["compares"]),
        )
        return await importer.run([Path(path) for path in arguments["paths"]], progress)

    return {"import": imported}
