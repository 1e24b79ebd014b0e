"""
What a route answers with: JSON, text, or a stream that sends itself.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pacs.web.request import WebRequest

JSON_TYPE: Final = "application/json; charset=utf-8"
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode_json(value: Any) -> bytes:
    """Give the JSON of a value, as it is sent."""
    return _ENCODER.encode(value).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A whole answer.

    Attributes:
        is_one: one resource, which may be asked for with If-None-Match.
    """

    body: bytes
    status: int = 200
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)
    is_one: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """
    An answer that is sent piece by piece.

    Attributes:
        send: writes the body; what it awaits is canceled when the client goes away.
        length: of the body, in bytes, when it is known.
        etag: of the body, without quotes.
        close: called when the body is not wanted after all.
    """

    send: Callable[[WebRequest], Awaitable[None]]
    content_type: str
    length: int | None = None
    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
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


NOTHING: Final = Answer(b"", 204, content_type="")
