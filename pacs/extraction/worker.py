"""
The worker process: takes one data set after the other, and gives a new one with some of its frames back for each.

A request is JSON with the data set's descriptor beside it, an answer is JSON, with the new file's descriptor when it
succeeded.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import socket
from typing import Any, Final

from pacs.extraction.changes import Equipment
from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.extract import extract
from pacs.extraction.request import FrameKey, FrameRequest
from pacs.transcoding.settings import TranscodingSettings
from pacs.workers.child import MESSAGE_BYTES, answer, open_channel, requests

NICENESS: Final = 5  # arriving objects come first


def main() -> None:
    """Serve until the socket ends."""
    with open_channel() as channel:
        given = json.loads(channel.recv(MESSAGE_BYTES) or b"null")
        if given is None:
            return
        equipment = Equipment(**given.pop("equipment"))
        settings = TranscodingSettings.from_message(given)
        os.nice(NICENESS)
        resource.setrlimit(resource.RLIMIT_AS, (settings.memory_bytes, settings.memory_bytes))
        for request, descriptor in requests(channel):
            _serve(channel, request, descriptor, equipment, settings)


def _serve(
    channel: socket.socket,
    request: dict[str, Any],
    descriptor: int,
    equipment: Equipment,
    settings: TranscodingSettings,
) -> None:
    frames = FrameRequest(FrameKey(request["key"]), base64.b64decode(request["value"]))
    try:
        try:
            extracted = extract(
                descriptor, request["offset"], request["length"], request["syntax"], frames, equipment, settings
            )
        finally:
            os.close(descriptor)
    except ExtractionError as error:
        _fail(channel, error.cause, str(error))
    except MemoryError:
        _fail(channel, Cause.RESOURCES, f"extraction needs more than {settings.memory_bytes >> 20} MiB of memory")
    except Exception as error:  # noqa: BLE001 - the border; its text may have anything in it
        _fail(channel, Cause.FRAMES, f"the frames can't be extracted ({type(error).__name__})")
    else:
        file = extracted.file
        with contextlib.closing(file):
            values = {"length": file.length, "uid": extracted.sop_instance_uid, "frames": extracted.frames}
            answer(channel, values, file.descriptor)


def _fail(channel: socket.socket, cause: Cause, text: str) -> None:
    answer(channel, {"error": text, "cause": cause.name})


if __name__ == "__main__":
    main()
