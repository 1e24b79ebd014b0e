"""
What becomes a record, and what becomes one record of many.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pacs.events import AssociationClosed, AssociationOpened, ImageReceived
from pacs.security.audit import AlertKind, AuditLog
from pacs.security.audit.builders import Builder
from pacs.security.audit.messages import AuditMessage
from pacs.security.audit.reading import Filter, read_records
from pacs.security.audit.transfers import LONGEST_GATHERING_S, MOST_OBJECTS, TransferGatherer
from tests.unit.security.test_audit_chain import audit_settings

ASSOCIATION: dict[str, Any] = {
    "association_id": "1",
    "calling_ae": "CT",
    "called_ae": "PACS",
    "peer_address": "10.0.0.1",
    "tls": False,
    "reason": "",
}
BUILDER = Builder("PACS", "pacs.example", "1234")


def image(number: int, *, study: str = "1.2", calling_ae: str = "CT", is_replacement: bool = False) -> ImageReceived:
    return ImageReceived(
        sop_instance_uid=f"{study}.{number}",
        sop_class_uid=f"9.{number % 2}",
        patient_id="ID",
        study_instance_uid=study,
        series_instance_uid="3",
        calling_ae=calling_ae,
        size_bytes=4,
        peer_address="10.0.0.1",
        is_replacement=is_replacement,
    )


class TransferTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.messages: list[AuditMessage] = []
        self.now_s = 0.0
        self.gatherer = TransferGatherer(builder=BUILDER, put=self.messages.append, monotonic_s=lambda: self.now_s)

    def _open(self) -> None:
        self.gatherer.association_opened(AssociationOpened(**ASSOCIATION))

    def _close(self) -> None:
        self.gatherer.association_closed(AssociationClosed(**ASSOCIATION))

    def _numbers(self) -> list[dict[str, int]]:
        return [dict(message.objects[0].instances) for message in self.messages]

    def test_an_association_makes_one_message_of_each_study(self) -> None:
        self._open()
        for number in range(20):
            self.gatherer.received(image(number))
            self.gatherer.received(image(number, study="1.3"))
        self.gatherer.write_due()
        self.assertEqual(self.messages, [])
        self._close()
        self.gatherer.write_due()
        self.assertEqual(self._numbers(), [{"9.0": 10, "9.1": 10}] * 2)
        self.assertEqual([message.action for message in self.messages], ["C", "C"])

    def test_a_long_association_is_recorded_while_it_lasts(self) -> None:
        self._open()
        self.gatherer.received(image(1))
        self.now_s = LONGEST_GATHERING_S
        self.gatherer.write_due()
        for number in range(MOST_OBJECTS):
            self.gatherer.received(image(number))
        self.assertEqual([sum(numbers.values()) for numbers in self._numbers()], [1, MOST_OBJECTS])

    def test_what_replaced_something_is_an_update(self) -> None:
        self.gatherer.received(image(1, is_replacement=True))
        self.gatherer.write_all()
        self.assertEqual(self.messages[0].action, "U")

    def test_what_is_committed_after_the_association_has_gone_is_recorded_too(self) -> None:
        self.gatherer.received(image(1))
        self.gatherer.write_due()
        self.assertEqual(len(self.messages), 1)


class _Reactor(Clock):
    def callFromThread(self, f: Callable[..., object], *args: object) -> None:
        """Forget it: nobody looks."""


class AuditLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.settings = audit_settings(Path(directory.name))
        self.clock = _Reactor()
        self.step_s = 0.0
        self.audit = AuditLog(
            settings=self.settings,
            builder=BUILDER,
            reactor=self.clock,
            changed=lambda _, __: None,
            wall_clock_s=lambda: 1e9 + self.clock.seconds() + self.step_s,
            monotonic_s=self.clock.seconds,
        )
        self.audit.start()

    def _recorded(self) -> list[str]:
        self.audit.stop_looking()
        self.audit.stop()
        return [record.message for record in reversed(read_records(self.settings.log_path, Filter()).records)]

    def test_the_same_alert_of_one_peer_is_recorded_once_a_minute_with_its_number(self) -> None:
        for _ in range(10):
            self.audit.security_alert(AlertKind.NODE_AUTHENTICATION, "no", user="A", peer_address="10.0.0.1")
        self.audit.security_alert(AlertKind.NODE_AUTHENTICATION, "no", user="A", peer_address="10.0.0.2")
        self.clock.pump([5.0] * 13)
        self.audit.security_alert(AlertKind.NODE_AUTHENTICATION, "no", user="A", peer_address="10.0.0.1")
        messages = self._recorded()
        self.assertEqual(len(messages), 4)
        self.assertIn("no (9 more of the same)", messages[2])

    def test_a_step_of_the_clock_is_recorded(self) -> None:
        self.clock.advance(5.0)
        self.step_s = -3600.0
        self.clock.advance(5.0)
        (message,) = self._recorded()
        self.assertIn("-3600 s", message)

    def test_log_ins_and_the_use_of_the_log_are_recorded(self) -> None:
        self.audit.user_authentication("jane", peer_address="::1", is_success=False, description="wrong passcode")
        self.audit.audit_log_used("jane", peer_address="::1")
        login, used = self._recorded()
        self.assertIn('UserID="jane"', login)
        self.assertIn('EventOutcomeIndicator="4"', login)
        self.assertIn(self.settings.log_path.as_uri(), used)
