"""
A performed procedure step: what it must have and how it may change (PS3.4 F.7.2 and table F.7.2-1).

What a modality leaves out of type 2 is kept as empty; what is of type 1 it must send. Sequences are checked as far as
the archive relies on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pacs.dataset.values import SPECIFIC_CHARACTER_SET, Value, Values
from pacs.workflow import tags
from pacs.workflow.errors import InvalidValue, MissingAttribute, MissingValue, StepIsFinal
from pacs.workflow.text import iso_date_time


class StepStatus(Enum):
    """Performed Procedure Step Status, PS3.3 C.4.14."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


REQUIRED: Final = {
    tags.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE: "Scheduled Step Attributes Sequence",
    tags.PERFORMED_STEP_ID: "Performed Procedure Step ID",
    tags.PERFORMED_STATION_AE_TITLE: "Performed Station AE Title",
    tags.PERFORMED_START_DATE: "Performed Procedure Step Start Date",
    tags.PERFORMED_START_TIME: "Performed Procedure Step Start Time",
    tags.PERFORMED_STEP_STATUS: "Performed Procedure Step Status",
    tags.MODALITY: "Modality",
}
"""Type 1 of N-CREATE, table F.7.2-1."""

EMPTY_IF_ABSENT: Final = {
    tags.PATIENT_NAME: "PN", tags.PATIENT_ID: "LO", tags.BIRTH_DATE: "DA", tags.SEX: "CS",
    0x00081032: "SQ",  # Procedure Code Sequence
    0x00081120: "SQ",  # Referenced Patient Sequence
    0x00200010: "SH",  # Study ID
    0x00400242: "SH",  # Performed Station Name
    0x00400243: "SH",  # Performed Location
    tags.PERFORMED_END_DATE: "DA", tags.PERFORMED_END_TIME: "TM",
    0x00400254: "LO",  # Performed Procedure Step Description
    0x00400255: "LO",  # Performed Procedure Type Description
    0x00400260: "SQ",  # Performed Protocol Code Sequence
    tags.PERFORMED_SERIES_SEQUENCE: "SQ",
}  # fmt: skip
"""Type 2 of N-CREATE, table F.7.2-1."""

UNCHANGEABLE: Final = {
    tags.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, tags.PATIENT_NAME, tags.PATIENT_ID, tags.BIRTH_DATE, tags.SEX, 0x00081120,
    tags.PERFORMED_STEP_ID, tags.PERFORMED_STATION_AE_TITLE, 0x00400242, 0x00400243, tags.PERFORMED_START_DATE,
    tags.PERFORMED_START_TIME, tags.MODALITY, 0x00200010,
}  # fmt: skip
"""Not allowed in N-SET, table F.7.2-1; the same value again does no harm."""

REQUIRED_AT_THE_END: Final = {
    tags.PERFORMED_END_DATE: "Performed Procedure Step End Date",
    tags.PERFORMED_END_TIME: "Performed Procedure Step End Time",
}
"""Type 1 in the final state, table F.7.2-1."""

_NOT_KEPT: Final = frozenset((SPECIFIC_CHARACTER_SET, 0x00080016, tags.SOP_INSTANCE_UID))
_EMPTY: Final = Value("")


