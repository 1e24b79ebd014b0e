"""
HTTP connections and their limits (RELIABILITY L15): how many, how large the headers, how slow a client may be.

Times are looked at once a second for all connections, which costs a request nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.server import Site

from pacs.monitoring.logs import RateLimited
from pacs.monitoring.metrics import Metrics
from pacs.web.request import WebRequest
from pacs.web.settings import WebSettings

CHECK_INTERVAL_S: Final = 1.0
BODY_GRACE_S: Final = 10.0
CLOSING_S: Final = 5.0
"""A client that has not taken the last bytes of a closed connection by then, or has not answered TLS's, gets none."""

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class LimitedChannel(HTTPChannel):
    """One connection."""

    site: WebSite

    def __init__(self) -> None:
        super().__init__()
        self._waits_since_s = 0.0
        self._headers_since_s: float | None = None
        self._closing_since_s: float | None = None

    def connectionMade(self) -> None:
        self.maxHeaders = self.site.settings.header_count
        self.totalHeadersSize = self.site.settings.header_bytes
        self.timeOut = None
        super().connectionMade()
        self._waits_since_s = self._headers_since_s = self.site.clock.seconds()
        self.site.opened(self)

    def dataReceived(self, data: bytes) -> None:
        if not self.requests and self._headers_since_s is None:
            self._headers_since_s = self.site.clock.seconds()
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        self._headers_since_s = None
        super().allHeadersReceived()

    def requestDone(self, request: Any) -> None:
        super().requestDone(request)
        self._waits_since_s = self.site.clock.seconds()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.site.closed(self)
        super().connectionLost(reason)

    @property
    def is_idle(self) -> bool:
        """No request is being served, whatever may have begun to come."""
        return not self.requests or self._headers_since_s is not None

    def isSecure(self) -> bool:
        """Whether it is encrypted; all connections of a site are, or none is."""
        return self.site.settings.is_encrypted

    def check_times(self, now_s: float) -> None:
        """Close the connection when its client is too slow, or has nothing to ask any more."""
        settings = self.site.settings
        if self._headers_since_s is not None:
            if now_s - self._headers_since_s > settings.headers_timeout_s:
                self.drop()
        elif not self.requests:
            if now_s - self._waits_since_s > settings.idle_timeout_s:
                self.drop()
        else:
            request = self.requests[-1]
            elapsed_s = now_s - request.started_s
            is_coming = request.started_s and self.length not in (0, None)
            if is_coming and elapsed_s > BODY_GRACE_S + request.body_bytes / settings.least_body_rate:
                self.drop()

    def drop(self) -> None:
        """Close it; over TLS an idle client may never answer that: whoever asks again and again has it ended then."""
        transport: Any = self.transport
        if transport is None:
            return
        now_s = self.site.clock.seconds()
        if self._closing_since_s is None:
            self._closing_since_s = now_s
            transport.loseConnection()
        elif now_s - self._closing_since_s >= CLOSING_S:
            transport.abortConnection()


class WebSite(Site):
    """
    All connections.

    Attributes:
        root: renders each request.
        is_draining: no further request on a connection that is idle.
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

    def buildProtocol(self, addr: IAddress | None) -> LimitedChannel | None:  # type: ignore[override]
        if len(self._channels) >= self.settings.connections:
            self._refusals.warn(
                self._logger,
                "connections",
                "an HTTP connection is closed: there are {limit} already (server.limits.http_connections)",
                limit=self.settings.connections,
            )
            return None
        channel = LimitedChannel()
        channel.factory = self
        channel.site = self
        channel.requestFactory = WebRequest
        return channel

    def date(self) -> bytes:
        """Give the time of day for a header; it has no more than seconds."""
        now_s = int(self.clock.seconds())
        if now_s != self._date[0]:
            self._date = (now_s, datetimeToString())
        return self._date[1]

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
        method = request.method_name
        if method not in METHODS:
            method = "other"
        self._metrics.http_request_served(method, request.route, request.code, self.clock.seconds() - request.started_s)

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
