"""
Who may associate, and as whom: the policy's allowed AE titles and roles, and user identity negotiation (PS3.7 D.3.3.7).

A bare user name (type 1) raises no role: anybody may claim one. A user name and passcode (type 2) gives the role of the
user, over TLS unless the configuration allows the clear; so does a JSON Web Token (type 5) of the identity provider, if
one is configured. Kerberos and SAML (3, 4) are logged and ignored, as D.3.3.7 allows: the association is accepted
without a positive response.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pacs.monitoring.logs import RateLimited
from pacs.security.access import Origin, Principal
from pacs.security.credentials import PasswordVerifier, TooManyVerifications
from pacs.security.logins import LoginReporter
from pacs.security.oidc.errors import BadToken, KeysUnavailable
from pacs.security.policy import AccessPolicy
from pacs.security.throttle import FailureThrottle
from pacs.ul import AAssociateRQ, UserIdentity

if TYPE_CHECKING:
    from pacs.security.oidc.tokens import TokenVerifier  # costs memory where there is no identity provider

PERMANENT: Final = 1
TRANSIENT: Final = 2
SOURCE_USER: Final = 1
SOURCE_PRESENTATION: Final = 3
NO_REASON_GIVEN: Final = 1
TEMPORARY_CONGESTION: Final = 1
CALLING_AE_TITLE_NOT_RECOGNIZED: Final = 3

USER_NAME: Final = 1
USER_NAME_AND_PASSCODE: Final = 2
JSON_WEB_TOKEN: Final = 5
_KINDS: Final[Mapping[int, str]] = {2: "a passcode", 3: "Kerberos", 4: "SAML", 5: "JSON Web Token"}
_WHY_IGNORED: Final[Mapping[int, str]] = {
    2: "no users are configured",
    5: "rest_api.authentication.oidc is not configured",
}


_CREDENTIALS: Final[Mapping[int, str]] = {2: "user name and passcode", 5: "JSON Web Token"}
_METHODS: Final[Mapping[int, str]] = {2: "DICOM user name and passcode", 5: "DICOM JSON Web Token"}


class Rejection(Exception):
    """
    The association is refused (A-ASSOCIATE-RJ, PS3.8 9.3.4).

    Attributes:
        result, source, reason: the fields of the PDU.
        why: for the log and the event, without patient data.
        delay_s: how long the answer should wait.
    """

    def __init__(self, result: int, source: int, reason: int, why: str, *, delay_s: float = 0.0) -> None:
        super().__init__(why)
        self.result = result
        self.source = source
        self.reason = reason
        self.why = why
        self.delay_s = delay_s


@dataclass(frozen=True, slots=True)
class Admitted:
    """
    A peer that may associate.

    Attributes:
        identity_response: for the A-ASSOCIATE-AC; None gives no positive response (PS3.7 D.3.3.7.2).
    """

    principal: Principal
    identity_response: bytes | None = None


class Admission:
    """
    Decides on association requests.

    Args:
        tokens: verifies those of the identity provider, if there is one.
        logins: told who identified himself, and who could not.
        allows_passcodes_in_clear: verify passcodes and tokens that came without TLS.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        policy: AccessPolicy,
        verifier: PasswordVerifier,
        tokens: TokenVerifier | None,
        logins: LoginReporter,
        throttle: FailureThrottle,
        allows_passcodes_in_clear: bool,
        clock: IReactorTime,
    ) -> None:
        self._policy = policy
        self._verifier = verifier
        self._tokens = tokens
        self._logins = logins
        self._throttle = throttle
        self._allows_passcodes_in_clear = allows_passcodes_in_clear
        self._clock = clock
        self._ignored = RateLimited(clock=clock)

    def admit(self, request: AAssociateRQ, origin: Origin) -> Admitted | Deferred[Admitted]:
        """
        Decide on a request, at once unless a passcode is to be verified.

        Raises:
            Rejection: at once or from the Deferred.
        """
        if not self._policy.may_associate(request.calling_ae_title):
            raise Rejection(
                PERMANENT,
                SOURCE_USER,
                CALLING_AE_TITLE_NOT_RECOGNIZED,
                "security.allowed_ae_titles does not have the calling AE title",
                delay_s=self._throttle.failed(origin.peer_address),
            )
        identity = request.user_information.user_identity
        if identity is None:
            return self._admitted(request, origin)
        if identity.type in (USER_NAME, USER_NAME_AND_PASSCODE) and not identity.primary_field:
            raise self._refused("user identity without a user name", origin)
        if identity.type == USER_NAME:
            return self._admitted(request, origin, response=b"" if identity.is_response_requested else None)
        if identity.type == USER_NAME_AND_PASSCODE and self._verifier:
            return self._identified(request, origin, identity, self._verify_passcode)
        if identity.type == JSON_WEB_TOKEN and self._tokens is not None:
            return self._identified(request, origin, identity, self._verify_token)
        self._ignored.warn(
            self.log,
            f"{origin.peer_address} {identity.type}",
            "{calling_ae_title} from {peer_address} identifies a user by {kind}, which is ignored: {why}",
            calling_ae_title=request.calling_ae_title,
            peer_address=origin.peer_address,
            kind=_KINDS.get(identity.type, f"type {identity.type}"),
            why=_WHY_IGNORED.get(identity.type, "not supported"),
        )
        return self._admitted(request, origin)

    def _admitted(self, request: AAssociateRQ, origin: Origin, *, response: bytes | None = None) -> Admitted:
        return Admitted(self._policy.principal(request.calling_ae_title, origin), response)

    def _identified(
        self, request: AAssociateRQ, origin: Origin, identity: UserIdentity, verify: _Verify
    ) -> Deferred[Admitted]:
        if not (origin.is_encrypted or self._allows_passcodes_in_clear):
            raise self._refused(f"{_CREDENTIALS[identity.type]} in the clear, not over TLS", origin)
        return Deferred.fromCoroutine(self._verified(request, origin, identity, verify))

    async def _verified(
        self, request: AAssociateRQ, origin: Origin, identity: UserIdentity, verify: _Verify
    ) -> Admitted:
        delay_s = self._throttle.delay_s(origin.peer_address)
        if delay_s:
            waited: Deferred[None] = Deferred()
            self._clock.callLater(delay_s, waited.callback, None)
            await waited
        principal = await verify(request.calling_ae_title, origin, identity)
        self._logins.succeeded(principal.user or "", origin.peer_address, _METHODS[identity.type])
        return Admitted(principal, b"" if identity.is_response_requested else None)

    async def _verify_passcode(self, ae_title: str, origin: Origin, identity: UserIdentity) -> Principal:
        try:
            name = identity.primary_field.decode("utf-8")
        except UnicodeDecodeError:
            raise self._refused("user name is not UTF-8", origin) from None
        try:
            is_right = await self._verifier.verify(name, identity.secondary_field)
        except TooManyVerifications:
            raise _congested("too many passcodes wait to be verified") from None
        if not is_right:
            raise self._failed(name, origin, identity, "user name or passcode is wrong")
        return self._policy.principal(ae_title, origin, user=name)

    async def _verify_token(self, ae_title: str, origin: Origin, identity: UserIdentity) -> Principal:
        assert self._tokens is not None
        try:
            verified = await self._tokens.verify(identity.primary_field.decode("ascii", "replace"))
        except KeysUnavailable:
            raise _congested("the keys of the identity provider can't be had") from None
        except BadToken as error:
            raise self._failed("", origin, identity, str(error)) from None
        return self._policy.principal_of_token(ae_title, origin, user=verified.name, role=verified.role)

    def _failed(self, user: str, origin: Origin, identity: UserIdentity, why: str) -> Rejection:
        rejection = self._refused(why, origin)
        is_too_many = rejection.delay_s > 0
        self._logins.failed(user, origin.peer_address, _METHODS[identity.type], is_one_too_many=is_too_many)
        return rejection

    def _refused(self, why: str, origin: Origin) -> Rejection:
        return Rejection(
            PERMANENT, SOURCE_USER, NO_REASON_GIVEN, why, delay_s=self._throttle.failed(origin.peer_address)
        )


_Verify = Callable[[str, Origin, UserIdentity], Coroutine[Any, Any, Principal]]
"""Gives who a peer is: of its AE title, where it is and what it says; raises `Rejection`."""


def _congested(why: str) -> Rejection:
    return Rejection(TRANSIENT, SOURCE_PRESENTATION, TEMPORARY_CONGESTION, why)
