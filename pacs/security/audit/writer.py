"""
The thread that writes the audit log: it seals what waits, writes and syncs it as one group, and notes the head.

A security event is written at once, with whatever waits before it; other messages gather for a quarter of a second.
When the log cannot be written the thread tries again each second, keeps what waits in order, and says so: the server
then stops serving patient data. What cannot be kept any longer is counted, and the count is recorded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from twisted.logger import Logger

from pacs.security.audit.builders import Builder
from pacs.security.audit.codes import AlertKind, Outcome
from pacs.security.audit.files import LogFile, last_line, log_files
from pacs.security.audit.head import HeadFile, read_head
from pacs.security.audit.messages import AuditMessage
from pacs.security.audit.records import BadRecord, Position, Record, load_key, read_line, seal

GROUP_S: Final = 0.25
LARGEST_GROUP: Final = 512
WAITING_MESSAGES: Final = 20_000
RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """
    Where the audit log is.

    Attributes:
        key_path: of the key; better on another file system than the log.
        rotate_bytes: a file that is longer is put aside.
    """

    log_path: Path
    key_path: Path
    head_path: Path
    reserve_bytes: int = 64 << 20
    rotate_bytes: int = 256 << 20


class AuditWriter:
    """
    The one writer of the audit log.

    Args:
        builder: for the messages that the writer itself has to report.
        changed: called in the thread when recording stops or goes on, with the reason; and when the reserve is short.
        written: called in the thread after each group.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        settings: AuditSettings,
        builder: Builder,
        changed: Callable[[bool, str], None],
        written: Callable[[Position], None],
    ) -> None:
        self._settings = settings
        self._builder = builder
        self._changed = changed
        self._written = written
        self._queue: deque[AuditMessage] = deque()
        self._has_news = threading.Event()
        self._is_due = threading.Event()
        self._knows_of_news = False
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-audit", daemon=True)
        self._stopping = threading.Event()
        self._file = LogFile(settings.log_path, reserve_bytes=settings.reserve_bytes)
        self._head: HeadFile | None = None
        self._key = b""
        self._end = Position()
        self._first_sequence = 1  # of the file that is written
        self._lost = 0
        self._is_failing = False
        self._had_reserve = True

    def start(self) -> None:
        """
        Open the log and begin to write; blocks for some milliseconds.

        Raises:
            AuditKeyError: the key can't be used.
            OSError: the log can't be opened.
        """
        for message in self._open():
            self.put(message)
        self._thread.start()

    @property
    def last_sequence(self) -> int:
        """The number of the last record that was written."""
        return self._end.sequence

    def stop(self) -> None:
        """Write what waits, then end; blocks until that is done."""
        self._stopping.set()
        self._is_due.set()
        self._has_news.set()
        if self._thread.is_alive():
            self._thread.join()

    def put(self, message: AuditMessage) -> None:
        """Have a message written; may be called from any thread."""
        if len(self._queue) >= WAITING_MESSAGES:
            self._lost += 1
            return
        self._queue.append(message)
        if message.is_urgent or len(self._queue) >= LARGEST_GROUP:
            self._is_due.set()
        if not self._knows_of_news:  # a thread that is woken for each message costs more than the message
            self._knows_of_news = True
            self._has_news.set()

    # -- opening

    def _open(self) -> list[AuditMessage]:
        """Take the chain up where it ends; give what has to be reported about it."""
        settings = self._settings
        files = log_files(settings.log_path)
        self._key = load_key(settings.key_path, may_make=not any(path.stat().st_size for path in files))
        alarms: list[str] = []
        end = self._end_of_files(files, alarms)
        try:
            head = read_head(self._key, settings.head_path)
        except BadRecord as error:
            alarms.append(str(error))
            head = None
        else:
            if head is None and end.sequence:
                alarms.append("the audit log's head file is missing")
        if head is not None and head.sequence > end.sequence:
            alarms.append(f"records {end.sequence + 1} to {head.sequence} of the audit log are missing")
            end = head  # the gap stays visible
        elif head is not None and head.sequence == end.sequence and head != end:
            alarms.append(f"record {end.sequence} of the audit log is not the one that was written")
        self._end = end
        self._head = HeadFile(settings.head_path, self._key)
        self._head.write(end, is_urgent=True)
        is_new = not settings.log_path.exists()
        unfinished = self._file.open()
        self._first_sequence = end.sequence + 1 if is_new else self._first_of(settings.log_path, end)
        if unfinished:
            alarms.append(f"an unfinished record of {unfinished} bytes was removed from the audit log's end")
        for alarm in alarms:
            self.log.error("audit log: {alarm}", alarm=alarm)
        return [self._alert(AlertKind.SECURITY_CONFIGURATION, alarm) for alarm in alarms]

    def _end_of_files(self, files: list[Path], alarms: list[str]) -> Position:
        for path in reversed(files):
            line, _ = last_line(path)
            if line:
                return self._position_of(line, alarms)
        return Position()

    def _position_of(self, line: bytes, alarms: list[str]) -> Position:
        try:
            return read_line(self._key, line).position
        except BadRecord as error:
            alarms.append(f"the audit log's last record is not sound: {error}")
        try:
            return read_line(None, line).position
        except BadRecord:
            return Position()

    def _first_of(self, path: Path, end: Position) -> int:
        with path.open("rb") as file:
            try:
                record: Record = read_line(None, file.readline().rstrip(b"\n"))
            except BadRecord:
                return end.sequence + 1
        return record.position.sequence

    # -- the thread

    def _run_in_thread(self) -> None:
        waiting: list[AuditMessage] = []
        while not (self._stopping.is_set() and not waiting and not self._queue):
            if not waiting:
                self._gather(waiting)
            if waiting and not self._try_to_write(waiting):
                if self._stopping.wait(RETRY_S) and not self._try_to_write(waiting):
                    self.log.critical("{count} audit messages could not be written and are lost", count=len(waiting))
                    break
            else:
                waiting = []
        self._close()

    def _gather(self, waiting: list[AuditMessage]) -> None:
        """Wait for messages, then until a group of them is due; take it."""
        self._has_news.wait()
        if not self._stopping.is_set():
            self._is_due.wait(GROUP_S)
        self._is_due.clear()
        while self._queue and len(waiting) < LARGEST_GROUP:
            waiting.append(self._queue.popleft())
        if not self._queue:
            self._knows_of_news = False
            self._has_news.clear()
        if self._queue or self._stopping.is_set():  # some came, or were left
            self._knows_of_news = True
            self._is_due.set()
            self._has_news.set()

    def _try_to_write(self, waiting: list[AuditMessage]) -> bool:
        try:
            self._write(waiting)
        except OSError as error:
            if not self._is_failing:
                self._is_failing = True
                self.log.critical(
                    "the audit log cannot be written: {reason}; patient data is not served until it can",
                    reason=error.strerror or str(error),
                )
                self._changed(False, f"the audit log cannot be written: {error.strerror or error}")
                stopped = self._alert(AlertKind.AUDIT_RECORDING_STOPPED, f"the audit log failed: {error.strerror}")
                waiting.insert(0, stopped)
            return False
        return True

    def _write(self, waiting: list[AuditMessage]) -> None:
        disturbance = self._file.disturbance() if self._file.is_open else ""
        if disturbance or not self._file.is_open:
            self._file.close()
            self._file.open()
        if self._file.length >= self._settings.rotate_bytes:
            self._file.put_aside(self._first_sequence)
            self._first_sequence = self._end.sequence + 1
            self._file.open()
        messages = [*waiting]
        if disturbance:
            self.log.error("{disturbance}", disturbance=disturbance)
            messages.insert(0, self._alert(AlertKind.SECURITY_CONFIGURATION, disturbance))
        if self._is_failing:
            messages.append(self._alert(AlertKind.AUDIT_RECORDING_STARTED, "the audit log is written again"))
        lost, self._lost = self._lost, 0
        if lost:
            messages.append(self._alert(AlertKind.AUDIT_RECORDING_STOPPED, f"{lost} audit messages were lost"))
        end, lines = self._end, []
        for message in messages:
            line, end = seal(self._key, end, message, self._builder.ae_title)
            lines.append(line)
        try:
            self._file.append(b"\n".join(lines) + b"\n")
        except OSError:
            self._lost += lost
            raise
        self._end = end
        self._note_head(is_urgent=any(message.is_urgent for message in messages))
        self._look_at_state()
        self._written(end)

    def _note_head(self, *, is_urgent: bool) -> None:
        assert self._head is not None
        try:
            self._head.write(self._end, is_urgent=is_urgent)
        except OSError as error:  # the records are safe; only cutting them off would be noticed later
            self.log.error("the audit log's head cannot be noted: {reason}", reason=error.strerror or str(error))

    def _look_at_state(self) -> None:
        has_reserve = self._file.has_reserve
        if self._is_failing or has_reserve != self._had_reserve:
            if self._is_failing:
                self.log.info("the audit log is written again")
            self._is_failing = False
            self._had_reserve = has_reserve
            self._changed(True, "" if has_reserve else "the reserve of the audit log cannot be allocated: disk full")

    def _alert(self, kind: AlertKind, description: str) -> AuditMessage:
        return self._builder.security_alert(
            kind,
            description,
            outcome=Outcome.SERIOUS_FAILURE,
            party=None,
            subject=self._settings.log_path.as_uri() if self._settings.log_path.is_absolute() else "",
        )

    def _close(self) -> None:
        try:
            self._file.close()
            if self._head is not None:
                self._head.close()
        except OSError as error:
            self.log.error("the audit log did not close cleanly: {reason}", reason=error.strerror or str(error))
