"""
The audit log as the rest of the server sees it: one function for each thing that must be recorded.

Every function returns at once and may be called from any thread; a thread of the log writes. Security alerts that
repeat, and failed logins that do, are recorded once a minute, with their number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pacs.security.audit.builders import LONGEST_NAME, LONGEST_SUBJECT, Builder, Party
from pacs.security.audit.codes import AlertKind, Outcome
from pacs.security.audit.messages import AuditMessage
from pacs.security.audit.records import Position
from pacs.security.audit.writer import AuditSettings, AuditWriter

REPEAT_INTERVAL_S: Final = 60.0
REMEMBERED_ALERTS: Final = 10_000
LOOK_INTERVAL_S: Final = 5.0
CLOCK_STEP_S: Final = 2.0
HEAD_INTERVAL_S: Final = 3600.0


_Repeated = tuple[AlertKind | None, str, str]
"""The kind of an alert, or None for a failed login; whose it is; what it says, and of what or whom."""


class AuditLog:
    """
    Records what happened.

    Attributes:
        is_recording: False while the log cannot be written; patient data must not be served then.
        reason: why not, or what else is the matter.

    Args:
        changed: called in the reactor's thread when `is_recording` or `reason` changed.
        written: called in the reactor's thread after records were written, with the end of the chain.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        settings: AuditSettings,
        builder: Builder,
        reactor: Any,
        changed: Callable[[bool, str], None],
        written: Callable[[Position], None] = lambda _: None,
        wall_clock_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.build = builder
        self.is_recording = True
        self.reason = ""
        self._reactor = reactor
        self._changed_outside = changed
        self._wall_clock_s = wall_clock_s
        self._monotonic_s = monotonic_s
        self._skew_s: float | None = None
        self._lock = threading.Lock()
        self._repeated: dict[_Repeated, tuple[float, int]] = {}
        self._writer = AuditWriter(
            settings=settings,
            builder=builder,
            changed=lambda is_recording, reason: reactor.callFromThread(self._changed, is_recording, reason),
            written=lambda end: reactor.callFromThread(self._written, end),
        )
        self._written_outside = written
        self._end = self._told_end = Position()
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._telling = LoopingCall(self.tell_head)
        self._telling.clock = reactor

    def start(self) -> None:
        """
        Open the log; blocks for some milliseconds.

        Raises:
            AuditKeyError, OSError: it can't be opened.
        """
        self._writer.start()
        self._looking.start(LOOK_INTERVAL_S, now=True)
        self._telling.start(HEAD_INTERVAL_S, now=False)

    @property
    def last_sequence(self) -> int:
        """The number of the last record that was written."""
        return self._writer.last_sequence

    def stop(self) -> None:
        """Write what waits and close; blocks, so it is called in a thread."""
        self._tell_repeated(float("inf"))
        self._writer.stop()

    def stop_looking(self) -> None:
        """Stop what runs in the reactor's thread; before `stop`."""
        for call in (self._looking, self._telling):
            if call.running:
                call.stop()

    def put(self, message: AuditMessage) -> None:
        """Record a message."""
        self._writer.put(message)

    # -- what other rooms report themselves

    def security_alert(
        self,
        kind: AlertKind,
        description: str,
        *,
        user: str = "",
        peer_address: str = "",
        subject: str = "",
        outcome: Outcome = Outcome.MINOR_FAILURE,
    ) -> None:
        """
        Record that somebody must be told (PS3.15 A.5.3.11); the same of one peer once a minute.

        Args:
            description: what happened, without patient data.
            user: AE title or name of who did it.
            subject: what it was done to; the UID of an object, a path, an operation.
        """
        subject = subject[:LONGEST_SUBJECT]
        if self._is_repetition((kind, peer_address or user, f"{description}\0{subject}")):
            return
        party = Party(user, peer_address) if user or peer_address else None
        self.put(self.build.security_alert(kind, description, outcome=outcome, party=party, subject=subject))

    def user_authentication(
        self, user: str, *, peer_address: str, is_success: bool, is_login: bool = True, description: str = ""
    ) -> None:
        """
        Record that a person or a program logged in or out, or failed to (PS3.15 A.5.3.12).

        The same failure of one user at one address is recorded once a minute, with its number.
        """
        user = user[:LONGEST_NAME]
        if not is_success and self._is_repetition((None, peer_address, f"{description}\0{user}")):
            return
        party = Party(user or "unknown", peer_address, is_user=True)
        outcome = Outcome.SUCCESS if is_success else Outcome.MINOR_FAILURE
        self.put(self.build.user_authentication(party, is_login=is_login, outcome=outcome, description=description))

    def audit_log_used(self, user: str, *, peer_address: str = "") -> None:
        """Record that somebody reads this log (PS3.15 A.5.3.2)."""
        uri = self.settings.log_path.absolute().as_uri()
        self.put(self.build.audit_log_used(Party(user, peer_address, is_user=True), uri))

    def tell_head(self) -> None:
        """
        Note in the server's log how far this one goes, hourly and at the end (RELIABILITY G3).

        Whoever cuts records off, and changes the head file with the key in his hands, does not reach that log.
        """
        end = self._end
        if end != self._told_end:
            self._told_end = end
            self.log.info(
                "the audit log goes to record {sequence}, SHA-256 {sha256}", sequence=end.sequence, sha256=end.sha256
            )

    # -- within

    def _written(self, end: Position) -> None:
        self._end = end
        self._written_outside(end)

    def _is_repetition(self, key: _Repeated) -> bool:
        """Count what was recorded within the last minute already."""
        with self._lock:
            seen = self._repeated.get(key)
            if seen is not None:
                self._repeated[key] = (seen[0], seen[1] + 1)
                return True
            if len(self._repeated) < REMEMBERED_ALERTS:
                self._repeated[key] = (self._monotonic_s(), 0)
        return False

    def _look(self) -> None:
        self._tell_repeated(self._monotonic_s() - REPEAT_INTERVAL_S)
        skew_s = self._wall_clock_s() - self._monotonic_s()
        before_s, self._skew_s = self._skew_s, skew_s
        if before_s is not None and abs(skew_s - before_s) > CLOCK_STEP_S:
            self.security_alert(
                AlertKind.SOFTWARE_CONFIGURATION,
                f"the clock was set by {skew_s - before_s:+.0f} s",
                outcome=Outcome.SUCCESS,
            )

    def _tell_repeated(self, before_s: float) -> None:
        """Say how often an alert was repeated, and forget it."""
        with self._lock:
            over = [(key, count) for key, (first_s, count) in self._repeated.items() if first_s <= before_s]
            for key, _ in over:
                del self._repeated[key]
        for (kind, who, what), count in over:
            description, _, subject = what.partition("\0")
            if count:
                self.put(self._summary(kind, who, f"{description} ({count} more of the same)", subject))

    def _summary(self, kind: AlertKind | None, who: str, description: str, subject: str) -> AuditMessage:
        outcome = Outcome.MINOR_FAILURE
        if kind is None:
            user = Party(subject or "unknown", who, is_user=True)
            return self.build.user_authentication(user, is_login=True, outcome=outcome, description=description)
        party = Party("", who) if who else None
        return self.build.security_alert(kind, description, outcome=outcome, party=party, subject=subject)

    def _changed(self, is_recording: bool, reason: str) -> None:
        self.is_recording = is_recording
        self.reason = reason
        self._changed_outside(is_recording, reason)
