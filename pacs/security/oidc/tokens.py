"""
JSON Web Tokens of the identity provider: is one right, whose is it, and which role does it give (RFC 7519, RFC 8725)?

Algorithms are a closed list of asymmetric ones: `none`, and HMAC with a public key as secret, can't pass. Issuer,
audience and expiry must be there and right.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from joserfc import jwt
from joserfc.errors import JoseError

from pacs.security.access import Role, highest_role
from pacs.security.oidc.errors import BadToken
from pacs.security.oidc.keys import Algorithm, ProviderKeys

ALGORITHMS: Final = get_args(Algorithm)
LONGEST_TOKEN: Final = 16_384
LEEWAY_S: Final = 30
LONGEST_NAME: Final = 64
REMEMBERED_TOKENS: Final = 1000
REMEMBERED_S: Final = 60.0
NAMES: Final = ("preferred_username", "email", "sub")
_ROLES: Final[Mapping[str, Role]] = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """
    What a token says.

    Attributes:
        name: of its holder, for people.
        role: the highest of ours that it names; `NONE` when it names none.
        expires_at_s: seconds since 1970.
    """

    name: str
    role: Role
    expires_at_s: float


class TokenVerifier:
    """
    Verifies tokens; what was right a moment ago is remembered, so that a request costs no signature.

    Args:
        roles_claim: the claim with the roles; dots lead into objects, as in `realm_access.roles`.
        now_s: seconds since 1970.
    """

    def __init__(
        self, *, issuer: str, audience: str, roles_claim: str, keys: ProviderKeys, now_s: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._roles_claim = roles_claim
        self._now_s = now_s
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(now_s()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )
        self._verified: OrderedDict[bytes, tuple[float, VerifiedToken]] = OrderedDict()

    async def verify(self, token: str) -> VerifiedToken:
        """
        Verify a token.

        Raises:
            BadToken: it is not one that we accept.
            KeysUnavailable: that can't be told at present.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        until_s, verified = self._verified.get(digest, (0.0, None))
        if verified is not None and self._now_s() < until_s:
            return verified
        verified = await self._verify(token)
        self._verified[digest] = (min(self._now_s() + REMEMBERED_S, verified.expires_at_s), verified)
        if len(self._verified) > REMEMBERED_TOKENS:
            self._verified.popitem(last=False)
        return verified

    async def _verify(self, token: str) -> VerifiedToken:
        if len(token) > LONGEST_TOKEN:
            raise BadToken(f"the token has more than {LONGEST_TOKEN} characters")
        header = _header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise BadToken(f"the token is not signed by {', '.join(ALGORITHMS)}")
        if not isinstance(key_id, str | None):
            raise BadToken("the token's header can't be read")
        keys = await self._keys.find(key_id, cast(Algorithm, algorithm))
        if not keys:
            raise BadToken("the token is signed with a key that the identity provider does not have")
        return self._read(_decoded(token, keys, algorithm))

    def _read(self, claims: dict[str, Any]) -> VerifiedToken:
        try:
            self._claims.validate(claims)
        except JoseError as error:
            claim = getattr(error, "claim", "")
            raise BadToken(f"the token is refused: {error.error}{f' ({claim})' if claim else ''}") from None
        return VerifiedToken(_name(claims), _role(claims, self._roles_claim), float(claims["exp"]))


def _header(token: str) -> dict[str, Any]:
    try:
        part = token.split(".", 1)[0].encode("ascii")
        header = json.loads(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise BadToken("it is no JSON Web Token")
    return header


def _decoded(token: str, keys: tuple[Any, ...], algorithm: str) -> dict[str, Any]:
    for key in keys:
        try:
            return dict(jwt.decode(token, key, algorithms=[algorithm]).claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            continue
    raise BadToken("the token's signature is wrong")


def _name(claims: Mapping[str, Any]) -> str:
    for claim in NAMES:
        value = claims.get(claim)
        if isinstance(value, str) and value:
            return "".join(c for c in value if c.isprintable())[:LONGEST_NAME] or "unknown"
    return "unknown"


def _role(claims: Mapping[str, Any], path: str) -> Role:
    """Give the highest role that a claim names, as a list or as words with spaces between them."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return highest_role(_ROLES[word] for word in words if isinstance(word, str) and word in _ROLES)
