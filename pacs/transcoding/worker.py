"""
The worker process: takes one data set after the other from a socket, and gives each back in a new file.

`python -m pacs.transcoding.worker DESCRIPTOR PARENT`; the settings are the first message. A request is JSON with the
data set's descriptor beside it, an answer is JSON, with the new file's descriptor when it succeeded. The process ends
with the socket, and with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any, Final

from pacs.dataset.scanner import ScanLimits
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.settings import TranscodingSettings

MESSAGE_BYTES: Final = 4096
NICENESS: Final = 5  # arriving objects come first
_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Serve until the socket ends."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _tie_to(parent)
    with socket.socket(fileno=descriptor) as channel:
        given = json.loads(channel.recv(MESSAGE_BYTES) or b"null")
        if given is None:
            return
        settings = TranscodingSettings(
            **{**given, "directory": Path(given["directory"]), "scan_limits": ScanLimits(**given["scan_limits"])}
        )
        from pacs.transcoding.convert import convert  # the codecs, before memory is limited

        _limit(settings)
        while True:
            message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
            if not message:
                return
            _serve(channel, json.loads(message), descriptors[0], settings, convert)


def _tie_to(parent: int) -> None:
    """End with the parent, and only then: its signals to stop are not for us."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _limit(settings: TranscodingSettings) -> None:
    os.nice(NICENESS)
    warnings.simplefilter("ignore")  # of decoders, about what is in the data
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (settings.memory_bytes, settings.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(
    channel: socket.socket, request: dict[str, Any], descriptor: int, settings: TranscodingSettings, convert: Any
) -> None:
    try:
        try:
            file = convert(
                descriptor, request["offset"], request["length"], request["source"], request["target"], settings
            )
        finally:
            os.close(descriptor)
    except TranscodingError as error:
        _answer(channel, {"error": str(error)})
    except MemoryError:
        _answer(channel, {"error": f"decoding needs more than {settings.memory_bytes >> 20} MiB of memory"})
    except Exception as error:  # noqa: BLE001 - the border; what a decoder says may have anything in it
        _answer(channel, {"error": f"the data set can't be transcoded ({type(error).__name__})"})
    else:
        with contextlib.closing(file):
            _answer(channel, {"length": file.length}, file.descriptor)


def _answer(channel: socket.socket, answer: dict[str, Any], *descriptors: int) -> None:
    socket.send_fds(channel, [json.dumps(answer).encode()], list(descriptors))


if __name__ == "__main__":
    main()
