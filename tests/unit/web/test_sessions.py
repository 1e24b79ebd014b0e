"""
When a session ends by itself, and what a cookie may be.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pacs.security.access import Principal, Role
from pacs.web.request import WebRequest
from pacs.web.sessions import IDLE_S, LONGEST_S, MOST_SESSIONS, Identity, SessionRegistry, origin_of

JANE = Identity(Principal("jane", "10.0.0.1", Role.VIEWER), "HTTP token")


class Asked:
    """What a session needs to see of a request."""

    method = b"GET"

    def __init__(self, **headers: str) -> None:
        self.headers = headers

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    def isSecure(self) -> bool:
        return False


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = SessionRegistry(is_encrypted=False, public_origin="https://pacs.example", clock=self.clock)

    def _begin(self, identity: Identity = JANE) -> str:
        return self.sessions.begin(identity).partition(";")[0]

    def _find(self, cookie: str, **headers: str) -> Any:
        return self.sessions.find(cast(WebRequest, Asked(cookie=cookie, **headers)), "10.0.0.2")

    def test_a_session_ends_when_it_is_not_used_and_after_half_a_day_in_any_case(self) -> None:
        idle, busy = self._begin(), self._begin()
        self.clock.advance(IDLE_S)
        self.assertIsNotNone(self._find(busy))
        self.clock.advance(1)
        self.assertIsNone(self._find(idle))
        self.assertIsNotNone(self._find(busy))
        for _ in range(int(LONGEST_S / IDLE_S) - 2):
            self.clock.advance(IDLE_S)
            self.assertIsNotNone(self._find(busy))
        self.clock.advance(IDLE_S)
        self.assertIsNone(self._find(busy))

    def test_who_asks_is_who_began_it_at_the_address_of_now(self) -> None:
        found = self._find(self._begin())
        self.assertEqual((found.principal.name, found.principal.peer_address), ("jane", "10.0.0.2"))

    def test_it_ends_with_its_credentials(self) -> None:
        is_valid = [True]
        cookie = self._begin(Identity(JANE.principal, JANE.method, lambda: is_valid[0]))
        self.assertIsNotNone(self._find(cookie))
        is_valid[0] = False
        self.assertIsNone(self._find(cookie))

    def test_cookies_that_are_none_of_ours_are_nobody(self) -> None:
        cookie = self._begin()
        for text in ("", "pacs_session", "pacs_session=", "a=b;;=;", "pacs_session=\udc80", cookie[:-1], cookie + "x",
                     f"x={cookie}", "a" * 10_000):  # fmt: skip
            self.assertIsNone(self._find(text))

    def test_beyond_a_number_the_one_that_was_not_used_for_longest_ends(self) -> None:
        first, second = self._begin(), self._begin()
        self._find(first)
        for _ in range(MOST_SESSIONS - 1):
            self._begin()
        self.assertIsNotNone(self._find(first))
        self.assertIsNone(self._find(second))

    def test_the_public_url_gives_an_origin(self) -> None:
        self.assertEqual(origin_of("https://PACS.example/archive/"), "https://pacs.example")
        self.assertEqual(origin_of(""), "")
        request = cast(WebRequest, Asked(origin="https://pacs.example", host="10.0.0.1:8080"))
        self.sessions.check_origin(request)
