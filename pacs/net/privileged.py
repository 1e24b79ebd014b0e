"""
Ports that only root may have, such as DICOM's 104: they are taken before twistd becomes another user.
"""

from __future__ import annotations

import os
import socket
from typing import Final

UNPRIVILEGED: Final = 1024  # the first port that everybody may have

Bound = socket.socket | OSError
"""A socket that has its port and does not listen yet, or why it has none."""


def bind_if_privileged(port: int, interface: str) -> Bound | None:
    """Take a port that only root may have, such as 104, while we are root; None for others, which can wait."""
    if not 0 < port < UNPRIVILEGED or os.geteuid() != 0:
        return None
    bound = socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind((interface, port))
    except OSError as error:
        bound.close()
        return error
    return bound
