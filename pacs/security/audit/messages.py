"""
An audit message and its XML, PS3.15 A.5.1: what it consists of, in the schema's order. What goes into the message of
each event is `pacs.security.audit.builders`' business.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from pacs.security.audit.codes import Code, Outcome

SOURCE_TYPE_APPLICATION_SERVER: Final = "4"  # PS3.15 A.5.1.2.1; "a PACS/RIS system might use 4"
ACCESS_POINT_NAME: Final = "1"
ACCESS_POINT_ADDRESS: Final = "2"

_NOT_IN_XML: Final = dict.fromkeys(
    (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd"
)

_IS_QUOTED_OTHERWISE: Final = re.compile(r"[&<>\"]")
REMEMBERED_PARTS: Final = 256
"""Participants and codes come again and again; their XML is made once."""


@dataclass(frozen=True, slots=True)
class ActiveParticipant:
    """
    Who took part.

    Attributes:
        user_id: a process, a node or a person.
        ae_titles: of a DICOM application; they become AlternativeUserID (PS3.15 A.5.2.2).
        address: an IP address, or a host's name.
    """

    user_id: str
    is_requestor: bool
    role: Code | None = None
    ae_titles: tuple[str, ...] = ()
    user_name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class ParticipantObject:
    """
    What it was done with.

    Attributes:
        type_code, role: PS3.15 A.5.1.1; 1 is a person, 2 a system object.
        query: a query's identifier; instead of a name.
        details: name to value.
        instances: number by SOP class.
    """

    object_id: str
    id_type: Code
    type_code: str
    role: str
    name: str = ""
    query: bytes | None = None
    details: Mapping[str, bytes] = field(default_factory=dict)
    instances: tuple[tuple[str, int], ...] = ()
    is_anonymized: bool = False
    life_cycle: str = ""


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """
    One audit message.

    Attributes:
        action: C, R, U, D or E.
        is_urgent: a security event; it is made durable by itself.
    """

    event: Code
    action: str
    participants: tuple[ActiveParticipant, ...]
    objects: tuple[ParticipantObject, ...] = ()
    event_type: Code | None = None
    outcome: Outcome = Outcome.SUCCESS
    outcome_description: str = ""
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_urgent: bool = False

    def to_xml(self, source_id: str) -> str:
        """
        Give the message as XML, in one line.

        Args:
            source_id: AuditSourceID, of the system that saw the event.
        """
        description = (
            _element("EventOutcomeDescription", "", escape(_clean(self.outcome_description)))
            if self.outcome_description
            else ""
        )
        event = _element(
            "EventIdentification",
            _attributes(
                EventActionCode=self.action,
                EventDateTime=self.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                EventOutcomeIndicator=self.outcome.value,
            ),
            _coded("EventID", self.event)
            + (_coded("EventTypeCode", self.event_type) if self.event_type is not None else "")
            + description,
        )
        participants, objects = _all(map(_participant, self.participants)), _all(map(_object, self.objects))
        inner = event + participants + _source(source_id) + objects
        return _element("AuditMessage", "", inner)


def _clean(text: str) -> str:
    """Replace what XML 1.0 can't carry, and what could forge a line."""
    return text if text.isascii() and text.isprintable() else text.translate(_NOT_IN_XML)


def _quoted(text: str) -> str:
    clean = _clean(text)
    return quoteattr(clean) if _IS_QUOTED_OTHERWISE.search(clean) else f'"{clean}"'


def _attributes(**values: str) -> str:
    return "".join([f" {name}={_quoted(value)}" for name, value in values.items() if value])


def _element(name: str, attributes: str, inner: str = "") -> str:
    return f"<{name}{attributes}>{inner}</{name}>" if inner else f"<{name}{attributes}/>"


def _all(parts: Iterable[str]) -> str:
    return "".join(parts)


@lru_cache(maxsize=REMEMBERED_PARTS)
def _source(source_id: str) -> str:
    return _element(
        "AuditSourceIdentification",
        _attributes(AuditSourceID=source_id),
        _element("AuditSourceTypeCode", _attributes(**{"csd-code": SOURCE_TYPE_APPLICATION_SERVER})),
    )


@lru_cache(maxsize=REMEMBERED_PARTS)
def _coded(name: str, code: Code) -> str:
    return _element(
        name, _attributes(**{"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning})
    )


@lru_cache(maxsize=REMEMBERED_PARTS)
def _participant(participant: ActiveParticipant) -> str:
    address = participant.address
    is_number = bool(address) and (":" in address or address.replace(".", "").isdigit())
    return _element(
        "ActiveParticipant",
        f" UserID={_quoted(participant.user_id)}"
        + _attributes(
            AlternativeUserID=f"AETITLES={';'.join(participant.ae_titles)}" if participant.ae_titles else "",
            UserName=participant.user_name,
            UserIsRequestor="true" if participant.is_requestor else "false",
            NetworkAccessPointID=address,
            NetworkAccessPointTypeCode=(ACCESS_POINT_ADDRESS if is_number else ACCESS_POINT_NAME) if address else "",
        ),
        _coded("RoleIDCode", participant.role) if participant.role is not None else "",
    )


def _object(item: ParticipantObject) -> str:
    inner = _coded("ParticipantObjectIDTypeCode", item.id_type)
    if item.query is not None:
        inner += f"<ParticipantObjectQuery>{base64.b64encode(item.query).decode()}</ParticipantObjectQuery>"
    else:
        inner += f"<ParticipantObjectName>{escape(_clean(item.name))}</ParticipantObjectName>"
    for name, value in item.details.items():
        inner += _element(
            "ParticipantObjectDetail", _attributes(type=name) + f' value="{base64.b64encode(value).decode()}"'
        )
    if item.instances:
        described = _all(
            _element("SOPClass", _attributes(UID=uid, NumberOfInstances=str(number))) for uid, number in item.instances
        )
        if item.is_anonymized:
            described += "<Anonymized>true</Anonymized>"
        inner += _element("ParticipantObjectDescription", "", described)
    return _element(
        "ParticipantObjectIdentification",
        f" ParticipantObjectID={_quoted(item.object_id)}"
        + _attributes(
            ParticipantObjectTypeCode=item.type_code,
            ParticipantObjectTypeCodeRole=item.role,
            ParticipantObjectDataLifeCycle=item.life_cycle,
        ),
        inner,
    )
