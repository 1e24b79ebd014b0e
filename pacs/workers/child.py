"""
The worker's side: a process that ends with its parent, and answers one request after the other.

`python -m MODULE DESCRIPTOR PARENT`; the settings are the first message. Nothing here loads Twisted.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Final

MESSAGE_BYTES: Final = 1 << 17
_PR_SET_PDEATHSIG: Final = 1


def open_channel() -> socket.socket:
    """Give the socket to the parent; from now on the process ends with the parent, is silent and keeps to itself."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # its signals to stop are not for us
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")  # of decoders, about what is in the data
    logging.disable(logging.CRITICAL)
    return socket.socket(fileno=descriptor)


def requests(channel: socket.socket) -> Iterator[tuple[dict[str, Any], int]]:
    """Give each request with the descriptor that came with it, which the receiver closes, until the socket ends."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
        if not message:
            return
        yield json.loads(message), descriptors[0]


def answer(channel: socket.socket, values: dict[str, Any], *descriptors: int) -> None:
    """Answer the request, with a descriptor where there is a file to hand over."""
    socket.send_fds(channel, [json.dumps(values).encode()], list(descriptors))
