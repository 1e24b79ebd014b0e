"""
What is told of a retrieval: the events and the metric (the contract's sections 6 and 7).
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from pacs.archive.retrieval import Kind, Selection, StoredObject
from pacs.dimse import CGetRQ
from pacs.events import EventBus, RetrieveCompleted, RetrieveStarted
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.services.retrieve_report import Receiver, RetrieveReporter
from pacs.tasks.send import Outcome, SubOperation
from pacs.ul import AcceptedContext

CT, MR = (Kind("1.2.3", "ID", f"1.2.840.10008.5.1.4.1.1.{n}", "1.2.840.10008.1.2.1") for n in (2, 4))


class Asker:
    """An association that is not canceled."""

    association_id = "1"
    calling_ae_title = "ASKER"
    peer_address = "127.0.0.1"
    max_send_pdu_length = 16384

    def is_canceled(self, message_id: int) -> bool:
        return False


class Threads:
    def callFromThread(self, f: Any, *arguments: object) -> None:
        f(*arguments)


def retrieve(outcomes: list[Outcome], count: int) -> tuple[list[Any], Metrics]:
    """Have sub-operations reported; the last objects fail to come about."""
    bus, metrics, events = EventBus(reactor=Threads()), Metrics(), list[Any]()
    bus.subscribe(RetrieveStarted, events.append)
    bus.subscribe(RetrieveCompleted, events.append)
    selection = Selection((CT, MR), array("q", range(count)), array("L", [n % 2 for n in range(count)]))
    reporter = RetrieveReporter(bus=bus, metrics=metrics, clock=Clock())
    with (
        suppress(ConnectionError),
        reporter.watch(
            cast(Association, Asker()),
            AcceptedContext(1, "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.1.2.1"),
            CGetRQ(message_id=1, affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.3"),
            selection,
            Receiver("ASKER", "127.0.0.1"),
        ) as progress,
    ):
        for number, outcome in enumerate(outcomes):
            progress.note(SubOperation(StoredObject((CT, MR)[number % 2], f"1.2.{number}", "", 0, 0), outcome, "why"))
        if len(outcomes) < count:
            raise ConnectionError
    return events, metrics


def test_the_events_have_the_counts_by_study_and_sop_class() -> None:
    events, metrics = retrieve([Outcome.COMPLETED, Outcome.FAILED, Outcome.WARNING, Outcome.COMPLETED], 4)
    started, completed = events
    assert (started.operation, started.calling_ae, started.destination_ae) == ("C-GET", "ASKER", "ASKER")
    assert started.studies[0].number_by_sop_class == ((CT.sop_class_uid, 2), (MR.sop_class_uid, 2))
    assert (completed.completed, completed.failed, completed.warning, completed.outcome) == (2, 1, 1, "warning")
    assert completed.studies[0].number_by_sop_class == ((CT.sop_class_uid, 2), (MR.sop_class_uid, 1))
    assert metrics.registry.get_sample_value("pacs_retrieved_instances_total") == 3


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [([Outcome.COMPLETED], "success"), ([Outcome.FAILED], "failure"), ([], "success")],
)
def test_the_outcome_is_that_of_the_final_status(outcomes: list[Outcome], outcome: str) -> None:
    events, _ = retrieve(outcomes, len(outcomes))
    assert events[-1].outcome == outcome


def test_a_lost_association_is_told_as_a_failure() -> None:
    events, _ = retrieve([Outcome.COMPLETED], 2)
    assert (events[-1].completed, events[-1].outcome) == (1, "failure")
