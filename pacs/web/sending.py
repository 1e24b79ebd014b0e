"""
How an answer is sent: with its length and entity tag, compressed where that is worth while, or piece by piece.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from typing import Final

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from pacs.web.answers import Answer, Stream
from pacs.web.conditions import is_listed
from pacs.web.request import WebRequest

GZIP_LEAST_BYTES: Final = 1400
GZIP_MOST_BYTES: Final = 4 << 20  # more would keep the reactor for too long

_log: Final = Logger()


def send_answer(request: WebRequest, answer: Answer) -> None:
    """Send a whole answer, and end it."""
    body, fields = answer.body, b""
    if answer.is_one and answer.status == 200 and request.method in (b"GET", b"HEAD"):
        etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        fields = b"ETag: %b\r\n" % etag.encode()
        if is_listed(request.header("if-none-match"), etag):
            request.answer(304, b"", fields)
            return
    for name, value in answer.headers.items():
        request.setHeader(name, value)
    if answer.content_type:
        fields += _type_field(answer.content_type)
    if GZIP_LEAST_BYTES <= len(body) <= GZIP_MOST_BYTES:
        fields += b"Vary: Accept-Encoding\r\n"
        if _takes_gzip(request.header("accept-encoding")):
            body = gzip.compress(body, 1, mtime=0)
            fields += b"Content-Encoding: gzip\r\n"
    if answer.status != 204:
        fields += b"Content-Length: %d\r\n" % len(body)
    request.answer(answer.status, body, fields)


async def send_stream(request: WebRequest, stream: Stream) -> None:
    """Send an answer that comes in pieces, and end it."""
    try:
        await _send_pieces(request, stream)
    finally:
        stream.close()
    if request.is_gone:
        return
    request.write(b"")
    if not request.finished:
        request.finish()


async def _send_pieces(request: WebRequest, stream: Stream) -> None:
    if stream.etag:
        request.setHeader("etag", stream.etag)
        if is_listed(request.header("if-none-match"), stream.etag):
            request.setResponseCode(304)
            return
    request.setResponseCode(stream.status)
    request.setHeader("content-type", stream.content_type)
    for name, value in stream.headers.items():
        request.setHeader(name, value)
    if stream.length is not None:
        request.setHeader("content-length", str(stream.length))
    if request.method == b"HEAD":
        return
    try:
        await stream.send(request)
    except CancelledError:
        raise
    except Exception:  # noqa: BLE001 - the answer has begun: all that is left is to end the connection
        _log.failure("{route} broke off", route=request.route)
        request.loseConnection()


@lru_cache(maxsize=64)
def _type_field(content_type: str) -> bytes:
    return f"Content-Type: {content_type}\r\n".encode("ascii")


def _takes_gzip(header: str) -> bool:
    """Whether gzip is accepted (RFC 9110 12.5.3)."""
    for part in header.split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
