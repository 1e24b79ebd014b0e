"""
Log lines can be neither forged nor filled by a peer (RELIABILITY G1).
"""

from __future__ import annotations

import io
import json

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pacs.dimse import DIMSEError
from pacs.monitoring.logs import REMEMBERED_KEYS, RateLimited, escape, make_observer


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

    def test_a_field_that_is_no_text_cannot_forge_a_line_either(self) -> None:
        log, out = self.lines("text")
        log.info("refused: {reason} {names}", reason=ValueError("X\nall is well"), names=["A\u202e", "B\x1b"])
        log.info("long: {data}", data=b"x" * 100_000)
        lines = out.getvalue().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("X\\u000aall is well", lines[0])
        self.assertNotIn("\u202e", lines[0])
        self.assertLess(len(lines[1]), 5000)

    def test_a_name_that_no_stream_can_encode_is_logged_all_the_same(self) -> None:
        with open(self.mktemp(), "w+", encoding="latin-1") as out:
            log = Logger(observer=make_observer(level="info", log_format="json", out=out))
            log.info("quarantine of {name}", name="\udcff 日本")
            out.seek(0)
            self.assertIn("quarantine of \\udcff", json.loads(out.read())["message"])

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

    def test_a_failure_is_logged_with_its_place_and_without_values(self) -> None:
        for log_format in ("text", "json"):
            log, out = self.lines(log_format)
            try:
                try:
                    int("Doe^Jane")
                except ValueError as error:
                    raise DIMSEError(0xC000, "forged\nline \x1b[2J") from error
            except DIMSEError:
                log.failure("it failed")
            self.assertIn("test_logs.py", out.getvalue())
            self.assertIn("DIMSEError: ", out.getvalue())
            self.assertIn("because of ValueError", out.getvalue())
            self.assertNotIn("Doe", out.getvalue())
            self.assertNotIn("\x1b", out.getvalue())
            self.assertFalse(any(line.startswith("line") for line in out.getvalue().splitlines()))

    def test_causes_that_form_a_ring_end(self) -> None:
        log, out = self.lines("text")
        first, second = KeyError("1"), KeyError("2")
        first.__cause__, second.__cause__ = second, first
        log.failure("it failed", Failure(first))
        self.assertEqual(out.getvalue().count("KeyError"), 2)

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

    def test_many_peers_are_not_remembered_for_ever_and_the_latest_stay_limited(self) -> None:
        log, out = self.lines("text")
        limited = RateLimited(clock=Clock())
        for number in range(REMEMBERED_KEYS + 10):
            limited.warn(log, f"peer {number}", "refused")
        logged = len(out.getvalue().splitlines())
        limited.warn(log, f"peer {REMEMBERED_KEYS + 9}", "refused")
        self.assertEqual(len(out.getvalue().splitlines()), logged)
        limited.warn(log, "peer 0", "refused")
        self.assertEqual(len(out.getvalue().splitlines()), logged + 1)
