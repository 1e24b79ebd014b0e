"""
Tells the audit log who logs in (PS3.15 A.5.3.12).

Over HTTP each request brings its credentials: a program that asks every second is one login, until it has been away for
a quarter of an hour.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted.internet.interfaces import IReactorTime

from pacs.events import EventBus, UserAuthenticated

AWAY_S: Final = 900.0
REMEMBERED_LOGINS: Final = 10_000


class LoginReporter:
    """Publishes logins, logouts and failures."""

    def __init__(self, *, bus: EventBus, clock: IReactorTime) -> None:
        self._bus = bus
        self._clock = clock
        self._seen: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def seen(self, user: str, address: str, method: str) -> None:
        """Right credentials came with a request: a login, unless they have come lately."""
        key, now_s = (user, address, method), self._clock.seconds()
        last_s = self._seen.pop(key, None)
        self._seen[key] = now_s
        if len(self._seen) > REMEMBERED_LOGINS:
            self._seen.popitem(last=False)
        if last_s is None or now_s - last_s > AWAY_S:
            self.succeeded(user, address, method)

    def succeeded(self, user: str, address: str, method: str) -> None:
        """Somebody logged in."""
        self._publish(user, address, method, is_success=True)

    def ended(self, user: str, address: str, method: str) -> None:
        """Somebody logged out."""
        self._publish(user, address, method, is_success=True, is_login=False)

    def failed(self, user: str, address: str, method: str, *, is_one_too_many: bool = False) -> None:
        """
        Somebody could not log in.

        Args:
            user: the name that was claimed, if any.
        """
        self._publish(user, address, method, is_success=False, is_one_too_many=is_one_too_many)

    def _publish(
        self,
        user: str,
        address: str,
        method: str,
        *,
        is_success: bool,
        is_login: bool = True,
        is_one_too_many: bool = False,
    ) -> None:
        if self._bus.has_subscribers(UserAuthenticated):
            self._bus.publish(
                UserAuthenticated(
                    user=user,
                    peer_address=address,
                    method=method,
                    is_success=is_success,
                    is_login=is_login,
                    is_one_too_many=is_one_too_many,
                )
            )
