"""
How commands have something recorded in the audit log: by the running server, or in the log itself when none runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pacs.assembly.audit import audit_settings, message_of, record_alone
from pacs.config import Configuration
from pacs.control.client import NoServer, command_server
from pacs.control.lock import RootPathLock


def record(configuration: Configuration, requests: Sequence[dict[str, Any]]) -> None:
    """
    Have something recorded.

    Args:
        requests: as `pacs.assembly.audit.message_of` takes them.

    Raises:
        CommandFailed, RootPathLocked, AuditKeyError, OSError: it could not be.
    """
    root_path = Path(configuration.storage.root_path)
    try:
        for request in requests:
            command_server(root_path, "audit-record", request, lambda _: None)
        return
    except NoServer:
        pass
    lock = RootPathLock(root_path)
    lock.acquire()
    try:
        log_path = audit_settings(configuration).log_path
        record_alone(
            configuration, lambda build: [message_of(request, build=build, log_path=log_path) for request in requests]
        )
    finally:
        lock.release()
