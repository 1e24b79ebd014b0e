"""
The server's log: lines of text or JSON on standard output, made of `twisted.logger` events.

Every field that came from outside is escaped and cut, so that a peer can neither forge a line nor fill the disk.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

FIELD_CHARACTERS: Final = 256
REPEAT_INTERVAL_S: Final = 60.0
REMEMBERED_PEERS: Final = 10_000

_LEVELS: Final[Mapping[str, Any]] = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}
_BIDI_AND_SEPARATORS: Final = frozenset(
    "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_PLAIN_FIELDS: Final = (str, int, float, bool, type(None))


def escape(text: str) -> str:
    """Give a text without control characters or direction marks, cut at 256 characters."""
    if len(text) > FIELD_CHARACTERS:
        text = text[: FIELD_CHARACTERS - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character not in _BIDI_AND_SEPARATORS and unicodedata.category(character) != "Cc"
        else f"\\u{ord(character):04x}"
        for character in text
    )


def _safe_event(event: LogEvent) -> LogEvent:
    return {
        key: escape(value) if isinstance(value, str) and not key.startswith("log_") else value
        for key, value in event.items()
    }


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return ""
    return failure.getTraceback(elideFrameworkCode=False, detail="brief").rstrip()


def _message(event: LogEvent) -> str:
    text = formatEvent(_safe_event(event))
    return text if text.isascii() and text.isprintable() else "\n".join(map(_escape_line, text.splitlines()))


def _escape_line(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else f"\\u{ord(c):04x}" for c in line)


@implementer(ILogObserver)
class TextObserver:
    """One line an event: time in UTC, level, message; a failure's traceback, without values, below it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: LogEvent) -> None:
        when = datetime.fromtimestamp(event["log_time"], UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        lines = [f"{when}Z {event['log_level'].name:<5} {_message(event)}", _traceback(event)]
        self._out.write("\n".join(line for line in lines if line) + "\n")
        self._out.flush()


@implementer(ILogObserver)
class JSONObserver:
    """One JSON object an event, with its fields."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: LogEvent) -> None:
        when = datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds")
        record: dict[str, Any] = {
            "time": when.replace("+00:00", "Z"),
            "level": event["log_level"].name,
            "logger": event.get("log_namespace", ""),
            "message": _message(event),
        }
        for key, value in _safe_event(event).items():
            if not key.startswith("log_") and key not in record and isinstance(value, _PLAIN_FIELDS):
                record[key] = value
        traceback = _traceback(event)
        if traceback:
            record["traceback"] = traceback
        self._out.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._out.flush()


_FRAMEWORK_NOISE: Final = ("twisted.internet.protocol", "twisted.internet.tcp", "twisted.application.app")


def make_observer(*, level: str, log_format: str, out: TextIO) -> ILogObserver:
    """
    Give the observer of the configured level and format.

    Args:
        level: debug, info, warn or error.
        log_format: text or json.
    """
    observer = JSONObserver(out) if log_format == "json" else TextObserver(out)
    predicate = LogLevelFilterPredicate(defaultLogLevel=_LEVELS[level])
    for namespace in _FRAMEWORK_NOISE:
        predicate.setLogLevelForNamespace(namespace, LogLevel.warn if level != "debug" else LogLevel.debug)
    return FilteringLogObserver(observer, [predicate])


class RateLimited:
    """Logs a refusal once for each peer and minute, and then says how many were left out."""

    def __init__(self, *, clock: IReactorTime) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def warn(self, log: Logger, key: str, message: str, **fields_: object) -> None:
        """Log a warning, unless one with the same key was logged within a minute."""
        now_s = self._clock.seconds()
        logged_s, left_out = self._seen.get(key, (-REPEAT_INTERVAL_S, 0))
        if now_s - logged_s < REPEAT_INTERVAL_S:
            self._seen[key] = (logged_s, left_out + 1)
            return
        if len(self._seen) >= REMEMBERED_PEERS:
            self._seen.clear()
        self._seen[key] = (now_s, 0)
        if left_out:
            message += " ({left_out} more of the same since)"
        log.warn(message, left_out=left_out, **fields_)
