"""
Where objects of a patient went, as far as the audit log tells: sent over DICOM, or fetched over HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from pacs.security.audit import codes
from pacs.security.audit.files import log_files
from pacs.security.audit.records import BadRecord, read_line

_WAYS: Final = frozenset((codes.INSTANCES_TRANSFERRED.value, codes.INSTANCES_ACCESSED.value, codes.EXPORT.value))
_RECEIVERS: Final = frozenset((codes.ROLE_DESTINATION.value, codes.ROLE_DESTINATION_MEDIA.value))


@dataclass(frozen=True, slots=True)
class SentCopy:
    """
    A study of which objects left.

    Attributes:
        receiver: an AE title or a user, with the address where it is known.
    """

    study_instance_uid: str
    receiver: str


def sent_copies(log_path: Path, patient_ids: Iterable[str]) -> list[SentCopy]:
    """
    Give what left of some patients, each study and receiver once; reads the whole log, and blocks.

    Raises:
        OSError: a file can't be read.
    """
    wanted = frozenset(patient_ids)
    needles = [json.dumps(escape(name, {'"': "&quot;"}))[1:-1].encode() for name in wanted]
    found: dict[SentCopy, None] = {}
    for path in log_files(log_path):
        with path.open("rb") as file:
            for line in file:
                if any(needle in line for needle in needles):
                    found.update(dict.fromkeys(_copies(line.rstrip(b"\n"), wanted)))
    return list(found)


def _copies(line: bytes, patient_ids: frozenset[str]) -> list[SentCopy]:
    try:
        record = read_line(None, line)
        message = ElementTree.fromstring(record.message)
    except (BadRecord, ElementTree.ParseError):
        return []  # `pacsctl audit verify` is there to find it
    event = message.find("EventIdentification")
    if record.event not in _WAYS or event is None or event.get("EventActionCode") != "R":
        return []
    objects: dict[str, list[str]] = {}
    for item in message.iter("ParticipantObjectIdentification"):
        objects.setdefault(_type_of(item), []).append(item.get("ParticipantObjectID", ""))
    if patient_ids.isdisjoint(objects.get(codes.ID_PATIENT_NUMBER.value, ())):
        return []
    studies = objects.get(codes.ID_STUDY_INSTANCE_UID.value, [])
    return [SentCopy(study, receiver) for receiver in _receivers(message) for study in studies]


def _type_of(item: ElementTree.Element) -> str:
    code = item.find("ParticipantObjectIDTypeCode")
    return "" if code is None else code.get("csd-code", "")


def _receivers(message: ElementTree.Element) -> list[str]:
    """Give who got it: who is marked as destination, else who asked for it."""
    people = list(message.iter("ActiveParticipant"))
    marked = [one for one in people if any(role.get("csd-code") in _RECEIVERS for role in one.iter("RoleIDCode"))]
    return [_name_of(one) for one in marked or [p for p in people if p.get("UserIsRequestor") == "true"]]


def _name_of(participant: ElementTree.Element) -> str:
    title = participant.get("AlternativeUserID", "").removeprefix("AETITLES=")
    name = title or participant.get("UserName", "") or participant.get("UserID", "")
    address = participant.get("NetworkAccessPointID", "")
    return f"{name} ({address})" if address and address != name else name
