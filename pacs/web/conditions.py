"""
What a client has already: entity tags and byte ranges (RFC 9110 13 and 14).
"""

from __future__ import annotations

import re
from typing import Final

from pacs.web.errors import HTTPError
from pacs.web.request import WebRequest

_RANGE: Final = re.compile(
    r"bytes=[ \t]*(?:(?P<first>[0-9]{1,19})-(?P<last>[0-9]{0,19})|-(?P<count>[0-9]{1,19}))[ \t]*", re.IGNORECASE
)


def is_listed(header: str, etag: str) -> bool:
    """Whether an entity tag, with its quotes, is one of an If-None-Match."""
    return bool(header) and (
        header.strip() == "*" or etag in (part.strip().removeprefix("W/") for part in header.split(","))
    )


def wanted_range(request: WebRequest, etag: str, size: int) -> range | None:
    """
    Give the places of the bytes that are asked for; None: all, for nothing else is asked or not in a way that we take.

    Several ranges are not: whoever asks for them has to take the whole (RFC 9110 14.2 leaves that to us).

    Args:
        etag: of what there is, with its quotes.
        size: of what there is, in bytes.

    Raises:
        HTTPError: 416, there are no such bytes.
    """
    fields = request.requestHeaders.getRawHeaders("range", [])
    if request.method != b"GET" or len(fields) != 1 or request.header("if-range").strip() not in ("", etag):
        return None
    match = _RANGE.fullmatch(fields[0])
    if match is None:
        return None
    if match["count"]:
        found = range(max(size - int(match["count"]), 0), size)
    else:
        first, last = int(match["first"]), int(match["last"] or size)
        if match["last"] and last < first:
            return None
        found = range(first, min(last + 1, size))
    if not found:
        raise HTTPError(416, f"there are {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    return found
