"""
What a route answers with: JSON, text, or a stream that sends itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from pacs.web.errors import HTTPError
from pacs.web.request import WebRequest

JSON_TYPE: Final = "application/json; charset=utf-8"


def encode_json(value: Any) -> bytes:
    """Give the JSON of a value, as it is sent: in a third of the time that the library's own takes."""
    return to_json(value) + b"\n"


class Answer(NamedTuple):
    """
    A whole answer.

    Attributes:
        is_one: one resource, which may be asked for with If-None-Match.
    """

    body: bytes
    status: int = 200
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = MappingProxyType({})
    is_one: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """
    An answer that is sent piece by piece.

    Attributes:
        send: writes the body; what it awaits is canceled when the client goes away.
        length: of the body, in bytes, when it is known.
        etag: of what there is, with its quotes; If-None-Match is answered by it.
        close: called when the body is not wanted after all.
    """

    send: Callable[[WebRequest], Awaitable[None]]
    content_type: str
    length: int | None = None
    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    close: Callable[[], None] = lambda: None


def one(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with one resource."""
    return Answer(encode_json(value), status, headers=headers or {}, is_one=True)


def plain(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON that nobody keeps."""
    return Answer(encode_json(value), status, headers=headers or {})


def page(data: list[Any], *, total: int, limit: int, offset: int) -> Answer:
    """Answer with a part of a list."""
    pagination = {"total": total, "count": len(data), "limit": limit, "offset": offset}
    return Answer(encode_json({"data": data, "pagination": pagination}))


def error_answer(error: HTTPError) -> Answer:
    """Answer that something is wrong."""
    return Answer(encode_json(error.body()), error.status, headers=error.headers)


NOTHING: Final = Answer(b"", 204, content_type="")
