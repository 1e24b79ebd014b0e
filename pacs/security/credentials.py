"""
Users and their passwords: argon2id hashes, verified in a bounded pool of threads, so that a flood of logins costs
neither the reactor nor the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

MEMORY_KIB: Final = 19456  # OWASP's least for argon2id: 19 MiB, two passes, one lane
PASSES: Final = 2
LANES: Final = 1
VERIFIERS: Final = 2
WAITING_VERIFICATIONS: Final = 32
LONGEST_PASSWORD_BYTES: Final = 1024

_HASHER: Final = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


def hash_password(password: str) -> str:
    """Give the argon2id hash of a password, with its salt and parameters."""
    return _HASHER.hash(password)


def is_password_hash(text: str) -> bool:
    """Whether a text is an argon2id hash that can be verified."""
    try:
        _HASHER.check_needs_rehash(text)
    except InvalidHashError:
        return False
    return text.startswith("$argon2id$")


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
            self._reactor, self._pool, _verify_in_thread, known or self._decoy, password
        )
        return verified.addBoth(self._done, known is not None)

    def _done(self, result: Any, is_known: bool) -> Any:
        self._waiting -= 1
        return result and is_known if isinstance(result, bool) else result


def _verify_in_thread(password_hash: str, password: bytes) -> bool:
    if len(password) > LONGEST_PASSWORD_BYTES:
        return False
    try:
        return _HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False
