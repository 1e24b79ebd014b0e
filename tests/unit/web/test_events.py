"""
Streams of events, without a server: what is left when their client does not stay.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from pacs.archive.errors import ArchiveBusy
from pacs.events import DURABLE, LIVE, EventBus
from pacs.web.api.events import EventRoutes


class Feed:
    """A feed that takes its time."""

    def __init__(self) -> None:
        self.wanted: Deferred[Any] = Deferred()

    async def bounds(self) -> Any:
        return await self.wanted


@pytest.mark.parametrize("end", ["the client goes away", "the index can't be read"])
def test_nobody_listens_for_a_client_that_was_gone_before_its_stream_began(end: str) -> None:
    reactor: Any = MemoryReactorClock()
    bus, feed = EventBus(reactor=reactor), Feed()
    routes = EventRoutes(feed=feed, bus=bus, closed=str, clock=Clock())  # type: ignore[arg-type]
    call: Any = SimpleNamespace(query={}, request=SimpleNamespace(header=lambda _: ""))
    opening: Deferred[object] = Deferred.fromCoroutine(routes.routes()[0].handler(call))  # type: ignore[arg-type]
    ended: list[Any] = []
    opening.addErrback(ended.append)
    if end == "the client goes away":
        opening.cancel()
    else:
        feed.wanted.errback(ArchiveBusy("it is busy"))
    assert ended[0].check(CancelledError, ArchiveBusy)
    assert not any(bus.has_subscribers(kind) for kind in (*DURABLE, *LIVE))
