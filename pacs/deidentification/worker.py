"""
The worker process: takes one object after the other from a socket, and gives each back de-identified, in a new file.

`python -m pacs.deidentification.worker DESCRIPTOR PARENT`; the settings are the first message, pickled by the parent. A
request is JSON with the object's descriptor beside it, an answer is JSON, with the new file's descriptor when it was
released. The process ends with the socket, and with its parent. What it says of a failure has no value of the object.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import pickle
import resource
import signal
import socket
import sys
import warnings
from dataclasses import asdict
from typing import Any, Final

from pacs.deidentification.engine import Engine
from pacs.deidentification.errors import DeidentificationError, VaultError
from pacs.deidentification.settings import EngineSettings, make_output

MESSAGE_BYTES: Final = 1 << 16
_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Serve until the socket ends."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _tie_to(parent)
    with socket.socket(fileno=descriptor) as channel:
        settings: EngineSettings = pickle.loads(channel.recv(MESSAGE_BYTES))
        space = settings.memory_bytes + 2 * settings.output_bytes  # the original and the output are mapped, not read
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        try:
            engine = Engine(settings, decode=_decode)
        except VaultError as error:
            _answer(channel, {"vault": str(error)})
            return
        _answer(channel, {})
        while True:
            message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
            if not message:
                return
            _serve(channel, engine, settings, json.loads(message), descriptors[0])


def _decode(*arguments: Any) -> Any:
    from pacs.deidentification.decoding import decode  # the codecs, only when they are needed

    return decode(*arguments)


def _tie_to(parent: int) -> None:
    """End with the parent, and only then: its signals to stop are not for us."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.umask(0o077)
    warnings.simplefilter("ignore")  # of decoders, about what is in the data
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(
    channel: socket.socket, engine: Engine, settings: EngineSettings, request: dict[str, Any], descriptor: int
) -> None:
    output = make_output(settings.directory, request["length"])
    try:
        released = engine.deidentify(descriptor, request["offset"], request["length"], request["syntax"], output)
    except DeidentificationError as error:
        _answer(channel, {"rule": error.rule, "reason": error.reason, "tag": error.tag})
    except VaultError as error:
        _answer(channel, {"vault": str(error)})
    except MemoryError:
        _answer(channel, {"rule": "memory", "reason": "it needs too much memory", "tag": None})
    except Exception as error:  # noqa: BLE001 - the border: what an unforeseen error says may have anything in it
        reason = f"the object can't be de-identified ({type(error).__name__})"
        _answer(channel, {"rule": "internal", "reason": reason, "tag": None})
    else:
        _answer(channel, {"released": {**asdict(released), "descriptor": -1}}, output)
    finally:
        os.close(output)
        os.close(descriptor)


def _answer(channel: socket.socket, answer: dict[str, Any], *descriptors: int) -> None:
    socket.send_fds(channel, [json.dumps(answer).encode()], list(descriptors))


if __name__ == "__main__":
    main()
