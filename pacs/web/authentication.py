"""
Who asks over HTTP: bearer tokens, and Basic with a token or with a user's name and password.

A token that is right is never refused for what others behind its address did; who keeps failing is answered 429.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import b64decode
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from pacs.security.access import Origin, Principal, Role
from pacs.security.credentials import PasswordVerifier, TooManyVerifications
from pacs.security.policy import AccessPolicy
from pacs.security.throttle import WINDOW_S, FailureThrottle
from pacs.web.errors import HTTPError
from pacs.web.request import WebRequest
from pacs.web.tokens import TokenRegistry

CHALLENGE: Final = 'Bearer realm="Production PACS", Basic realm="Production PACS", charset="UTF-8"'
REMEMBERED_S: Final = 60.0
REMEMBERED_LOGINS: Final = 1000

Failed = Callable[[str, str, bool], None]
"""Told of a failed login: the claimed name, the address, and whether it is one too many."""


class Authenticator:
    """
    Gives the principal of a request.

    Args:
        is_enabled: else everyone is an administrator.
    """

    def __init__(
        self,
        *,
        is_enabled: bool,
        tokens: TokenRegistry,
        verifier: PasswordVerifier,
        policy: AccessPolicy,
        throttle: FailureThrottle,
        failed: Failed,
        clock: IReactorTime,
    ) -> None:
        self._is_enabled = is_enabled
        self._tokens = tokens
        self._verifier = verifier
        self._policy = policy
        self._throttle = throttle
        self._failed = failed
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._logins: dict[bytes, float] = {}

    async def authenticate(self, request: WebRequest, address: str) -> Principal:
        """
        Give who asks.

        Args:
            address: of the client, behind whatever proxy.

        Raises:
            HTTPError: 401 or 429.
        """
        is_encrypted = request.isSecure()
        if not self._is_enabled:
            return Principal("anonymous", address, Role.ADMINISTRATOR, "rest_api.authentication.enabled")
        kind, _, value = request.header("authorization").partition(" ")
        value = value.strip()
        if kind.lower() == "bearer":
            principal = self._of_token(value, address, is_encrypted)
            if principal is not None:
                return principal
            raise self._refusal("", address, "the token is unknown, revoked or expired")
        if kind.lower() == "basic":
            name, password = _read_basic(value)
            principal = self._of_token(password, address, is_encrypted)
            if principal is None and await self._verify(name, password):
                principal = self._of_user(name, address, is_encrypted)
            if principal is not None:
                return principal
            raise self._refusal(name, address, "name or password is wrong")
        raise HTTPError(401, "give a token: 'Authorization: Bearer TOKEN'", headers={"WWW-Authenticate": CHALLENGE})

    # -- within

    def _of_token(self, secret: str, address: str, is_encrypted: bool) -> Principal | None:
        token = self._tokens.find(secret)
        if token is None:
            return None
        role, because = token.role, f"token {token.id}"
        if not self._policy.is_enabled:
            role, because = Role.ADMINISTRATOR, "security.access_control.enabled"
        return Principal(token.name, address, role, because, token.name, is_encrypted)

    def _of_user(self, name: str, address: str, is_encrypted: bool) -> Principal:
        return self._policy.principal(name, Origin(address, is_encrypted), user=name)

    async def _verify(self, name: str, password: str) -> bool:
        if not self._verifier or not name:
            return False
        key = hmac.digest(self._key, f"{name}\0{password}".encode(), hashlib.sha256)
        now_s = self._clock.seconds()
        if self._logins.get(key, 0.0) > now_s:
            return True
        try:
            is_right = await self._verifier.verify(name, password.encode())
        except TooManyVerifications:
            raise HTTPError(503, "too many logins at once", headers={"Retry-After": "1"}) from None
        if is_right:
            if len(self._logins) >= REMEMBERED_LOGINS:
                self._logins.clear()
            self._logins[key] = now_s + REMEMBERED_S
        return is_right

    def _refusal(self, name: str, address: str, why: str) -> HTTPError:
        is_too_many = self._throttle.failed(address) > 0
        self._failed(name, address, is_too_many)
        if is_too_many:
            return HTTPError(429, "too many failed logins", headers={"Retry-After": str(int(WINDOW_S))})
        return HTTPError(401, why, headers={"WWW-Authenticate": CHALLENGE})


def _read_basic(value: str) -> tuple[str, str]:
    try:
        name, colon, password = b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        colon = ""
    if not colon:
        raise HTTPError(401, "the Basic credentials can't be read", headers={"WWW-Authenticate": CHALLENGE})
    return name, password
