"""
One HTTP connection: how slow its client may be (RELIABILITY L15), and a short way for requests that are like the one
before.

twisted.web reads what comes. Once it has read a GET without a body, what it made of the header is kept; when a whole
request comes in one piece that has the same header, byte for byte, behind another request line of the plain form, it is
taken as read. Whatever differs in the least takes the long way. An answer is handed to the socket at once when nothing
waits before it.
"""

from __future__ import annotations

import fcntl
import re
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IAddress
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers

from pacs.web.errors import HTTPError
from pacs.web.heads import REMEMBERED_BYTES, Head, encode_fields, is_plain
from pacs.web.request import WebRequest

if TYPE_CHECKING:
    from pacs.web.site import WebSite

BODY_GRACE_S: Final = 10.0
CLOSING_S: Final = 5.0
"""A client that has not taken the last bytes of a closed connection by then, or has not answered TLS's, gets none."""

_PLAIN_LINE: Final = re.compile(rb"GET (/[!-~]*) HTTP/1\.1\r\n")
_END: Final = b"\r\n\r\n"


class LimitedChannel(HTTPChannel):
    """One connection."""

    site: WebSite

    def __init__(self) -> None:
        super().__init__()
        self._waits_since_s = 0.0
        self._headers_since_s: float | None = None
        self._closing_since_s: float | None = None
        self._is_between = False  # nothing is being served, and nothing of another request has come
        self._block = b""  # the header of a request that came in one piece, as long as twisted.web reads it
        self._head: Head | None = None
        self._socket: Connection | None = None
        self._wire: Connection | None = None  # the same, or what is under TLS
        self._unsent_bytes = 0
        self._unread_since_s: float | None = None
        self._peer: IAddress | None = None
        self._host: IAddress | None = None

    def connectionMade(self) -> None:
        self.maxHeaders = self.site.settings.header_count
        self.totalHeadersSize = self.MAX_LENGTH = self.site.settings.header_bytes
        self.timeOut = None
        super().connectionMade()
        self._waits_since_s = self._headers_since_s = self.site.clock.seconds()
        self._is_between = True
        transport: Any = self.transport
        self._socket = transport if isinstance(transport, Connection) else None  # it is none under TLS
        below = self._socket or getattr(transport, "transport", None)
        self._wire = below if isinstance(below, Connection) else None
        self._peer, self._host = transport.getPeer(), transport.getHost()
        self.site.opened(self)

    def dataReceived(self, data: bytes) -> None:
        if self._is_between:
            if self._take_again(data):
                return
            self._block = _block_of(data)
            self._is_between = False
        if not self.requests and self._headers_since_s is None:
            self._headers_since_s = self.site.clock.seconds()
        super().dataReceived(data)
        self._block = b""

    def headerReceived(self, line: bytes) -> bool:
        """Take a header; a Content-Length of thousands of digits is no number for Python, and raises."""
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            self._respondToBadRequestAndDisconnect()
            return False

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse one line that is too long as many that are together; twisted.web would only close the connection."""
        self._respondToBadRequestAndDisconnect()

    def allHeadersReceived(self) -> None:
        self._headers_since_s = None
        super().allHeadersReceived()
        request: WebRequest = self.requests[-1]
        request.head = Head(request.requestHeaders, request.received_cookies, self._block)
        if self._block and self.persistent and self.length == 0 and is_plain(request.requestHeaders):
            self._head = request.head
        self._block = b""

    def requestDone(self, request: Any) -> None:
        is_simple = self.persistent and not self._dataBuffer and not self._waitingForTransport
        if is_simple and request is self.requests[0]:  # what is left of twisted.web's way then
            del self.requests[0]
            self._handlingRequest = False
            self.setLineMode()
        else:
            super().requestDone(request)
        self._waits_since_s = self.site.clock.seconds()
        self._is_between = bool(self.persistent) and not self.requests and not self._buffer

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

    def getPeer(self) -> IAddress | None:
        """Give the client's address, looked up once."""
        return self._peer

    def getHost(self) -> IAddress | None:
        """Give our own address on this connection, looked up once."""
        return self._host

    # -- the short way

    def _take_again(self, data: bytes) -> bool:
        """Serve a request whose header has come before; give whether it was one."""
        head = self._head
        if head is None or not data.endswith(head.block) or len(data) > self.totalHeadersSize:
            return False
        line = _PLAIN_LINE.fullmatch(data, 0, len(data) - len(head.block))
        if line is None or getattr(self.transport, "disconnecting", True):
            return False
        self._is_between = False
        self._headers_since_s = None
        self._handlingRequest = True  # as `allContentReceived` has it
        self.setRawMode()
        request = WebRequest(self)
        self.requests.append(request)
        request.received_again(head, line[1])
        return True

    # -- what is sent

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Send the beginning of an answer that comes in pieces."""
        self.write(b"%b %b %b\r\n%b%b\r\n" % (version, code, reason, self.requests[0].common, encode_fields(headers)))

    def write(self, data: bytes) -> None:
        """Send; at once if that is possible, for a visit of the reactor costs more than the sending."""
        connection = self._socket
        if connection is not None and _has_nothing_to_send(connection):
            try:
                sent = connection.socket.send(data)
            except OSError:  # it takes nothing now, or is lost: the reactor finds that out
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        if self.transport is not None:
            self.transport.write(data)

    # -- times

    def check_times(self, now_s: float) -> None:
        """Close the connection when its client is too slow, or has nothing to ask any more."""
        settings = self.site.settings
        if self._closing_since_s is None and self._has_to_read(now_s):
            return
        if self._headers_since_s is not None:
            if now_s - self._headers_since_s > settings.headers_timeout_s:
                self._give_up(self.refuse)
        elif not self.requests:
            if now_s - self._waits_since_s > settings.idle_timeout_s:
                self.drop()
        else:
            request = self.requests[-1]
            elapsed_s = now_s - request.started_s
            is_coming = request.started_s and self.length != 0  # None: it comes in chunks
            if is_coming and elapsed_s > BODY_GRACE_S + request.body_bytes / settings.least_body_rate:
                self._give_up(request.refuse)

    def resumeProducing(self) -> None:
        """The client has taken all that waited."""
        self._unread_since_s = None
        super().resumeProducing()

    def _has_to_read(self, now_s: float) -> bool:
        """
        Whether bytes wait for the client, who may be slow; who takes none of them for a long time is disconnected.

        The connection is not idle meanwhile, though the request may be done.
        """
        unsent = _unsent_bytes(self._wire) if self._wire is not None else 0
        if not unsent:
            self._unread_since_s = None
            return False
        if self._unread_since_s is None or unsent < self._unsent_bytes:
            self._unread_since_s = now_s
        elif now_s - self._unread_since_s > self.site.settings.unread_timeout_s:
            self.site.unread(self, now_s - self._unread_since_s)
            transport: Any = self.transport
            transport.abortConnection()
        self._unsent_bytes = unsent
        self._waits_since_s = now_s
        return True

    def _give_up(self, refuse: Callable[[HTTPError], None]) -> None:
        """Tell a client that it is too slow, if it has begun to ask, and close."""
        if self._is_between or self._closing_since_s is not None:
            self.drop()
        else:
            refuse(HTTPError(408, "the request did not come in time"))

    def refuse(self, error: HTTPError) -> None:
        """Answer a request that has not come as a whole, and close."""
        transport: Any = self.transport
        transport.write(self.site.refusal(error))
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


def _block_of(data: bytes) -> bytes:
    """
    Give the header of a GET that came in one piece, with nothing behind it; else nothing.

    Of a whole URL neither: the gate has looked at the host in it then, and not at that in the header.
    """
    if len(data) > REMEMBERED_BYTES or not data.startswith(b"GET /") or data.find(_END) != len(data) - len(_END):
        return b""
    block = data[data.index(b"\r\n") + 2 :]
    return block if block.endswith(_END) else b""


def _unsent_bytes(connection: Connection) -> int:
    """
    Give how many bytes wait for a client; none when the system has them all.

    Those that the system has count as well: it takes further ones only when there is much room, which a slow client
    makes seldom, but each one that arrives leaves it.
    """
    ours = len(connection.dataBuffer) - connection.offset + connection._tempDataLen
    if not ours or not connection.connected:
        return 0
    try:
        queued = fcntl.ioctl(connection.socket.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return ours
    return ours + int.from_bytes(queued, sys.byteorder)


def _has_nothing_to_send(connection: Connection) -> bool:
    is_open = connection.connected and not connection.disconnecting
    return bool(is_open and not connection.dataBuffer and not connection._tempDataBuffer)
