"""
What a server's audit log holds, and whether a message is one of PS3.15 A.5.
"""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from tests.server import Server

WAIT_S: Final = 20.0
_UID: Final = re.compile(r"[0-9.]{1,64}")


def audit_log_path(server: Server) -> Path:
    """Where a test's server has its audit log."""
    return server.directory / "pacs_data" / "audit.log"


def records(server: Server, event: str = "") -> list[dict[str, Any]]:
    """Give the records, or those of one event; an unfinished line is left out."""
    path = audit_log_path(server)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    parsed = [json.loads(line) for line in lines]
    return [record for record in parsed if not event or record["event"] == event]


def messages(server: Server, event: str) -> list[ElementTree.Element]:
    """Give the messages of one event, parsed."""
    return [ElementTree.fromstring(record["message"]) for record in records(server, event)]


def wait_for_record(server: Server, text: str, *, number: int = 1) -> list[dict[str, Any]]:
    """Wait until so many records contain a text; give them."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        found = [record for record in records(server) if text in record["message"]]
        if len(found) >= number:
            return found
        assert time.monotonic() < deadline_s, f"no {number} records with {text!r} in {records(server)}"
        time.sleep(0.05)


def check_message(text: str) -> ElementTree.Element:
    """Hold a message against the schema of PS3.15 A.5.1: elements, their order, attributes and values."""
    assert "\n" not in text
    message = ElementTree.fromstring(text)
    assert message.tag == "AuditMessage"
    tags = [child.tag for child in message]
    assert re.fullmatch(r"ep+so*", "".join(_LETTER[tag] for tag in tags)), tags
    for child in message:
        _CHECKS[child.tag](child)
    return message


_LETTER: Final = {
    "EventIdentification": "e",
    "ActiveParticipant": "p",
    "AuditSourceIdentification": "s",
    "ParticipantObjectIdentification": "o",
}


def _attributes(element: ElementTree.Element, required: str, optional: str = "") -> None:
    names = set(element.attrib)
    assert set(required.split()) <= names, f"{element.tag} lacks {set(required.split()) - names}"
    assert names <= {*required.split(), *optional.split()}, f"{element.tag} has {names}"


def _coded(element: ElementTree.Element) -> None:
    _attributes(element, "csd-code codeSystemName originalText", "displayName")
    assert len(element) == 0


def _event(element: ElementTree.Element) -> None:
    _attributes(element, "EventDateTime EventOutcomeIndicator", "EventActionCode")
    assert element.get("EventActionCode") in {"C", "R", "U", "D", "E"}
    assert element.get("EventOutcomeIndicator") in {"0", "4", "8", "12"}
    assert datetime.fromisoformat(element.get("EventDateTime", "")).tzinfo is not None
    tags = [child.tag for child in element]
    assert tags[0] == "EventID"
    assert tags == sorted(tags, key=["EventID", "EventTypeCode", "EventOutcomeDescription"].index)
    for child in element:
        if child.tag != "EventOutcomeDescription":
            _coded(child)


def _participant(element: ElementTree.Element) -> None:
    _attributes(
        element,
        "UserID UserIsRequestor",
        "AlternativeUserID UserName NetworkAccessPointID NetworkAccessPointTypeCode",
    )
    assert element.get("UserIsRequestor") in {"true", "false"}
    assert ("NetworkAccessPointID" in element.attrib) == ("NetworkAccessPointTypeCode" in element.attrib)
    assert element.get("NetworkAccessPointTypeCode", "1") in set("12345")
    assert element.get("AlternativeUserID", "AETITLES=").startswith("AETITLES=")
    for child in element:
        assert child.tag == "RoleIDCode"
        _coded(child)


def _source(element: ElementTree.Element) -> None:
    _attributes(element, "AuditSourceID", "AuditEnterpriseSiteID")
    for child in element:
        assert child.tag == "AuditSourceTypeCode"
        assert child.get("csd-code") in set("123456789")


def _object(element: ElementTree.Element) -> None:
    _attributes(
        element,
        "ParticipantObjectID",
        "ParticipantObjectTypeCode ParticipantObjectTypeCodeRole ParticipantObjectDataLifeCycle",
    )
    assert element.get("ParticipantObjectTypeCode") in set("1234")
    assert 1 <= int(element.get("ParticipantObjectTypeCodeRole", "0")) <= 26
    kind, name, *others = list(element)
    assert kind.tag == "ParticipantObjectIDTypeCode"
    _coded(kind)
    assert name.tag in {"ParticipantObjectName", "ParticipantObjectQuery"}
    if name.tag == "ParticipantObjectQuery":
        base64.b64decode(name.text or "", validate=True)
    order = ["ParticipantObjectDetail", "ParticipantObjectDescription"]
    assert [child.tag for child in others] == sorted((child.tag for child in others), key=order.index)
    for child in others:
        if child.tag == "ParticipantObjectDetail":
            _attributes(child, "type value")
            base64.b64decode(child.get("value", ""), validate=True)
            continue
        for described in child:
            assert described.tag in {"SOPClass", "Anonymized"}
            if described.tag == "SOPClass":
                _attributes(described, "NumberOfInstances", "UID")
                assert _UID.fullmatch(described.get("UID", "1"))
                assert int(described.get("NumberOfInstances", "0")) > 0


_CHECKS: Final = {
    "EventIdentification": _event,
    "ActiveParticipant": _participant,
    "AuditSourceIdentification": _source,
    "ParticipantObjectIdentification": _object,
}
