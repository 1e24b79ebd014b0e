"""
Gets a small JSON document of the identity provider.

Certificates are checked against the system's authorities (OpenSSL's `SSL_CERT_FILE` names others). Redirects are not
followed: whoever could redirect us could give us keys of their own.
"""

from __future__ import annotations

import json
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http_headers import Headers

from pacs.security.oidc.errors import FetchFailed
from pacs.version import __version__

LARGEST_DOCUMENT_BYTES: Final = 1 << 20
TIMEOUT_S: Final = 10.0


class DocumentFetcher:
    """Gets documents by their URLs."""

    def __init__(self, *, reactor: Any) -> None:
        self._reactor = reactor
        self._agent = Agent(reactor, connectTimeout=TIMEOUT_S)

    async def __call__(self, url: str) -> dict[str, Any]:
        """
        Get a document.

        Raises:
            FetchFailed: it does not come within ten seconds, is too long or no JSON object.
        """
        getting = Deferred.fromCoroutine(self._get(url))
        getting.addTimeout(TIMEOUT_S, self._reactor)
        try:
            document = json.loads(await getting)
        except FetchFailed:
            raise
        except TimeoutError:
            raise FetchFailed(f"{url} does not come within {TIMEOUT_S:g} s") from None
        except Exception as error:  # noqa: BLE001 - whatever the network or the peer did, there is no document
            raise FetchFailed(f"{url} can't be read: {str(error) or type(error).__name__}") from None
        if not isinstance(document, dict):
            raise FetchFailed(f"{url} is no JSON object")
        return document

    async def _get(self, url: str) -> bytes:
        headers = Headers({"Accept": ["application/json"], "User-Agent": [f"ProductionPACS/{__version__}"]})
        response: Any = await self._agent.request(b"GET", url.encode("ascii"), headers)
        if response.code != 200:
            response.deliverBody(_Closing())
            raise FetchFailed(f"{url} is answered with status {response.code}")
        body = _Body()
        response.deliverBody(body)
        return await body.received


class _Closing(Protocol):
    """Wants no body."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


class _Body(Protocol):
    """Gathers a body up to the limit."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.received: Deferred[bytes] = Deferred(lambda _: self._close())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > LARGEST_DOCUMENT_BYTES:
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.received.called:
            return
        if len(self._data) > LARGEST_DOCUMENT_BYTES:
            self.received.errback(ValueError(f"it has more than {LARGEST_DOCUMENT_BYTES} bytes"))
        elif reason.check(ResponseDone):
            self.received.callback(bytes(self._data))
        else:
            self.received.errback(reason)

    def _close(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()
