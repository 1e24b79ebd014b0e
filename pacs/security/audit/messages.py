"""
An audit message and its XML, PS3.15 A.5.1: what it consists of, in the schema's order. What goes into the message of
each event is `pacs.security.audit.builders`' business.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from pacs.security.audit.codes import Code, Outcome

SOURCE_TYPE_APPLICATION_SERVER: Final = "4"  # PS3.15 A.5.1.2.1; "a PACS/RIS system might use 4"
ACCESS_POINT_NAME: Final = "1"
ACCESS_POINT_ADDRESS: Final = "2"

_NOT_IN_XML: Final = dict.fromkeys(
    (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd"
)

_IS_QUOTED_OTHERWISE: Final = re.compile(r"[&<>\"]")
END: Final = "</AuditMessage>"
REMEMBERED_PARTS: Final = 256
"""Participants and codes come again and again; their XML is made once."""


class ActiveParticipant(NamedTuple):
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


class ParticipantObject(NamedTuple):
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
    details: Mapping[str, bytes] = MappingProxyType({})
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

    @property
    def time(self) -> str:
        """The timestamp in ISO 8601, to the millisecond."""
        return self.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def to_xml(self, source_id: str) -> str:
        """
        Give the message as XML, in one line.

        Args:
            source_id: AuditSourceID, of the system that saw the event.
        """
        before, behind = self.around_time(source_id)
        return f"{before}{self.time}{behind}{self.objects_xml()}{END}"

    def around_time(self, source_id: str) -> tuple[str, str]:
        """Give the XML before the time, and from there to the objects: the same for all messages of a kind."""
        return _around_time(
            self.action,
            self.outcome.value,
            self.event,
            self.event_type,
            self.outcome_description,
            self.participants,
            source_id,
        )

    def objects_xml(self) -> str:
        """Give the XML of the objects, behind which comes `END`."""
        return _all(map(_object, self.objects))


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
def _around_time(
    action: str,
    outcome: str,
    event: Code,
    event_type: Code | None,
    description: str,
    participants: tuple[ActiveParticipant, ...],
    source_id: str,
) -> tuple[str, str]:
    inner = _coded("EventID", event)
    if event_type is not None:
        inner += _coded("EventTypeCode", event_type)
    if description:
        inner += _element("EventOutcomeDescription", "", escape(_clean(description)))
    before = f'<AuditMessage><EventIdentification{_attributes(EventActionCode=action)} EventDateTime="'
    behind = f'"{_attributes(EventOutcomeIndicator=outcome)}>{inner}</EventIdentification>'
    return before, behind + _all(map(_participant, participants)) + _source(source_id)


@lru_cache(maxsize=REMEMBERED_PARTS)
def _coded(name: str, code: Code) -> str:
    return _element(
        name, _attributes(**{"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning})
    )


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


@lru_cache(maxsize=REMEMBERED_PARTS)
def _object_kind(type_code: str, role: str, life_cycle: str) -> str:
    return _attributes(
        ParticipantObjectTypeCode=type_code,
        ParticipantObjectTypeCodeRole=role,
        ParticipantObjectDataLifeCycle=life_cycle,
    )


def _object(item: ParticipantObject) -> str:
    kind, id_type = _object_kind(item.type_code, item.role, item.life_cycle), item.id_type
    inner = _coded("ParticipantObjectIDTypeCode", id_type)
    if item.query is not None:
        inner += f"<ParticipantObjectQuery>{_base64(item.query)}</ParticipantObjectQuery>"
    else:
        inner += f"<ParticipantObjectName>{escape(_clean(item.name))}</ParticipantObjectName>"
    for name, value in item.details.items():
        inner += _element("ParticipantObjectDetail", f'{_attributes(type=name)} value="{_base64(value)}"')
    if item.instances:
        described = _all(
            _element("SOPClass", _attributes(UID=uid, NumberOfInstances=str(number))) for uid, number in item.instances
        )
        if item.is_anonymized:
            described += "<Anonymized>true</Anonymized>"
        inner += _element("ParticipantObjectDescription", "", described)
    return (
        f"<ParticipantObjectIdentification ParticipantObjectID={_quoted(item.object_id)}{kind}>{inner}"
        "</ParticipantObjectIdentification>"
    )


def _base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()
