"""
The worker process: takes one object after the other, and gives each back de-identified, in a new file.

The settings are pickled by the parent. A request is JSON with the object's descriptor beside it, an answer is JSON,
with the new file's descriptor when it was released; the first answer says whether the vault is open. What is said of
a failure has no value of the object.
"""

from __future__ import annotations

import os
import pickle
import resource
import socket
from dataclasses import asdict
from typing import Any

from pacs.deidentification.engine import Engine
from pacs.deidentification.errors import DeidentificationError, VaultError
from pacs.deidentification.settings import EngineSettings, make_output
from pacs.workers.child import MESSAGE_BYTES, answer, open_channel, requests


def main() -> None:
    """Serve until the socket ends."""
    with open_channel() as channel:
        settings: EngineSettings = pickle.loads(channel.recv(MESSAGE_BYTES))
        space = settings.memory_bytes + 2 * settings.output_bytes  # the original and the output are mapped, not read
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        try:
            engine = Engine(settings, decode=_decode)
        except VaultError as error:
            answer(channel, {"vault": str(error)})
            return
        answer(channel, {})
        for request, descriptor in requests(channel):
            _serve(channel, engine, settings, request, descriptor)


def _decode(*arguments: Any) -> Any:
    from pacs.deidentification.decoding import decode  # the codecs, only when they are needed

    return decode(*arguments)


def _serve(
    channel: socket.socket, engine: Engine, settings: EngineSettings, request: dict[str, Any], descriptor: int
) -> None:
    output = make_output(settings.directory, request["length"])
    try:
        released = engine.deidentify(descriptor, request["offset"], request["length"], request["syntax"], output)
    except DeidentificationError as error:
        answer(channel, {"rule": error.rule, "reason": error.reason, "tag": error.tag})
    except VaultError as error:
        answer(channel, {"vault": str(error)})
    except MemoryError:
        answer(channel, {"rule": "memory", "reason": "it needs too much memory", "tag": None})
    except Exception as error:  # noqa: BLE001 - the border: what an unforeseen error says may have anything in it
        reason = f"the object can't be de-identified ({type(error).__name__})"
        answer(channel, {"rule": "internal", "reason": reason, "tag": None})
    else:
        answer(channel, {"released": {**asdict(released), "descriptor": -1}}, output)
    finally:
        os.close(output)
        os.close(descriptor)


if __name__ == "__main__":
    main()
