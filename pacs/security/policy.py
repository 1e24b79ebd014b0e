"""
The access policy: which calling AE titles may associate, and which role a caller has. DIMSE and HTTP share it.

The first grant whose every condition matches decides; a verified user has the user's own role; who matches no grant has
the default role. What a decision rests on is told as a key of the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from pacs.security.access import Origin, Principal, Role

Network = IPv4Network | IPv6Network

Place = tuple[str | int, ...]
"""A key of the configuration, a part for each level."""

_ACCESS_CONTROL = ("security", "access_control")
ENABLED: Place = (*_ACCESS_CONTROL, "enabled")
DEFAULT_ROLE: Place = (*_ACCESS_CONTROL, "default_role")
GRANTS: Place = (*_ACCESS_CONTROL, "grants")
USERS: Place = (*_ACCESS_CONTROL, "users")
OIDC: Place = ("rest_api", "authentication", "oidc")
ALLOWED_AE_TITLES: Place = ("security", "allowed_ae_titles")


def dotted(place: Place) -> str:
    """Give a key as people write it."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Patterns:
    """Names with the wildcards * and ?, nothing else; a name must match one of them as a whole."""

    def __init__(self, patterns: Iterable[str], *, ignores_case: bool = False) -> None:
        self._expressions = [
            re.compile(
                "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern),
                re.DOTALL | (re.IGNORECASE if ignores_case else 0),
            )
            for pattern in patterns
        ]

    def __bool__(self) -> bool:
        return bool(self._expressions)

    def match(self, name: str) -> bool:
        """Whether one of them matches."""
        return any(expression.fullmatch(name) for expression in self._expressions)


def parse_network(text: str) -> Network:
    """
    Read an address or a CIDR block.

    Raises:
        ValueError: it is none.
    """
    return ip_network(text, strict=False)


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)  # an IPv4 peer of a socket that listens on "::"
    return any(parsed in network or (mapped is not None and mapped in network) for network in networks)


class Grant:
    """
    A role, and who has it: every condition that is given must hold.

    Args:
        ae_titles: calling AE titles with wildcards.
        addresses: CIDR blocks.
        certificate_names: with wildcards, names in the verified client certificate.
    """

    def __init__(
        self,
        role: Role,
        *,
        ae_titles: Sequence[str] = (),
        addresses: Sequence[str] = (),
        certificate_names: Sequence[str] = (),
    ) -> None:
        self.role = role
        self._ae_titles = Patterns(ae_titles)
        self._networks = [parse_network(address) for address in addresses]
        self._certificate_names = Patterns(certificate_names, ignores_case=True)

    def matches(self, ae_title: str, origin: Origin) -> bool:
        """Whether every condition holds."""
        return (
            (not self._ae_titles or self._ae_titles.match(ae_title))
            and (not self._networks or _is_in(origin.peer_address, self._networks))
            and (not self._certificate_names or any(map(self._certificate_names.match, origin.certificate_names)))
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """
    A role, and why.

    Attributes:
        place: the key of the configuration that decided.
    """

    role: Role
    place: Place


class AccessPolicy:
    """
    Decides who may associate and which role a caller has.

    Args:
        is_enabled: else everybody is an administrator.
        allowed_ae_titles: with wildcards; empty allows all.
        user_roles: by the user's name, in the order of the configuration.
    """

    def __init__(
        self,
        *,
        is_enabled: bool,
        default_role: Role,
        grants: Sequence[Grant],
        allowed_ae_titles: Sequence[str] = (),
        user_roles: Sequence[tuple[str, Role]] = (),
    ) -> None:
        self._is_enabled = is_enabled
        self._default_role = default_role
        self._grants = tuple(grants)
        self._allowed_ae_titles = Patterns(allowed_ae_titles)
        self._users = {name: Decision(role, (*USERS, i)) for i, (name, role) in enumerate(user_roles)}
        self._principal = lru_cache(maxsize=1024)(self._make_principal)  # peers come again and again

    @property
    def is_enabled(self) -> bool:
        """Whether roles are looked at; else everybody is an administrator."""
        return self._is_enabled

    def may_associate(self, ae_title: str) -> bool:
        """Whether a calling AE title is allowed at all."""
        return not self._allowed_ae_titles or self._allowed_ae_titles.match(ae_title)

    def decide(self, ae_title: str, origin: Origin, *, user: str | None = None) -> Decision:
        """
        Give the role of a caller.

        Args:
            user: whose passcode or token was verified; the user's role decides then.
        """
        if not self._is_enabled:
            return Decision(Role.ADMINISTRATOR, ENABLED)
        if user is not None and user in self._users:
            return self._users[user]
        for index, grant in enumerate(self._grants):
            if grant.matches(ae_title, origin):
                return Decision(grant.role, (*GRANTS, index))
        return Decision(self._default_role, DEFAULT_ROLE)

    def principal(self, ae_title: str, origin: Origin, *, user: str | None = None) -> Principal:
        """Give who asks over DIMSE."""
        return self._principal(ae_title, origin, user)

    def principal_of_token(self, name: str, origin: Origin, *, user: str, role: Role) -> Principal:
        """Give who asks with a token of the identity provider, which says the role."""
        decision = Decision(role, OIDC) if self._is_enabled else Decision(Role.ADMINISTRATOR, ENABLED)
        return _principal(name, origin, user, decision)

    def _make_principal(self, ae_title: str, origin: Origin, user: str | None) -> Principal:
        return _principal(ae_title, origin, user, self.decide(ae_title, origin, user=user))


def _principal(name: str, origin: Origin, user: str | None, decision: Decision) -> Principal:
    return Principal(
        name=name,
        peer_address=origin.peer_address,
        role=decision.role,
        because=dotted(decision.place),
        user=user,
        is_encrypted=origin.is_encrypted,
        certificate_names=origin.certificate_names,
    )
