"""
Sessions of the pages: a cookie that scripts can't read stands for credentials that were shown once.

The cookie has 256 random bits, and the server knows its SHA-256. A session ends half an hour after its last request,
twelve hours after it began, when its credentials expire or are revoked, when its user says so, and with the server.
The cookie is `SameSite=Strict`, and a request that changes something must come from our own pages (RELIABILITY A6).
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from twisted.internet.interfaces import IReactorTime

from pacs.security.access import Principal
from pacs.web.errors import HTTPError
from pacs.web.request import WebRequest

IDLE_S: Final = 1800.0
LONGEST_S: Final = 12 * 3600.0
MOST_SESSIONS: Final = 1000
COOKIE: Final = "pacs_session"
SAFE_METHODS: Final = (b"GET", b"HEAD", b"OPTIONS")
LONGEST_COOKIES: Final = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Who asks, and for how long that holds.

    Attributes:
        method: how that was shown, one of a closed set of words.
        is_valid: whether the credentials still are.
        session: of a cookie, else empty.
    """

    principal: Principal
    method: str
    is_valid: Callable[[], bool] = lambda: True
    session: bytes = b""


@dataclass(slots=True)
class _Session:
    identity: Identity
    begun_s: float
    used_s: float


class SessionRegistry:
    """
    Knows the sessions.

    Args:
        is_encrypted: browsers reach us over HTTPS alone.
        public_origin: of our pages behind a proxy, such as `https://pacs.example.org`, or empty.

    Attributes:
        cookie: its name.
    """

    def __init__(self, *, is_encrypted: bool, public_origin: str, clock: IReactorTime) -> None:
        self._is_encrypted = is_encrypted
        self._public_origin = public_origin
        self._clock = clock
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self.cookie: Final = f"__Host-{COOKIE}" if is_encrypted else COOKIE

    def begin(self, identity: Identity) -> str:
        """Begin a session; give the Set-Cookie header."""
        secret, now_s = secrets.token_urlsafe(32), self._clock.seconds()
        self._sessions[_digest(secret)] = _Session(identity, now_s, now_s)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return self._header(secret)

    def end(self, identity: Identity) -> str:
        """End the session of a request; give the Set-Cookie header that takes the cookie away."""
        self._sessions.pop(identity.session, None)
        return self._header("") + "; Max-Age=0"

    def find(self, request: WebRequest, address: str) -> Identity | None:
        """
        Give who asks, by the cookie; None when there is none, or its session has ended.

        Raises:
            HTTPError: 403, the request would change something and does not come from our pages.
        """
        digest = _digest(self._cookie(request))
        session = self._sessions.get(digest)
        if session is None:
            return None
        now_s = self._clock.seconds()
        is_over = now_s - session.used_s > IDLE_S or now_s - session.begun_s > LONGEST_S
        if is_over or not session.identity.is_valid():
            del self._sessions[digest]
            return None
        if request.method not in SAFE_METHODS:
            self.check_origin(request)
        session.used_s = now_s
        self._sessions.move_to_end(digest)
        identity = session.identity
        return replace(identity, principal=replace(identity.principal, peer_address=address), session=digest)

    def check_origin(self, request: WebRequest) -> None:
        """
        Let a request pass that one of our own pages sends.

        Raises:
            HTTPError: 403.
        """
        origin = request.header("origin").lower()
        if not origin or origin not in (self._own_origin(request), self._public_origin):
            raise HTTPError(403, "with a session, changes are taken from the server's own pages alone")

    # -- within

    def _own_origin(self, request: WebRequest) -> str:
        host = request.header("host").lower()
        return f"{'https' if request.isSecure() else 'http'}://{host}" if host else ""

    def _cookie(self, request: WebRequest) -> str:
        header = request.header("cookie")
        if not header or len(header) > LONGEST_COOKIES:
            return ""
        try:
            found = SimpleCookie(header).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _header(self, value: str) -> str:
        secure = "; Secure" if self._is_encrypted else ""
        return f"{self.cookie}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"


def origin_of(url: str) -> str:
    """Give the origin of a URL, as browsers send it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.scheme and parts.netloc else ""


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
