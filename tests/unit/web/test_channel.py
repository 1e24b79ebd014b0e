"""
Requests that take the short way are answered as they are on twisted.web's way, and whatever is no plain GET takes that.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.web.server import NOT_DONE_YET

from pacs.monitoring.metrics import Metrics
from pacs.web.channel import LimitedChannel
from pacs.web.request import WebRequest, read_query
from pacs.web.settings import WebSettings
from pacs.web.site import WebSite

HEADER = b"Host: pacs\r\nX-Some:  thing \r\n\r\n"
GET = b"GET /a/b?c=d HTTP/1.1\r\n" + HEADER


class Root:
    """Answers with what it was asked, and keeps that."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def render(self, request: WebRequest) -> object:
        body = b"" if request.content is None else request.content.read()
        headers = sorted((name, tuple(values)) for name, values in request.requestHeaders.getAllRawHeaders())
        self.seen.append((request.method, request.uri, request.path, request.args, request.clientproto, headers, body))
        request.setHeader("x-asked", request.uri)
        request.answer(200, b"<%b>" % request.uri, b"Content-Length: %d\r\n" % (len(request.uri) + 2))
        return NOT_DONE_YET


class Connected:
    """A connection to a site of its own."""

    def __init__(self) -> None:
        self.root, clock = Root(), Clock()
        site = WebSite(root=self.root, settings=WebSettings(Path()), metrics=Metrics(), clock=clock)
        self.transport = StringTransport()
        channel = site.buildProtocol(None)
        assert isinstance(channel, LimitedChannel)
        self.channel = channel
        channel.makeConnection(self.transport)

    def deliver(self, data: bytes) -> None:
        """Have data arrive, unless the connection is being closed: a transport reads no more then."""
        if not self.transport.disconnecting:
            self.channel.dataReceived(data)

    def is_short(self, data: bytes) -> bool:
        """Send data; give whether it took the short way."""
        taken: list[bool] = []
        take_again = self.channel._take_again

        def watched(data: bytes) -> bool:
            taken.append(take_again(data))
            return taken[-1]

        self.channel._take_again = watched  # type: ignore[method-assign]
        try:
            self.deliver(data)
        finally:
            del self.channel._take_again
        return taken == [True]


@pytest.fixture
def connected() -> Iterator[Connected]:
    yield Connected()


def by_bytes(data: bytes) -> Connected:
    """Give a connection that got data one byte at a time, which never takes the short way."""
    slow = Connected()
    for place in range(len(data)):
        slow.deliver(data[place : place + 1])
    return slow


def test_a_get_like_the_one_before_takes_the_short_way(connected: Connected) -> None:
    assert not connected.is_short(GET)
    assert connected.is_short(GET)
    assert connected.is_short(b"GET /other?x=%20&y HTTP/1.1\r\n" + HEADER)
    slow = by_bytes(GET * 2 + b"GET /other?x=%20&y HTTP/1.1\r\n" + HEADER)
    assert connected.root.seen == slow.root.seen
    assert connected.transport.value() == slow.transport.value()


@pytest.mark.parametrize(
    "data",
    [
        GET + GET,
        GET[:-2],
        GET + b"\r\n",
        b"\r\n" + GET,
        b"HEAD /a HTTP/1.1\r\n" + HEADER,
        b"POST /a HTTP/1.1\r\n" + HEADER,
        b"GET /a HTTP/1.0\r\n" + HEADER,
        b"GET  /a HTTP/1.1\r\n" + HEADER,
        b"GET /a b HTTP/1.1\r\n" + HEADER,
        b"GET /\xc3\xa4 HTTP/1.1\r\n" + HEADER,
        b"GET http://pacs/a HTTP/1.1\r\n" + HEADER,
        b"GET /a HTTP/1.1\nX: y\r\n" + HEADER,
        b"GET /a HTTP/1.1\r\nContent-Length: 3\r\n" + HEADER + b"abc",
        b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEADER + b"0\r\n\r\n",
        b"GET /a HTTP/1.1\r\n folded\r\n" + HEADER,
        b"GET /a HTTP/1.1\r\nConnection: close\r\n" + HEADER,
        b"GET /a HTTP/1.1\r\n" + HEADER.replace(b"pacs", b"PACS"),
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HEADER,
    ],
)
def test_whatever_differs_takes_the_long_way(connected: Connected, data: bytes) -> None:
    connected.deliver(GET)
    assert not connected.is_short(data)
    connected.deliver(GET)
    slow = by_bytes(GET + data + GET)
    assert connected.root.seen == slow.root.seen
    assert connected.transport.value() == slow.transport.value()


@pytest.mark.parametrize(
    "more", [b"Content-Length: 0", b"Expect: 100-continue", b"Connection: close", b"Transfer-Encoding: identity"]
)
def test_a_header_that_speaks_of_more_is_not_remembered(connected: Connected, more: bytes) -> None:
    data = b"GET /a HTTP/1.1\r\n" + more + b"\r\n" + HEADER
    connected.deliver(data)
    assert not connected.is_short(data)


@pytest.mark.parametrize(("rate", "end_s"), [(50, None), (0, 61), (20_000, 76)])
def test_who_takes_the_last_bytes_slowly_is_neither_idle_nor_silent(
    connected: Connected, rate: int, end_s: int | None
) -> None:
    with socket.socket() as system:
        wire = SimpleNamespace(dataBuffer=bytes(20_000), offset=0, _tempDataLen=0, connected=True, socket=system)
        connected.channel._wire = cast(Connection, wire)
        connected.deliver(GET)  # it is answered
        ended_s = None
        for second in range(200):
            connected.channel.check_times(float(second))
            if connected.transport.disconnecting:
                ended_s = second
                break
            wire.offset = min(wire.offset + rate, 20_000)
    assert ended_s == end_s


REQUESTS = st.sampled_from(
    [
        GET,
        b"GET / HTTP/1.1\r\n" + HEADER,
        b"GET /a HTTP/1.1\r\nHost: other\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\n" + HEADER,
        b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n" + HEADER + b"GET /",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEADER + b"4\r\nGET \r\n0\r\n\r\n",
        b"\r\n",
        b"GET /broken\r\n",
        b"GET /a HTTP/1.1\r\nConnection: close\r\n" + HEADER,
    ]
)


@given(st.lists(REQUESTS, max_size=8), st.lists(st.integers(0, 600), max_size=4))
@settings(deadline=None)
def test_however_requests_are_cut_they_are_the_same(requests: list[bytes], cuts: list[int]) -> None:
    """Whole pieces, and pieces that end anywhere, mean what single bytes mean."""
    data = b"".join(requests)
    whole = Connected()
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))} | set(_ends(requests)))
    for begin, end in pairwise(ends):
        whole.deliver(data[begin:end])
    slow = by_bytes(data)
    assert whole.root.seen == slow.root.seen
    assert whole.transport.value() == slow.transport.value()


def _ends(requests: list[bytes]) -> Iterator[int]:
    end = 0
    for request in requests:
        end += len(request)
        yield end


@given(st.lists(st.sampled_from([b"a", b"b=", b"=", b"&", b";", b"%41", b"+", b"c=d", b"%zz", b"\xe4"]), max_size=12))
def test_a_query_is_read_as_the_library_reads_it(parts: list[bytes]) -> None:
    query = b"".join(parts)
    expected: dict[bytes, list[bytes]] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1"):
        expected.setdefault(name.encode("latin-1"), []).append(value.encode("latin-1"))
    assert read_query(query) == expected
