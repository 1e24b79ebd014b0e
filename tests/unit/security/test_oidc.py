"""
Tokens of an identity provider: what is accepted, what must never be, and when keys are fetched.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pacs.security.access import Role
from pacs.security.oidc.errors import BadToken, FetchFailed, KeysUnavailable
from pacs.security.oidc.keys import KEPT_S, LEAST_PAUSE_S, RENEWED_AFTER_S, ProviderKeys
from pacs.security.oidc.tokens import TokenVerifier, VerifiedToken

ISSUER = "https://id.example.org/realm"
NOW_S = 1_800_000_000.0
RSA = RSAKey.generate_key(2048, auto_kid=True)
EC = ECKey.generate_key("P-256", auto_kid=True)
OTHER = RSAKey.generate_key(2048, auto_kid=True)
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": ["x", "pacs"], "exp": NOW_S + 300, "sub": "jane", "roles": ["viewer"]}


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class ProviderTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW_S)
        self.keys: list[Any] = [RSA, EC]
        self.fetched: list[str] = []
        self.is_away = False
        self.waits_for: Deferred[None] | None = None
        self.provider = ProviderKeys(issuer=ISSUER, jwks_url="", fetch=self.fetch, clock=self.clock)
        self.verifier = TokenVerifier(
            issuer=ISSUER, audience="pacs", roles_claim="roles", keys=self.provider, now_s=self.clock.seconds
        )

    async def fetch(self, url: str) -> dict[str, Any]:
        self.fetched.append(url)
        if self.waits_for is not None:
            await self.waits_for
        if self.is_away:
            raise FetchFailed("nobody is there")
        if url.endswith("/.well-known/openid-configuration"):
            return {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}
        return dict(KeySet(self.keys).as_dict(private=False))

    def token(
        self, key: Any = RSA, algorithm: str = "RS256", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        values = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
        head = {"alg": algorithm, "kid": key.kid} if header is None else header
        return jwt.encode(head, values, key, algorithms=[algorithm])

    def verify(self, token: str) -> VerifiedToken:
        return self.successResultOf(Deferred.fromCoroutine(self.verifier.verify(token)))

    def refusal(self, token: str) -> str:
        return str(self.failureResultOf(Deferred.fromCoroutine(self.verifier.verify(token)), BadToken).value)


class TokenTests(ProviderTestCase):
    def test_tokens_that_are_right_are_accepted(self) -> None:
        expected = VerifiedToken("jane", Role.VIEWER, NOW_S + 300)
        for key, algorithm in ((RSA, "RS256"), (RSA, "PS256"), (EC, "ES256")):
            self.assertEqual(self.verify(self.token(key, algorithm)), expected)
        self.assertEqual(self.verify(self.token(header={"alg": "RS256"})), expected)  # without kid: every key is tried
        self.assertEqual(self.verify(self.token(aud="pacs")), expected)

    def test_claims_that_are_wrong_or_missing_are_refused(self) -> None:
        wrong: tuple[tuple[str, Any], ...] = (
            ("iss", "https://id.example.org/other"),
            ("iss", None),
            ("aud", ["x"]),
            ("aud", None),
            ("exp", NOW_S - 31),
            ("exp", None),
            ("exp", "tomorrow"),
            ("nbf", NOW_S + 31),
        )
        for name, value in wrong:
            with self.subTest(claim=name, value=value):
                why = self.refusal(self.token(**{name: value}))
                self.assertIn("the token is refused", why)
                self.assertNotIn("jane", why)

    def test_nothing_but_a_signature_of_the_provider_passes(self) -> None:
        payload = base64url(json.dumps(CLAIMS).encode())
        unsigned = f"{base64url(json.dumps({'alg': 'none'}).encode())}.{payload}."
        signed = f"{base64url(json.dumps({'alg': 'HS256', 'kid': RSA.kid}).encode())}.{payload}"
        by_public_key = f"{signed}.{base64url(hmac.digest(RSA.as_pem(private=False), signed.encode(), 'sha256'))}"
        head, body, _ = self.token().split(".")
        other_head, other_body, other_signature = self.token(OTHER, header={"alg": "RS256", "kid": RSA.kid}).split(".")
        for token in (
            unsigned,
            by_public_key,
            f"{head}.{body}.",
            f"{head}.{payload}.{self.token().split('.')[2]}",
            f"{other_head}.{other_body}.{other_signature}",
            self.token(OTHER, header={"alg": "RS256"}),
            self.token(OTHER),
            f"{base64url(json.dumps({'alg': 'ES256', 'kid': RSA.kid}).encode())}.{body}.AAAA",
            f"{base64url(json.dumps({'alg': ['RS256'], 'kid': {}}).encode())}.{body}.AAAA",
            self.token(RSA, "RS512", header={"alg": "RS512", "kid": RSA.kid}),
            "a.b.c",
            "..",
            "",
            "\udc80.x.y",
            "e" * 20_000,
        ):
            with self.subTest(token=token[:40]):
                self.refusal(token)

    def test_the_highest_role_that_a_token_names_counts(self) -> None:
        for roles, expected in (
            (["viewer", "administrator", "unknown"], Role.ADMINISTRATOR),
            ("openid technologist", Role.TECHNOLOGIST),
            (["Administrator"], Role.NONE),
            ([], Role.NONE),
            ({"a": 1}, Role.NONE),
            (None, Role.NONE),
        ):
            self.assertEqual(self.verify(self.token(roles=roles)).role, expected)

    def test_a_token_that_was_right_is_looked_at_again_after_it_has_expired(self) -> None:
        token = self.token(exp=NOW_S + 40)
        self.verify(token)
        self.verify(token)
        self.clock.advance(75)
        self.refusal(token)


class KeyTests(ProviderTestCase):
    def test_keys_are_fetched_once_and_again_after_an_hour(self) -> None:
        self.verify(self.token())
        self.verify(self.token(sub="joe"))
        self.assertEqual(self.fetched, [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/jwks"])
        self.clock.advance(RENEWED_AFTER_S)
        self.verify(self.token(exp=NOW_S + 9000))
        self.assertEqual(len(self.fetched), 4)

    def test_an_unknown_key_is_looked_for_once_a_minute(self) -> None:
        self.verify(self.token())
        self.keys = [OTHER]
        self.refusal(self.token(OTHER))  # the keys are less than a minute old
        self.assertEqual(len(self.fetched), 2)
        self.clock.advance(LEAST_PAUSE_S)
        self.verify(self.token(OTHER))
        self.assertEqual(len(self.fetched), 4)
        for _ in range(5):
            self.refusal(self.token(RSA, sub="joe"))
        self.assertEqual(len(self.fetched), 4)

    def test_while_the_provider_is_away_its_keys_serve_for_a_day(self) -> None:
        self.verify(self.token())
        self.is_away = True
        self.clock.advance(KEPT_S - 1)
        self.verify(self.token(exp=NOW_S + 2 * KEPT_S))
        self.clock.advance(61)
        self.failureResultOf(
            Deferred.fromCoroutine(self.verifier.verify(self.token(exp=NOW_S + 3 * KEPT_S))), KeysUnavailable
        )
        self.flushLoggedErrors()

    def test_many_requests_wait_for_one_answer_and_one_that_goes_away_disturbs_nobody(self) -> None:
        answer: Deferred[None] = Deferred()
        self.waits_for = answer
        waiting = [Deferred.fromCoroutine(self.verifier.verify(self.token(sub=f"s{i}"))) for i in range(3)]
        self.assertEqual(len(self.fetched), 1)
        waiting[0].addErrback(lambda _: None)
        waiting[0].cancel()
        self.waits_for = None
        answer.callback(None)
        self.assertEqual([self.successResultOf(d).name for d in waiting[1:]], ["s1", "s2"])
        self.assertEqual(len(self.fetched), 2)

    def test_metadata_of_another_issuer_and_secret_keys_are_not_used(self) -> None:
        async def other(url: str) -> dict[str, Any]:
            return {"issuer": "https://evil.example.org", "jwks_uri": "https://evil.example.org/jwks"}

        async def secret(url: str) -> dict[str, Any]:
            return {"keys": [OctKey.generate_key(256).as_dict(private=True), 7]}

        keys = ProviderKeys(issuer=ISSUER, jwks_url="", fetch=other, clock=self.clock)
        self.failureResultOf(Deferred.fromCoroutine(keys.find(None, "RS256")), KeysUnavailable)
        keys = ProviderKeys(issuer=ISSUER, jwks_url="https://x/jwks", fetch=secret, clock=self.clock)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(keys.find(None, "RS256"))), ())
