"""
The configured users' passwords, verified in a bounded pool of threads, so that a flood of logins costs neither the
reactor nor the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from pacs.security.passwords import hash_password, verify_in_thread

VERIFIERS: Final = 2
WAITING_VERIFICATIONS: Final = 32


class TooManyVerifications(Exception):
    """More logins wait than can be looked at in reasonable time."""


class PasswordVerifier:
    """
    Verifies the passwords of the configured users.

    Args:
        hashes: by the user's name.
    """

    def __init__(self, *, hashes: Mapping[str, str], reactor: Any) -> None:
        self._hashes = dict(hashes)
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=VERIFIERS, name="passwords")
        self._waiting = 0
        self._decoy = hash_password("") if hashes else ""

    def __bool__(self) -> bool:
        """Whether there is any user."""
        return bool(self._hashes)

    def start(self) -> None:
        """Begin to verify; before it, verifications wait."""
        self._pool.start()

    def stop(self) -> None:
        """Finish what runs."""
        self._pool.stop()

    def verify(self, name: str, password: bytes) -> Deferred[bool]:
        """
        Tell whether a password is the user's; an unknown user takes as long as a wrong password.

        Raises:
            TooManyVerifications: at once.
        """
        if self._waiting >= WAITING_VERIFICATIONS:
            raise TooManyVerifications
        self._waiting += 1
        known = self._hashes.get(name)
        verified: Deferred[bool] = deferToThreadPool(
            self._reactor, self._pool, verify_in_thread, known or self._decoy, password
        )
        return verified.addBoth(self._done, known is not None)

    def _done(self, result: Any, is_known: bool) -> Any:
        self._waiting -= 1
        return result and is_known if isinstance(result, bool) else result
