"""
Posting JSON over HTTP to whoever subscribed: signed, in bounded time, and reading no more of the answer than is needed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from pacs.version import __version__

CONNECT_TIMEOUT_S: Final = 10.0
IDLE_S: Final = 5
CONNECTIONS_PER_HOST: Final = 8
ANSWER_BYTES: Final = 65536
ANSWER_S: Final = 5.0
"""For the body of an answer, of which nothing is needed: it is read so that the connection can be kept."""

LONGEST_RETRY_AFTER_S: Final = 3600.0


class NotPosted(Exception):
    """No answer came; the message says why."""


@dataclass(frozen=True, slots=True)
class Answered:
    """
    An answer.

    Attributes:
        retry_after_s: what it asks for, None for nothing.
    """

    status: int
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Any 2xx."""
        return 200 <= self.status < 300


def signature(secret: bytes, body: bytes) -> str:
    """Give the value of X-PACS-Signature."""
    return f"sha256={hmac.digest(secret, body, hashlib.sha256).hex()}"


class Poster:
    """Posts; connections are kept for a moment, so that many events need not many handshakes."""

    def __init__(self, *, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = CONNECTIONS_PER_HOST
        self._pool.cachedConnectionTimeout = IDLE_S
        self._pool.retryAutomatically = False
        self._agent = Agent(reactor, connectTimeout=CONNECT_TIMEOUT_S, pool=self._pool)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """
        Post a body; redirections are answers like any other.

        Raises:
            NotPosted: no answer came.
        """
        sent = Headers({"Content-Type": ["application/json"], "User-Agent": [f"ProductionPACS/{__version__}"]})
        for name, value in headers.items():
            sent.setRawHeaders(name, [value])
        try:
            response = await self._agent.request(b"POST", url.encode("ascii"), sent, _Body(body))
            await self._read_away(response)
        except (ConnectError, DNSLookupError) as error:
            raise NotPosted(str(error)) from None
        except ResponseFailed as error:
            raise NotPosted("; ".join(reason.getErrorMessage() for reason in error.reasons)) from None
        return Answered(response.code, _retry_after_s(response))

    async def _read_away(self, response: IResponse) -> None:
        read: Deferred[None] = Deferred()
        reader = _Reader(read)
        response.deliverBody(reader)
        timer = self._reactor.callLater(ANSWER_S, reader.give_up)
        try:
            await read
        finally:
            if timer.active():
                timer.cancel()
            reader.give_up()

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()


def _retry_after_s(response: IResponse) -> float | None:
    text = (response.headers.getRawHeaders("retry-after") or [""])[0].strip()
    return min(float(text), LONGEST_RETRY_AFTER_S) if text.isascii() and text.isdigit() else None


class _Reader(Protocol):
    """Reads an answer's body and forgets it; one that is long, or takes long, ends the connection."""

    def __init__(self, read: Deferred[None]) -> None:
        self._read = read
        self._left = ANSWER_BYTES
        self._is_over = False

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.give_up()

    def give_up(self) -> None:
        """Wait for no more of it."""
        if not self._is_over:
            transport: Any = self.transport
            transport.loseConnection()
            self._end()

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self._end()

    def _end(self) -> None:
        self._is_over = True
        if not self._read.called:  # the status is what counts, however the body ended
            self._read.callback(None)


@implementer(IBodyProducer)
class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """It is one piece."""

    def resumeProducing(self) -> None:
        """It is one piece."""

    def stopProducing(self) -> None:
        """It is one piece."""
