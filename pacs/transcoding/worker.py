"""
The worker process: takes one data set after the other, and gives each back in a new file.

A request is JSON with the data set's descriptor beside it, an answer is JSON, with the new file's descriptor when it
succeeded.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
from typing import Any, Final

from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.settings import TranscodingSettings
from pacs.workers.child import MESSAGE_BYTES, answer, open_channel, requests

NICENESS: Final = 5  # arriving objects come first


def main() -> None:
    """Serve until the socket ends."""
    with open_channel() as channel:
        given = json.loads(channel.recv(MESSAGE_BYTES) or b"null")
        if given is None:
            return
        settings = TranscodingSettings.from_message(given)
        from pacs.transcoding.convert import convert  # the codecs, before memory is limited

        os.nice(NICENESS)
        resource.setrlimit(resource.RLIMIT_AS, (settings.memory_bytes, settings.memory_bytes))
        for request, descriptor in requests(channel):
            _serve(channel, request, descriptor, settings, convert)


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
        answer(channel, {"error": str(error)})
    except MemoryError:
        answer(channel, {"error": f"decoding needs more than {settings.memory_bytes >> 20} MiB of memory"})
    except Exception as error:  # noqa: BLE001 - the border; what a decoder says may have anything in it
        answer(channel, {"error": f"the data set can't be transcoded ({type(error).__name__})"})
    else:
        with contextlib.closing(file):
            answer(channel, {"length": file.length}, file.descriptor)


if __name__ == "__main__":
    main()
