"""
`/api/v1/events`: a live stream of what happens, as server-sent events.

What is durable comes from the change feed, with its id, so that `Last-Event-ID` resumes without a gap and without
anything twice; the rest is live only and has no id. A client that reads too slowly is cut off, and may resume.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from pacs.archive.feed import ChangeFeed
from pacs.archive.index.changes import Change
from pacs.events import DURABLE, EVENT_NAMES, LIVE, Event, EventBus
from pacs.security.access import Operation
from pacs.web.answers import Stream
from pacs.web.request import WebRequest
from pacs.web.routes import Call, Route
from pacs.web.schema import Parameter, Type, integer, text_schema

CHANGES_AT_ONCE: Final = 500
WAITING_EVENTS: Final = 2000
HEARTBEAT_S: Final = 15.0
LARGEST_ID: Final = 2**62
LAST_EVENT_ID: Final = Parameter("Last-Event-ID", integer(0, LARGEST_ID), "the last event that the client has")


def _types(value: str) -> frozenset[str]:
    found = frozenset(part.strip() for part in value.split(",") if part.strip())
    if not found or not found <= set(EVENT_NAMES):
        raise ValueError(f"is not a list of {', '.join(EVENT_NAMES)}")
    return found


_NAME: Final = f"({'|'.join(EVENT_NAMES)})"
_TYPES: Final = Type(text_schema(rf"{_NAME}(,{_NAME})*", examples=["image_received,instance_deleted"]), _types)


class EventRoutes:
    """
    Answers with streams of events.

    Args:
        closed: why patient data is not served at present, or nothing.
    """

    def __init__(self, *, feed: ChangeFeed, bus: EventBus, closed: Callable[[], str], clock: IReactorTime) -> None:
        self._feed = feed
        self._bus = bus
        self._closed = closed
        self._clock = clock
        self._streams: set[EventStream] = set()

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        return (
            Route(
                "GET",
                "/api/v1/events",
                Operation.READ_EVENTS,
                self._open,
                "A live stream of events; Last-Event-ID resumes",
                "events",
                query=(Parameter("types", _TYPES, "names of events with commas between them; none: all"),),
                headers=(LAST_EVENT_ID,),
                content_type="text/event-stream",
                is_patient_data=True,
            ),
        )

    def close_all(self) -> None:
        """End every stream: the server stops."""
        for stream in tuple(self._streams):
            stream.end()

    async def _open(self, call: Call) -> Stream:
        stream = EventStream(
            feed=self._feed,
            bus=self._bus,
            types=call.query.get("types", frozenset(EVENT_NAMES)),
            last_id=_last_event_id(call.request),
            may_go_on=lambda: call.identity.is_valid() and not self._closed(),
            clock=self._clock,
            closed=self._streams.discard,
        )
        self._streams.add(stream)
        try:
            await stream.open()
        except Exception:  # the client is gone already, or the index can't be read
            stream.close()
            raise
        return Stream(stream.send, "text/event-stream", headers={"X-Accel-Buffering": "no"}, close=stream.close)


def _last_event_id(request: WebRequest) -> int | None:
    text = request.header("last-event-id").strip()
    return int(LAST_EVENT_ID.parse(text)) if text else None


@implementer(IPushProducer)
class EventStream:
    """
    One client's stream.

    Args:
        last_id: the last event that the client has; None: it begins now.
        may_go_on: whether the client may still be told anything; asked before it is.
    """

    def __init__(
        self,
        *,
        feed: ChangeFeed,
        bus: EventBus,
        types: frozenset[str],
        last_id: int | None,
        may_go_on: Callable[[], bool],
        clock: IReactorTime,
        closed: Callable[[EventStream], None],
    ) -> None:
        self._feed = feed
        self._types = types
        self._last_id = last_id
        self._may_go_on = may_go_on
        self._clock = clock
        self._closed = closed
        self._position = 0
        self._was_reset = False
        self._has_news = True
        self._is_ended = False
        self._is_paused = False
        self._live: deque[bytes] = deque()
        self._waiting: Deferred[None] | None = None
        self._unsubscribe: list[Callable[[], None]] = []
        self._subscribe(bus)

    def _subscribe(self, bus: EventBus) -> None:
        for kind in DURABLE:
            self._unsubscribe.append(bus.subscribe(kind, self._changed))
        for kind in LIVE:
            if kind.wire_name() in self._types:
                self._unsubscribe.append(bus.subscribe(kind, self._happened))

    async def open(self) -> None:
        """Find the place in the feed to begin at."""
        bounds = await self._feed.bounds()
        self._position = bounds.newest if self._last_id is None else self._last_id
        if self._position > bounds.newest:  # of another index
            self._was_reset, self._position = True, bounds.newest
        elif self._position < bounds.purged_to:
            self._was_reset, self._position = True, bounds.purged_to

    async def send(self, request: WebRequest) -> None:
        """Write events until the client or the server ends it."""
        request.registerProducer(self, True)
        try:
            request.write(b": events follow\n\n")
            if self._was_reset:
                request.write(f"event: reset\nid: {self._position}\ndata: {{}}\n\n".encode())
            while not self._is_ended and self._may_go_on():
                while self._live and not self._is_paused:
                    request.write(self._live.popleft())
                if self._has_news and not self._is_paused:
                    await self._send_changes(request)
                    continue
                if not await self._wait():
                    request.write(b": nothing new\n\n")
        finally:
            request.unregisterProducer()

    def close(self) -> None:
        """Listen no longer."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe = []
        self._closed(self)

    def end(self) -> None:
        """End the stream in order."""
        self._is_ended = True
        self._wake()

    # -- IPushProducer

    def pauseProducing(self) -> None:
        """The client does not take more."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """It does again."""
        self._is_paused = False
        self._wake()

    def stopProducing(self) -> None:
        """It is gone."""
        self._is_paused = True

    # -- within

    async def _send_changes(self, request: WebRequest) -> None:
        self._has_news = False
        changes = await self._feed.after(self._position, CHANGES_AT_ONCE)
        if changes:
            self._has_news = True
            self._position = changes[-1].id
            request.write(b"".join(_lines(change for change in changes if change.kind in self._types)))

    async def _wait(self) -> bool:
        """Wait for something to send; give False when nothing came for a while."""
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        heartbeat = self._clock.callLater(HEARTBEAT_S, self._wake)
        try:
            await waiting
            return bool(heartbeat.active())
        finally:
            self._waiting = None
            if heartbeat.active():
                heartbeat.cancel()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _changed(self, _: Event) -> None:
        self._has_news = True
        self._wake()

    def _happened(self, event: Event) -> None:
        if len(self._live) >= WAITING_EVENTS:
            self.end()
            return
        data = json.dumps(event.as_dict(), ensure_ascii=False)
        self._live.append(f"event: {event.wire_name()}\ndata: {data}\n\n".encode())
        self._wake()


def _lines(changes: Iterable[Change]) -> list[bytes]:
    return [f"event: {c.kind}\nid: {c.id}\ndata: {c.data}\n\n".encode() for c in changes]
