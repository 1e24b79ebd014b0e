"""
One HTTP request: its body is bounded before it is read, and it is counted when it is answered.

twisted.web would keep a body of any length in a temporary file before anybody is asked; here the connection ends with
413 as soon as the limit is crossed.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.web.http import NO_BODY_CODES
from twisted.web.server import NOT_DONE_YET, Request

from pacs.web.errors import PHRASES, HTTPError
from pacs.web.heads import Head, encode_fields

if TYPE_CHECKING:
    from pacs.web.channel import LimitedChannel
    from pacs.web.site import WebSite


def read_query(query: bytes) -> dict[bytes, list[bytes]]:
    """
    Give the parameters of a query, form-urlencoded as the URL standard has it.

    "&" alone comes between them, and one without "=" is empty: nothing that was asked for is left out unnoticed, as
    twisted.web would.
    """
    is_quoted = b"%" in query or b"+" in query
    found: dict[bytes, list[bytes]] = {}
    for item in query.split(b"&"):
        if item:
            name, _, value = item.partition(b"=")
            if is_quoted:
                name, value = (unquote_to_bytes(text.replace(b"+", b" ")) for text in (name, value))
            found.setdefault(name, []).append(value)
    return found


class WebRequest(Request):
    """
    A request, and its answer.

    Attributes:
        route: the template of its path, for the metrics.
        site: whose limits apply.
        head: its header, with what was found out from it.
        common: the fields that each answer has, as they are sent; the gate adds to them.
        is_gone: the connection is lost; nothing may be written any more.
    """

    channel: LimitedChannel
    site: WebSite
    head: Head
    common = b""
    route = "other"
    is_counted = False
    is_refused = False
    started_s = 0.0
    body_bytes = 0
    is_gone = False

    def gotLength(self, length: int | None) -> None:
        """Make room for the body, if it may come at all."""
        self.site = self.channel.site
        self.started_s = self.site.clock.seconds()
        self.content = BytesIO()
        if length is not None and length > self.site.settings.json_bytes:
            self.refuse(self._too_large())

    def received_again(self, head: Head, uri: bytes) -> None:
        """Serve a GET without a body whose header is known already."""
        self.site = self.channel.site
        self.started_s = self.site.clock.seconds()
        self.head = head
        self.requestHeaders, self.received_cookies = head.headers, head.cookies
        self.method, self.uri, self.clientproto = b"GET", uri, b"HTTP/1.1"
        self.path = uri.partition(b"?")[0]
        self.process()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body."""
        self.body_bytes += len(data)
        if self.is_refused:
            return
        if self.body_bytes > self.site.settings.json_bytes:
            self.refuse(self._too_large())
        else:
            super().handleContentChunk(data)

    def refuse(self, error: HTTPError) -> None:
        """Answer before the body has come, and close: nobody waits for the rest."""
        self.is_refused = True
        self.code = error.status
        self.channel.refuse(error)
        self._count()

    def process(self) -> None:
        """Have the root answer."""
        if self.is_refused:
            return
        self.args = read_query(self.uri.partition(b"?")[2])
        self.common = self.site.date_field(self.started_s)
        self.prepath = []
        answer = self.site.root.render(self)
        if answer is not NOT_DONE_YET:
            self.write(answer)
            self.finish()

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        """Set the status, with the words of the standard."""
        super().setResponseCode(code, message or PHRASES.get(code))

    def answer(self, status: int, body: bytes, fields: bytes) -> None:
        """
        Send a whole answer, with one write.

        Args:
            fields: of its header, as they are sent, beside those that were set before.
        """
        if self.is_gone:
            return
        self.setResponseCode(status)
        set_before = encode_fields(self.responseHeaders)
        if self.method == b"HEAD" or status in NO_BODY_CODES:
            body = b""
        self.startedWriting = 1
        self.sentLength = len(body)
        self.channel.write(
            b"%b %d %b\r\n%b%b%b\r\n%b"
            % (self.clientproto, status, self.code_message, self.common, fields, set_before, body)
        )
        self.finished = 1
        self._cleanup()
        self._count()

    def finish(self) -> None:
        """End the answer; klein does so once more when an error's has been sent."""
        if not self.finished:
            super().finish()
        self._count()

    def connectionLost(self, reason: Any) -> None:
        self.is_gone = True
        super().connectionLost(reason)
        if self.started_s:  # its headers had come
            self._count()

    def unregisterProducer(self) -> None:
        """The answer comes to its end; the connection may have been lost before it."""
        if self.is_gone:
            self.producer = None
        else:
            super().unregisterProducer()

    def _too_large(self) -> HTTPError:
        return HTTPError(413, f"the body has more than {self.site.settings.json_bytes} bytes")

    def _count(self) -> None:
        if not self.is_counted:
            self.is_counted = True
            self.site.served(self)

    @property
    def socket_address(self) -> str:
        """The address of whoever is connected, which may be a proxy."""
        return str(getattr(self.getClientAddress(), "host", ""))

    def header(self, name: str) -> str:
        """Give a header's value, or nothing."""
        return self.getHeader(name) or ""

    @property
    def method_name(self) -> str:
        """The method as text."""
        return self.method.decode("latin-1")
