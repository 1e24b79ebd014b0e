"""
Log lines can be neither forged nor filled by a peer (RELIABILITY G1).
"""

from __future__ import annotations

import io
import json

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from pacs.monitoring.logs import RateLimited, escape, make_observer


class LogTests(SynchronousTestCase):
    def lines(self, log_format: str, level: str = "info") -> tuple[Logger, io.StringIO]:
        out = io.StringIO()
        return Logger(observer=make_observer(level=level, log_format=log_format, out=out)), out

    def test_what_came_from_outside_is_escaped_and_cut(self) -> None:
        self.assertEqual(escape("a\r\nb\x1b\u202e"), "a\\u000d\\u000ab\\u001b\\u202e")
        self.assertEqual(len(escape("x" * 1000)), 256)
        self.assertEqual(escape("Grüße"), "Grüße")

    def test_a_peer_cannot_forge_a_line(self) -> None:
        log, out = self.lines("text")
        log.info("association of {title}", title="X\n2026-01-01T00:00:00.000Z info  all is well")
        self.assertEqual(len(out.getvalue().splitlines()), 1)

    def test_json_has_the_fields(self) -> None:
        log, out = self.lines("json")
        log.warn("{count} of {title}", count=3, title="A\nB")
        record = json.loads(out.getvalue())
        self.assertEqual((record["level"], record["count"], record["title"]), ("warn", 3, "A\\u000aB"))
        self.assertTrue(record["time"].endswith("Z"))

    def test_the_level_is_obeyed(self) -> None:
        log, out = self.lines("text", "warn")
        log.info("not this")
        log.error("but this")
        self.assertIn("but this", out.getvalue())
        self.assertNotIn("not this", out.getvalue())

    def test_a_failure_is_logged_without_values_of_variables(self) -> None:
        log, out = self.lines("text")
        try:
            secret = "Doe^Jane"
            raise ValueError(len(secret))
        except ValueError:
            log.failure("it failed")
        self.assertIn("ValueError", out.getvalue())
        self.assertNotIn("Doe", out.getvalue())

    def test_a_refusal_is_logged_once_a_minute(self) -> None:
        log, out = self.lines("text")
        clock = Clock()
        limited = RateLimited(clock=clock)
        for _ in range(5):
            limited.warn(log, "peer", "refused")
        self.assertEqual(len(out.getvalue().splitlines()), 1)
        clock.advance(61)
        limited.warn(log, "peer", "refused")
        self.assertIn("4 more of the same since", out.getvalue())