@dataclass(frozen=True, slots=True)
class ScheduledReference:
    """What an item of the Scheduled Step Attributes Sequence refers to."""

    study_instance_uid: str
    step_id: str


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """
    One performed procedure step.

    Attributes:
        values: the whole data set, without SOP Class and Instance UID.
        calling_ae_title: of the modality that made it.
    """

    sop_instance_uid: str
    values: Values
    calling_ae_title: str

    def text(self, tag: int) -> str:
        """Give a value."""
        return self.values.get(tag, _EMPTY).text

    @property
    def status(self) -> StepStatus:
        """How far it is."""
        return StepStatus(self.text(tags.PERFORMED_STEP_STATUS))

    @property
    def references(self) -> tuple[ScheduledReference, ...]:
        """The scheduled steps that it belongs to."""
        items = self.values.get(tags.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, _EMPTY).items or ()
        return tuple(
            ScheduledReference(item.get(tags.STUDY_INSTANCE_UID, _EMPTY).text, item.get(tags.STEP_ID, _EMPTY).text)
            for item in items
        )

    @property
    def study_instance_uid(self) -> str:
        """Of the first scheduled step."""
        return self.references[0].study_instance_uid if self.references else ""

    @property
    def instances(self) -> int:
        """How many objects its series name."""
        series = self.values.get(tags.PERFORMED_SERIES_SEQUENCE, _EMPTY).items or ()
        named = (tags.REFERENCED_IMAGE_SEQUENCE, tags.REFERENCED_NON_IMAGE_SEQUENCE)
        return sum(len(item.get(tag, _EMPTY).items or ()) for item in series for tag in named)

    def as_dict(self) -> dict[str, Any]:
        """Give the fields for JSON."""
        attributes = (self.values.get(tags.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, _EMPTY).items or ({},))[0]
        return {
            "sop_instance_uid": self.sop_instance_uid,
            "status": self.status.value,
            "performed_step_id": self.text(tags.PERFORMED_STEP_ID),
            "patient_id": self.text(tags.PATIENT_ID),
            "patient_name": self.text(tags.PATIENT_NAME),
            "birth_date": self.text(tags.BIRTH_DATE),
            "sex": self.text(tags.SEX),
            "study_instance_uid": self.study_instance_uid,
            "accession_number": attributes.get(tags.ACCESSION_NUMBER, _EMPTY).text,
            "step_ids": [reference.step_id for reference in self.references if reference.step_id],
            "modality": self.text(tags.MODALITY),
            "station_ae_title": self.text(tags.PERFORMED_STATION_AE_TITLE),
            "station_name": self.text(0x00400242),
            "description": self.text(0x00400254),
            "started_at": iso_date_time(self.text(tags.PERFORMED_START_DATE), self.text(tags.PERFORMED_START_TIME)),
            "ended_at": iso_date_time(self.text(tags.PERFORMED_END_DATE), self.text(tags.PERFORMED_END_TIME)),
            "num_series": len(self.values.get(tags.PERFORMED_SERIES_SEQUENCE, _EMPTY).items or ()),
            "num_instances": self.instances,
            "source_ae_title": self.calling_ae_title,
        }


def new_step(sop_instance_uid: str, values: Values, calling_ae_title: str) -> PerformedStep:
    """
    Give the step that an N-CREATE makes.

    Raises:
        MissingAttribute, MissingValue, InvalidValue: it lacks what it must have, or does not begin in progress.
    """
    own = _own(values)
    _require(own, REQUIRED)
    status = own[tags.PERFORMED_STEP_STATUS].text
    if status != StepStatus.IN_PROGRESS.value:
        raise InvalidValue("Performed Procedure Step Status must be IN PROGRESS", (tags.PERFORMED_STEP_STATUS,))
    for item in own[tags.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE].items or ():
        _require(item, {tags.STUDY_INSTANCE_UID: "Study Instance UID"})
    empty = {tag: Value(vr, "", () if vr == "SQ" else None) for tag, vr in EMPTY_IF_ABSENT.items()}
    return PerformedStep(sop_instance_uid, {**empty, **own}, calling_ae_title)


def missing_of_type_2(values: Values) -> tuple[int, ...]:
    """Give what a modality should have sent, even empty."""
    return tuple(tag for tag in EMPTY_IF_ABSENT if tag not in values)


def changed_step(step: PerformedStep, changes: Values) -> PerformedStep:
    """
    Give what an N-SET makes of a step.

    Raises:
        StepIsFinal, InvalidValue, MissingAttribute, MissingValue: it may not be changed so.
    """
    if step.status is not StepStatus.IN_PROGRESS:
        raise StepIsFinal("Performed Procedure Step may no longer be updated", (tags.PERFORMED_STEP_STATUS,))
    own = _own(changes)
    for tag in UNCHANGEABLE & own.keys():
        if own[tag] != step.values.get(tag):
            raise InvalidValue(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) may not be changed by N-SET", (tag,))
    values = {**step.values, **own}
    try:
        status = StepStatus(values[tags.PERFORMED_STEP_STATUS].text)
    except ValueError:
        raise InvalidValue(
            "Performed Procedure Step Status must be IN PROGRESS, COMPLETED or DISCONTINUED",
            (tags.PERFORMED_STEP_STATUS,),
        ) from None
    for item in values[tags.PERFORMED_SERIES_SEQUENCE].items or ():
        _require(item, {tags.SERIES_INSTANCE_UID: "Series Instance UID"})
    if status is not StepStatus.IN_PROGRESS:
        _require(values, REQUIRED_AT_THE_END)
    if status is StepStatus.COMPLETED:
        _require(values, {tags.PERFORMED_SERIES_SEQUENCE: "Performed Series Sequence"})
    return PerformedStep(step.sop_instance_uid, values, step.calling_ae_title)


def _own(values: Values) -> Values:
    """Give what is of the step itself: neither how it was encoded nor what the command says."""
    return {tag: value for tag, value in values.items() if tag >> 16 >= 0x0008 and tag not in _NOT_KEPT}


def _require(values: Values, required: dict[int, str]) -> None:
    for tag, name in required.items():
        value = values.get(tag)
        if value is None:
            raise MissingAttribute(f"{name} is missing", (tag,))
        if not value.text and not value.items:
            raise MissingValue(f"{name} has no value", (tag,))
