"""
The HTTP connections of a port: how many there may be (RELIABILITY L15), and how they end when the server does.

Times are looked at once a second for all connections, which costs a request nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.server import Site

from pacs.monitoring.logs import RateLimited
from pacs.monitoring.metrics import Metrics
from pacs.web.answers import error_answer
from pacs.web.channel import LimitedChannel
from pacs.web.errors import PHRASES, HTTPError
from pacs.web.gate import protecting_fields
from pacs.web.heads import encode_fields
from pacs.web.request import WebRequest
from pacs.web.settings import WebSettings

CHECK_INTERVAL_S: Final = 1.0
OVERFLOW: Final = 50
"""Connections beyond their number that are told so; further ones are closed."""

OVERFLOW_S: Final = 2.0
METHODS: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


class _Overflowing(Protocol):
    """A connection beyond the number that there may be: it is told so when it asks, if it does so soon."""

    def __init__(self, site: WebSite) -> None:
        self._site = site
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._site.overflowing.add(self)
        self._timer = self._site.clock.callLater(OVERFLOW_S, transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if not transport.disconnecting:
            error = HTTPError(503, "there are too many connections at present", headers={"Retry-After": "1"})
            transport.write(self._site.refusal(error))
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._site.overflowing.discard(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


class WebSite(Site):
    """
    All connections.

    Attributes:
        root: renders each request.
        is_draining: no further request on a connection that is idle.
        overflowing: connections that are about to be refused, for there are too many.
    """

    _logger: ClassVar[Logger] = Logger()
    noisy = False

    def __init__(self, *, root: Any, settings: WebSettings, metrics: Metrics, clock: IReactorTime) -> None:
        super().__init__(root, requestFactory=WebRequest, parsePOSTFormSubmission=False, reactor=clock)
        self._logFile = None  # twisted.web's log of requests would have patients' names in it
        self.protocol = LimitedChannel  # type: ignore[assignment]
        self.root = root
        self.settings = settings
        self.clock = clock
        self.is_draining = False
        self.overflowing: set[Protocol] = set()
        self._date = (-1, b"")
        self._metrics = metrics
        self._channels: set[LimitedChannel] = set()
        self._refusals = RateLimited(clock=clock)
        self._drained: Deferred[None] | None = None
        self._watch = LoopingCall(self._check_times)
        self._watch.clock = clock

    def startFactory(self) -> None:
        """Watch the connections."""
        self._watch.start(CHECK_INTERVAL_S, now=False)

    def stopFactory(self) -> None:
        """The port is closed."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:  # type: ignore[override]
        if len(self._channels) >= self.settings.connections:
            self._refusals.warn(
                self._logger,
                "connections",
                "an HTTP connection is refused: there are {limit} already (server.limits.http_connections)",
                limit=self.settings.connections,
            )
            return _Overflowing(self) if len(self.overflowing) < OVERFLOW else None
        channel = LimitedChannel()
        channel.factory = self
        channel.site = self
        channel.requestFactory = WebRequest
        return channel

    def date_field(self, now_s: float) -> bytes:
        """Give the field of the time of day, as it is sent; it has no more than seconds."""
        if int(now_s) != self._date[0]:
            self._date = (int(now_s), b"Date: %b\r\n" % datetimeToString(now_s))
        return self._date[1]

    def refusal(self, error: HTTPError) -> bytes:
        """Give the answer to what was not read as a whole, behind which the connection is closed."""
        answer = error_answer(error)
        fields = encode_fields(Headers({name: [value] for name, value in answer.headers.items()}))
        return b"HTTP/1.1 %d %b\r\n%b%b%bContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
            error.status,
            PHRASES[error.status],
            self.date_field(self.clock.seconds()),
            protecting_fields(self.settings),
            fields,
            answer.content_type.encode(),
            len(answer.body),
            answer.body,
        )

    # -- the channels' side

    def opened(self, channel: LimitedChannel) -> None:
        """A client connected."""
        self._channels.add(channel)

    def closed(self, channel: LimitedChannel) -> None:
        """A connection ended."""
        self._channels.discard(channel)
        if self._drained is not None and not self._channels:
            self._drained.callback(None)
            self._drained = None

    def served(self, request: WebRequest) -> None:
        """Count a request."""
        method = METHODS.get(request.method, "other")
        self._metrics.http_request_served(method, request.route, request.code, self.clock.seconds() - request.started_s)

    def unread(self, channel: LimitedChannel, silence_s: float) -> None:
        """Tell that a client takes nothing."""
        address = getattr(channel.getPeer(), "host", "")
        self._refusals.warn(
            self._logger,
            f"unread {address}",
            "an HTTP connection of {peer_address} is ended: it has read nothing of an answer for {silence_s:.0f} s"
            " (server.limits.unread_response_seconds)",
            peer_address=address,
            silence_s=silence_s,
        )

    def _check_times(self) -> None:
        now_s = self.clock.seconds()
        for channel in tuple(self._channels):
            if self.is_draining and channel.is_idle:
                channel.drop()
            else:
                channel.check_times(now_s)

    # -- shutdown

    def drain(self) -> Deferred[None]:
        """Close idle connections, and the others when they have answered; fires when there is none left."""
        self.is_draining = True
        drained: Deferred[None] = Deferred()
        for channel in tuple(self._channels):
            if channel.is_idle:
                channel.drop()
        if self._channels:
            self._drained = drained
        else:
            drained.callback(None)
        return drained

    def abort_all(self) -> None:
        """End every connection at once."""
        for channel in tuple(self._channels):
            transport: Any = channel.transport
            if transport is not None:
                transport.abortConnection()

    def stop_watching(self) -> None:
        """Watch the connections' times no longer."""
        if self._watch.running:
            self._watch.stop()
