"""
What every request passes before anybody looks at it: by which name the server was called, from which origin, from
where; and the headers that every answer has (RELIABILITY A6).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from twisted.web.http_headers import Headers

from pacs.web.errors import HTTPError
from pacs.web.heads import encode_fields
from pacs.web.request import WebRequest
from pacs.web.sessions import SAFE_METHODS, origin_of
from pacs.web.settings import WebSettings

_LOCAL_ORIGIN: Final = re.compile(r"https?://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?")
_URL: Final = re.compile(
    rb"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]+)(?P<path>/[^?]*)?(?P<query>(?:\?.*)?)",
    re.IGNORECASE | re.DOTALL,
)
_PREFLIGHT_SECONDS: Final = "600"
_ALLOWED_HEADERS: Final = "Authorization, Content-Type, If-None-Match, If-Range, Last-Event-ID, Range"
_EXPOSED_HEADERS: Final = "Accept-Ranges, Content-Range, ETag, Location, Retry-After, WWW-Authenticate"

ALWAYS: Final = {
    "x-content-type-options": ["nosniff"],
    "cache-control": ["no-store"],
    "content-security-policy": ["default-src 'none'; frame-ancestors 'none'"],
    "referrer-policy": ["no-referrer"],
}
STRICT_TRANSPORT: Final = {"strict-transport-security": ["max-age=31536000"]}


def protecting_fields(settings: WebSettings) -> bytes:
    """Give the fields that every answer has, whatever is asked, as they are sent."""
    return encode_fields(Headers({**ALWAYS, **(STRICT_TRANSPORT if settings.is_encrypted else {})}))


class Gate:
    """Looks at the headers of a request that have nothing to do with what it asks for."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._common = protecting_fields(settings)
        self._hosts_seen: dict[str, bool] = {}

    def enter(self, request: WebRequest) -> None:
        """
        Set the fields that every answer has, and let the request in.

        Raises:
            HTTPError: 400, 414 or 421.
        """
        head = request.head
        common = head.common
        if common is None:
            common = self._common + encode_fields(self._allow_origin(request))
        request.common += common
        if len(request.uri) > self._settings.uri_bytes:
            raise HTTPError(414, f"the request's URI has more than {self._settings.uri_bytes} bytes")
        if head.common is None:
            self._check_host(request)
            head.common = common

    def client_address(self, request: WebRequest) -> str:
        """Give who asks: behind a trusted proxy, whom the proxy names."""
        address = request.socket_address
        if not self._settings.trusted_proxies:
            return address
        forwarded = [part.strip() for part in request.header("x-forwarded-for").split(",") if part.strip()]
        while forwarded and self._is_trusted(address):
            address = forwarded.pop()
        return address if _is_address(address) else request.socket_address

    def answer_options(self, request: WebRequest, methods: str) -> None:
        """Tell which methods there are, and a browser what it may send."""
        request.setHeader("allow", methods)
        if request.getHeader("access-control-request-method") is not None:
            request.setHeader("access-control-allow-methods", methods)
            request.setHeader("access-control-allow-headers", _ALLOWED_HEADERS)
            request.setHeader("access-control-max-age", _PREFLIGHT_SECONDS)

    def check_writer(self, request: WebRequest) -> None:
        """
        Let pass what changes something, unless it comes from a page of others.

        A browser adds name and password by itself to whatever a page sends us, a form without JSON among it; a bearer
        token it does not.

        Raises:
            HTTPError: 403.
        """
        origin = request.header("origin").lower()
        if not origin or request.method in SAFE_METHODS or request.header("authorization")[:7].lower() == "bearer ":
            return
        is_ours = origin.partition("://")[2] == request.header("host").lower()
        if not (is_ours or origin == origin_of(self._settings.public_url) or self._is_listed(origin)):
            raise HTTPError(403, "changes are taken from other origins with a bearer token alone")

    # -- within

    def _is_listed(self, origin: str) -> bool:
        origins = self._settings.cors_origins
        if not origins:
            return origins is not None and _LOCAL_ORIGIN.fullmatch(origin) is not None
        return origin in origins

    def _is_trusted(self, address: str) -> bool:
        return _is_address(address) and any(ip_address(address) in n for n in self._settings.trusted_proxies)

    def _check_host(self, request: WebRequest) -> None:
        host = request.getHeader("host")
        if host is None and request.clientproto != b"HTTP/1.0":
            raise HTTPError(400, "the Host header is missing")
        if len(request.requestHeaders.getRawHeaders("host", ())) > 1:  # which one a proxy has read nobody knows
            raise HTTPError(400, "there is more than one Host header")
        if not request.uri.startswith(b"/"):
            host = _take_url(request) or host
        if host is None:
            return
        if not self._is_known(host):
            raise HTTPError(
                421, "the server is not known by this name; name it in rest_api.allowed_hosts or rest_api.public_url"
            )

    def _allow_origin(self, request: WebRequest) -> Headers:
        """Give the fields that tell a browser which pages may see the answer."""
        fields = Headers()
        origins = self._settings.cors_origins
        if origins is None:
            return fields
        fields.addRawHeader("vary", "Origin")
        origin = request.getHeader("origin")
        if origin is None or not ("*" in origins or self._is_listed(origin)):
            return fields
        fields.addRawHeader("access-control-allow-origin", "*" if "*" in origins else origin)
        fields.addRawHeader("access-control-expose-headers", _EXPOSED_HEADERS)
        return fields

    def _is_known(self, host: str) -> bool:
        known = self._hosts_seen.get(host)
        if known is None:
            name = _host_name(host)
            known = name in self._settings.hosts or name == "localhost" or _is_address(name)
            if len(self._hosts_seen) < 256:
                self._hosts_seen[host] = known
        return known


def _take_url(request: WebRequest) -> str:
    """
    Read a target that is a whole URL, and go on with its path (RFC 9112 3.2.2); give its host, which counts alone.

    Raises:
        HTTPError: 400, it is neither a path nor a URL; 421, it has to be encrypted.
    """
    if request.uri == b"*":
        return ""
    url = _URL.fullmatch(request.uri)
    if url is None:
        raise HTTPError(400, "the request's target is neither a path nor a URL of this server")
    if url["scheme"].lower() == b"https" and not request.isSecure():  # RFC 9110 7.4
        raise HTTPError(421, "https is not served on this port")
    host: str = url["host"].decode("ascii")
    request.requestHeaders.setRawHeaders("host", [host])
    request.path = url["path"] or b"/"
    request.uri = request.path + url["query"]
    return host


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(text: str) -> bool:
    """A name that is an address can't be made to mean another one, as DNS rebinding does."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
