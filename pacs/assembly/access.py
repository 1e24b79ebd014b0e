"""
The access policy's part of the assembly: from the configuration to the policy that DIMSE and HTTP share, and to what
verifies who asks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime

from pacs.config import Configuration
from pacs.net.admission import Admission
from pacs.security.access import Role
from pacs.security.credentials import PasswordVerifier
from pacs.security.logins import LoginReporter
from pacs.security.policy import AccessPolicy, Grant
from pacs.security.throttle import FailureThrottle

if TYPE_CHECKING:
    from pacs.security.oidc.tokens import TokenVerifier


def access_policy(configuration: Configuration) -> AccessPolicy:
    """Give the policy of a configuration."""
    security = configuration.security
    control = security.access_control
    return AccessPolicy(
        is_enabled=control.enabled,
        default_role=Role(control.default_role),
        grants=[
            Grant(
                Role(grant.role),
                ae_titles=grant.ae_titles,
                addresses=grant.addresses,
                certificate_names=grant.certificate_names,
            )
            for grant in control.grants
        ],
        allowed_ae_titles=security.allowed_ae_titles,
        user_roles=[(user.name, Role(user.role)) for user in control.users],
    )


def password_verifier(configuration: Configuration, reactor: Any) -> PasswordVerifier:
    """Give what verifies the passwords of the configured users."""
    users = configuration.security.access_control.users
    return PasswordVerifier(
        hashes={user.name: user.password_hash.get_secret_value() for user in users}, reactor=reactor
    )


def token_verifier(configuration: Configuration, reactor: Any) -> TokenVerifier | None:
    """Give what verifies the identity provider's tokens, or None where there is no provider."""
    oidc = configuration.rest_api.authentication.oidc
    if oidc.issuer is None:
        return None
    from pacs.security.oidc.fetch import DocumentFetcher  # these cost memory
    from pacs.security.oidc.keys import ProviderKeys
    from pacs.security.oidc.tokens import TokenVerifier

    keys = ProviderKeys(
        issuer=oidc.issuer, jwks_url=oidc.jwks_url or "", fetch=DocumentFetcher(reactor=reactor), clock=reactor
    )
    return TokenVerifier(
        issuer=oidc.issuer, audience=oidc.audience or "", roles_claim=oidc.roles_claim, keys=keys, now_s=time.time
    )


def make_admission(
    configuration: Configuration,
    *,
    verifier: PasswordVerifier,
    tokens: TokenVerifier | None,
    logins: LoginReporter,
    clock: IReactorTime,
) -> Admission:
    """Build what decides on association requests."""
    return Admission(
        policy=access_policy(configuration),
        verifier=verifier,
        tokens=tokens,
        logins=logins,
        throttle=FailureThrottle(clock=clock),
        allows_passcodes_in_clear=configuration.security.access_control.passcodes_in_clear,
        clock=clock,
    )


class PasswordService(Service):
    """Runs the threads that verify passwords, when there are users."""

    def __init__(self, verifier: PasswordVerifier) -> None:
        self._verifier = verifier

    def startService(self) -> None:
        super().startService()
        self._verifier.start()

    def stopService(self) -> None:
        super().stopService()
        self._verifier.stop()
