"""
Who asks over HTTP: bearer tokens of our own and of the identity provider, Basic with a token or with a user's name and
password, and the pages' session cookie.

A token that is right is never refused for what others behind its address did; who keeps failing is answered 429.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IReactorTime

from pacs.security.access import Origin, Principal, Role
from pacs.security.credentials import PasswordVerifier, TooManyVerifications
from pacs.security.logins import LoginReporter
from pacs.security.oidc.errors import BadToken, KeysUnavailable
from pacs.security.policy import AccessPolicy
from pacs.security.throttle import WINDOW_S, FailureThrottle
from pacs.security.tokens import Token
from pacs.web.errors import HTTPError
from pacs.web.request import WebRequest
from pacs.web.sessions import Identity, SessionRegistry
from pacs.web.tokens import TokenRegistry

if TYPE_CHECKING:
    from pacs.security.oidc.tokens import TokenVerifier  # costs memory where there is no identity provider

BEARER: Final = 'Bearer realm="Production PACS"'
CHALLENGE: Final = f'{BEARER}, Basic realm="Production PACS", charset="UTF-8"'
REMEMBERED_S: Final = 60.0
REMEMBERED_LOGINS: Final = 1000

BY_TOKEN: Final = "HTTP token"
BY_PROVIDER: Final = "HTTP JSON Web Token"
BY_PASSWORD: Final = "HTTP name and password"
BY_NOTHING: Final = "none"


@dataclass(frozen=True, slots=True)
class Login:
    """That a request's header has the secret of a token."""

    token: Token
    identity: Identity


class Authenticator:
    """
    Gives who asks.

    Args:
        is_enabled: else everyone is an administrator.
        provider: verifies the identity provider's tokens, if there is one.
        logins: told who identified himself, and who could not.
        now_s: seconds since 1970.
    """

    def __init__(
        self,
        *,
        is_enabled: bool,
        tokens: TokenRegistry,
        provider: TokenVerifier | None,
        verifier: PasswordVerifier,
        sessions: SessionRegistry,
        policy: AccessPolicy,
        throttle: FailureThrottle,
        logins: LoginReporter,
        clock: IReactorTime,
        now_s: Callable[[], float],
    ) -> None:
        self._is_enabled = is_enabled
        self._tokens = tokens
        self._provider = provider
        self._verifier = verifier
        self._sessions = sessions
        self._policy = policy
        self._throttle = throttle
        self._logins = logins
        self._clock = clock
        self._now_s = now_s
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, float] = {}

    def known(self, request: WebRequest) -> Identity | None:
        """Give who asks when the same header has been seen on this connection, and its token may still be used."""
        login = request.head.login
        if login is None or not self._tokens.may_use(login.token):
            return None
        identity = login.identity
        principal = identity.principal
        self._logins.seen(principal.user or principal.name, principal.peer_address, identity.method)
        return identity

    async def authenticate(self, request: WebRequest, address: str) -> Identity:
        """
        Give who asks.

        Args:
            address: of the client, behind whatever proxy.

        Raises:
            HTTPError: 401, 403, 429 or 503.
        """
        if not self._is_enabled:
            everyone = Principal("anonymous", address, Role.ADMINISTRATOR, "rest_api.authentication.enabled")
            return Identity(everyone, BY_NOTHING)
        kind, _, value = request.header("authorization").partition(" ")
        if not kind:
            identity = self._sessions.find(request, address)
            if identity is not None:
                return identity
        origin, value = Origin(address, request.isSecure()), value.strip()
        match kind.lower():
            case "bearer":
                identity = await self._of_bearer(request, value, origin)
            case "basic":
                identity = await self._of_basic(request, value, origin)
            case _:
                raise _unauthenticated(request, "give a token: 'Authorization: Bearer TOKEN'")
        principal = identity.principal
        self._logins.seen(principal.user or principal.name, address, identity.method)
        return identity

    # -- within

    async def _of_bearer(self, request: WebRequest, value: str, origin: Origin) -> Identity:
        identity = self._of_token(request, value, origin)
        if identity is not None:
            return identity
        if self._provider is None or value.count(".") != 2:
            raise self._failed(request, "", origin, BY_TOKEN, "the token is unknown, revoked or expired")
        try:
            verified = await self._provider.verify(value)
        except BadToken as error:
            raise self._failed(request, "", origin, BY_PROVIDER, str(error)) from None
        except KeysUnavailable:
            raise HTTPError(
                503, "the keys of the identity provider can't be had at present", headers={"Retry-After": "10"}
            ) from None
        principal = self._policy.principal_of_token(verified.name, origin, user=verified.name, role=verified.role)
        return Identity(principal, BY_PROVIDER, lambda: self._now_s() < verified.expires_at_s)

    async def _of_basic(self, request: WebRequest, value: str, origin: Origin) -> Identity:
        name, password = _read_basic(request, value)
        identity = self._of_token(request, password, origin)
        if identity is not None:
            return identity
        if await self._verify(name, password):
            return Identity(self._policy.principal(name, origin, user=name), BY_PASSWORD)
        raise self._failed(request, name, origin, BY_PASSWORD, "name or password is wrong")

    def _of_token(self, request: WebRequest, secret: str, origin: Origin) -> Identity | None:
        token = self._tokens.find(secret)
        if token is None:
            return None
        role, because = token.role, f"token {token.id}"
        if not self._policy.is_enabled:
            role, because = Role.ADMINISTRATOR, "security.access_control.enabled"
        principal = Principal(token.name, origin.peer_address, role, because, token.name, origin.is_encrypted)
        identity = Identity(principal, BY_TOKEN, lambda: self._tokens.is_valid(token))
        request.head.login = Login(token, identity)
        return identity

    async def _verify(self, name: str, password: str) -> bool:
        if not self._verifier or not name:
            return False
        key = hmac.digest(self._key, f"{name}\0{password}".encode(), hashlib.sha256)
        now_s = self._clock.seconds()
        if self._remembered.get(key, 0.0) > now_s:
            return True
        try:
            is_right = await self._verifier.verify(name, password.encode())
        except TooManyVerifications:
            raise HTTPError(503, "too many logins at once", headers={"Retry-After": "1"}) from None
        if is_right:
            if len(self._remembered) >= REMEMBERED_LOGINS:
                self._remembered.clear()
            self._remembered[key] = now_s + REMEMBERED_S
        return is_right

    def _failed(self, request: WebRequest, name: str, origin: Origin, method: str, why: str) -> HTTPError:
        is_too_many = self._throttle.failed(origin.peer_address) > 0
        self._logins.failed(name, origin.peer_address, method, is_one_too_many=is_too_many)
        if is_too_many:
            return HTTPError(429, "too many failed logins", headers={"Retry-After": str(int(WINDOW_S))})
        return _unauthenticated(request, why)


def _unauthenticated(request: WebRequest, why: str) -> HTTPError:
    is_script = request.header("sec-fetch-mode") in ("cors", "same-origin")  # no dialog of the browser's own
    return HTTPError(401, why, headers={"WWW-Authenticate": BEARER if is_script else CHALLENGE})


def _read_basic(request: WebRequest, value: str) -> tuple[str, str]:
    try:
        name, colon, password = b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        colon = ""
    if not colon:
        raise _unauthenticated(request, "the Basic credentials can't be read")
    return name, password
