"""
The message of every event has the structure of PS3.15 A.5.1 and the codes of A.5.3, whatever came from outside.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.events import StudyInstances
from pacs.security.audit import codes
from pacs.security.audit.builders import RECORDED_QUERY_BYTES, Builder, Party
from pacs.security.audit.codes import AlertKind, Outcome
from pacs.security.audit.messages import AuditMessage
from tests.audit import check_message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BUILDER = Builder("PACS", "pacs.example", "4711")
CT = "1.2.840.10008.5.1.4.1.1.2"


def every_message(text: str = "text", identifier: bytes = b"abc") -> dict[str, AuditMessage]:
    """Give a message of each event, with a text from outside in each place that takes one."""
    party, user = Party(text, "10.1.2.3"), Party(text, "::1", is_user=True)
    study = StudyInstances(text, text, ((CT, 3),))
    b = BUILDER
    return {
        "start": b.application_activity(is_start=True),
        "stop": b.application_activity(is_start=False),
        "used": b.audit_log_used(user, "file:///audit.log"),
        "begin": b.begin_transferring(party, Party("DEST", "host.example"), study),
        "sent": b.sent(party, party, study, Outcome.SUCCESS),
        "received": b.received(party, study, is_replacement=False, is_anonymized=True, timestamp=NOW),
        "accessed": b.instances_accessed("U", user, study),
        "deleted": b.study_deleted(user, study),
        "export": b.export(user, text, [study]),
        "procedure": b.procedure_record("C", party, study, timestamp=NOW),
        "attach": b.network_entry(is_attach=True),
        "query": b.query(party, sop_class_uid="1.2.3", transfer_syntax_uid="1.2", identifier=identifier, timestamp=NOW),
        "alert": b.security_alert(
            AlertKind.NODE_AUTHENTICATION, text, outcome=Outcome.MINOR_FAILURE, party=party, subject=text
        ),
        "login": b.user_authentication(user, is_login=True, outcome=Outcome.SUCCESS, description=text),
    }


@given(st.text(max_size=40), st.binary(max_size=100))
def test_each_message_has_the_structure_of_the_schema(text: str, identifier: bytes) -> None:
    for message in every_message(text, identifier).values():
        check_message(message.to_xml("PACS"))


def test_every_event_of_the_table_has_a_message() -> None:
    assert {message.event for message in every_message().values()} == set(codes.EVENTS)


@pytest.mark.parametrize(
    ("name", "event", "action"),
    [
        ("start", "110100", "E"),
        ("used", "110101", "R"),
        ("begin", "110102", "E"),
        ("accessed", "110103", "U"),
        ("sent", "110104", "R"),
        ("received", "110104", "C"),
        ("deleted", "110105", "D"),
        ("export", "110106", "R"),
        ("attach", "110108", "E"),
        ("query", "110112", "E"),
        ("alert", "110113", "E"),
        ("login", "110114", "E"),
    ],
)
def test_event_and_action_are_those_of_the_standard(name: str, event: str, action: str) -> None:
    element = check_message(every_message()[name].to_xml("PACS"))
    identification = element[0]
    assert identification[0].get("csd-code") == event
    assert identification.get("EventActionCode") == action


def test_exactly_one_participant_of_a_transfer_requests_it() -> None:
    """The receiver of a C-GET asks for itself; a third party asks for a C-MOVE (PS3.15 A.5.3.3)."""
    for name, number in (("sent", 2), ("begin", 3), ("received", 2)):
        element = check_message(every_message()[name].to_xml("PACS"))
        participants = element.findall("ActiveParticipant")
        assert len(participants) == number
        assert [p.get("UserIsRequestor") for p in participants].count("true") == 1
        roles = [r.get("csd-code") for p in participants for r in p]
        assert roles == ["110153", "110152"]


def test_a_long_query_is_cut_and_its_length_and_hash_are_kept() -> None:
    text = every_message(identifier=bytes(RECORDED_QUERY_BYTES + 1))["query"].to_xml("PACS")
    check_message(text)
    assert "QuerySHA256" in text
    assert len(text) < RECORDED_QUERY_BYTES * 2
