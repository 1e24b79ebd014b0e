"""
The public keys of the identity provider (RFC 7517): fetched when a token needs them, kept for a time.

They are renewed after an hour, and at once for a key that is not known, once a minute at most; while the provider can't
be reached they are used on for a day.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, Literal

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pacs.security.oidc.errors import FetchFailed, KeysUnavailable

RENEWED_AFTER_S: Final = 3600.0
KEPT_S: Final = 86_400.0
LEAST_PAUSE_S: Final = 60.0
RETRIED_AFTER_S: Final = 5.0  # while there are no keys at all
DISCOVERY: Final = "/.well-known/openid-configuration"
LEAST_RSA_BITS: Final = 2048

Fetch = Callable[[str], Awaitable[dict[str, Any]]]
Key = RSAKey | ECKey
Algorithm = Literal["RS256", "PS256", "ES256"]


class ProviderKeys:
    """
    Knows the provider's keys.

    Args:
        jwks_url: where they are; empty: the provider's metadata says where.
        fetch: gets a JSON document, or raises `FetchFailed`.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, issuer: str, jwks_url: str, fetch: Fetch, clock: IReactorTime) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._fetch = fetch
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._fetched_s = -KEPT_S
        self._tried_s = -KEPT_S
        self._waiting: list[Deferred[None]] | None = None

    async def find(self, key_id: str | None, algorithm: Algorithm) -> tuple[Key, ...]:
        """
        Give the keys that a token may be signed with; none when the provider has no such key.

        Raises:
            KeysUnavailable: there are no keys at all.
        """
        age_s = self._clock.seconds() - self._fetched_s
        if age_s >= RENEWED_AFTER_S:
            await self._renew(RETRIED_AFTER_S if age_s >= KEPT_S else LEAST_PAUSE_S)
            if self._clock.seconds() - self._fetched_s >= KEPT_S:
                raise KeysUnavailable
        found = self._fitting(key_id, algorithm)
        if not found:
            await self._renew(LEAST_PAUSE_S)
            found = self._fitting(key_id, algorithm)
        return found

    # -- within

    def _fitting(self, key_id: str | None, algorithm: Algorithm) -> tuple[Key, ...]:
        return tuple(key for key in self._keys if key_id in (None, key.kid) and _fits(key, algorithm))

    async def _renew(self, pause_s: float) -> None:
        """Fetch the keys, unless that was tried lately; who comes meanwhile waits for the same answer."""
        if self._waiting is not None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
            return
        now_s = self._clock.seconds()
        if now_s - self._tried_s < pause_s:
            return
        self._tried_s = now_s
        self._waiting = []
        fetching = Deferred.fromCoroutine(self._fetch_keys())  # it goes on when whoever asked first goes away
        fetching.addBoth(self._fetched)
        waiting = Deferred()
        if self._waiting is None:
            return
        self._waiting.append(waiting)
        await waiting

    async def _fetch_keys(self) -> None:
        try:
            url = self._jwks_url or await self._discover()
            self._keys = _read_keys(await self._fetch(url))
        except (FetchFailed, JoseError, ValueError, TypeError, KeyError) as error:
            self.log.error("the keys of the identity provider can't be had: {reason}", reason=str(error))
            return
        self._fetched_s = self._clock.seconds()
        self.log.info("{count} keys of the identity provider {issuer}", count=len(self._keys), issuer=self._issuer)

    def _fetched(self, result: Any) -> None:
        if result is not None:
            self.log.failure("the keys of the identity provider can't be had", result)
        waiting, self._waiting = self._waiting or [], None
        for deferred in waiting:
            if not deferred.called:  # canceled
                deferred.callback(None)

    async def _discover(self) -> str:
        document = await self._fetch(self._issuer.rstrip("/") + DISCOVERY)
        if document.get("issuer") != self._issuer:
            raise ValueError(f"the metadata of {self._issuer} are of another issuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not url.startswith(_schemes(self._issuer)):
            raise ValueError(f"the metadata of {self._issuer} have no jwks_uri over HTTPS")
        return url


def _schemes(issuer: str) -> tuple[str, ...]:
    return ("https://",) if issuer.startswith("https://") else ("https://", "http://")


def _read_keys(document: dict[str, Any]) -> tuple[Key, ...]:
    """Give the keys that signatures may be checked with; others, secret ones above all, are left out."""
    found: list[Key] = []
    for item in document["keys"]:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        try:
            match item.get("kty"):
                case "RSA":
                    found.append(RSAKey.import_key(item))
                case "EC":
                    found.append(ECKey.import_key(item))
        except (JoseError, ValueError, TypeError, KeyError):
            continue  # of a kind that we do not know
    return tuple(found)


def _fits(key: Key, algorithm: Algorithm) -> bool:
    if key.alg not in (None, algorithm):
        return False
    if isinstance(key, ECKey):
        return algorithm == "ES256" and key.curve_name == "P-256"
    return algorithm != "ES256" and key.public_key.key_size >= LEAST_RSA_BITS
