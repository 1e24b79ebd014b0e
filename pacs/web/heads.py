"""
The head of a request, and what was found out from it: a client that keeps its connection sends the same header with
each request, so that what follows from the header alone is worked out once a connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twisted.web.http_headers import Headers

if TYPE_CHECKING:
    from pacs.web.authentication import Login

REMEMBERED_BYTES: Final = 4096
"""A longer header is read anew each time."""

_OF_A_BODY: Final = ("content-length", "transfer-encoding", "trailer", "expect", "upgrade")


@dataclass(slots=True)
class Head:
    """
    The header of a request as twisted.web has read it; nobody changes it.

    Attributes:
        block: its bytes behind the request line, the empty line at the end included, if it may be remembered.
        common: the fields that each answer to it has, as they are sent; None before the gate has let one in.
        login: whose token it has.
    """

    headers: Headers
    cookies: dict[bytes, bytes]
    block: bytes = b""
    common: bytes | None = None
    login: Login | None = None


def is_plain(headers: Headers) -> bool:
    """Whether a header says nothing of a body, or of another protocol."""
    return not any(map(headers.hasHeader, _OF_A_BODY))


def encode_fields(headers: Headers) -> bytes:
    """Give fields as they are sent; `Headers` has seen to it that no value can begin another one."""
    return b"".join([b"%b: %b\r\n" % (name, value) for name, values in headers.getAllRawHeaders() for value in values])
