"""
A worklist item: a scheduled procedure step with its requested procedure, order and patient (PS3.4 K.6, PS3.3 C.4.10).

The whole data set is kept, whatever it has; the fields of the contract's section 5 are a view of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, NamedTuple

from pacs.archive.times import normal_date, normal_time
from pacs.dataset.values import SPECIFIC_CHARACTER_SET, Value, Values
from pacs.workflow import tags
from pacs.workflow.errors import InvalidValue, MissingValue
from pacs.workflow.text import checked, date_time_values, iso_date_time


class ItemStatus(Enum):
    """How far a scheduled procedure step is (PS3.3 C.4.10, as far as it is used here)."""

    SCHEDULED = "SCHEDULED"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


OPEN_STATUSES: Final = (ItemStatus.SCHEDULED, ItemStatus.STARTED)
"""What a query that does not ask for a status is answered with."""


class Field(NamedTuple):
    """A field of the JSON form: its attribute, and whether that is in the Scheduled Procedure Step Sequence."""

    name: str
    tag: int
    vr: str
    is_of_step: bool = False
    is_required: bool = False


FIELDS: Final = (
    Field("step_id", tags.STEP_ID, "SH", is_of_step=True),
    Field("patient_id", tags.PATIENT_ID, "LO", is_required=True),
    Field("patient_name", tags.PATIENT_NAME, "PN", is_required=True),
    Field("birth_date", tags.BIRTH_DATE, "DA"),
    Field("sex", tags.SEX, "CS"),
    Field("accession_number", tags.ACCESSION_NUMBER, "SH"),
    Field("requested_procedure_id", tags.REQUESTED_PROCEDURE_ID, "SH"),
    Field("study_instance_uid", tags.STUDY_INSTANCE_UID, "UI"),
    Field("station_ae_title", tags.STATION_AE_TITLE, "AE", is_of_step=True),
    Field("station_name", tags.STATION_NAME, "SH", is_of_step=True),
    Field("modality", tags.MODALITY, "CS", is_of_step=True, is_required=True),
    Field("description", tags.STEP_DESCRIPTION, "LO", is_of_step=True),
    Field("referring_physician", tags.REFERRING_PHYSICIAN, "PN"),
)
SCHEDULED_DATETIME: Final = "scheduled_datetime"
FIELD_NAMES: Final = (*(field.name for field in FIELDS), SCHEDULED_DATETIME, "status")

_KEPT: Final = frozenset(("step_id", "requested_procedure_id", "study_instance_uid"))  # identifiers are not cleared
_EMPTY: Final = Value("")


@dataclass(frozen=True, slots=True)
class WorklistItem:
    """
    One scheduled procedure step.

    Attributes:
        pk: its id; 0 while it has none.
        values: the whole data set, with exactly one item in its Scheduled Procedure Step Sequence.
    """

    pk: int
    status: ItemStatus
    values: Values

    @property
    def step(self) -> Values:
        """The item of the Scheduled Procedure Step Sequence."""
        items = self.values[tags.SCHEDULED_STEP_SEQUENCE].items
        assert items
        return items[0]

    def text(self, tag: int) -> str:
        """Give a value, of the step where it has one."""
        found = self.step.get(tag) or self.values.get(tag)
        return "" if found is None else found.text

    @property
    def scheduled(self) -> tuple[str, str]:
        """Date and time as they are compared."""
        return normal_date(self.text(tags.SCHEDULED_DATE)), normal_time(self.text(tags.SCHEDULED_TIME))

    def answered(self) -> Values:
        """Give the data set as it is matched and answered: with the status."""
        step = {**self.step, tags.STEP_STATUS: Value("CS", self.status.value)}
        return {**self.values, tags.SCHEDULED_STEP_SEQUENCE: Value("SQ", "", (step,))}

    def as_dict(self) -> dict[str, Any]:
        """Give the fields of the contract."""
        fields: dict[str, Any] = {"id": self.pk, "status": self.status.value}
        for field in FIELDS:
            source = self.step if field.is_of_step else self.values
            fields[field.name] = source.get(field.tag, _EMPTY).text
        fields[SCHEDULED_DATETIME] = iso_date_time(
            self.step.get(tags.SCHEDULED_DATE, _EMPTY).text, self.step.get(tags.SCHEDULED_TIME, _EMPTY).text
        )
        return fields


def items_of(values: Values) -> tuple[WorklistItem, ...]:
    """
    Give the items of a data set, one for each item of its Scheduled Procedure Step Sequence; what they lack is made.

    Raises:
        MissingValue: it has no scheduled step.
    """
    sequence = values.get(tags.SCHEDULED_STEP_SEQUENCE)
    if sequence is None or not sequence.items:
        raise MissingValue("it has no Scheduled Procedure Step Sequence", (tags.SCHEDULED_STEP_SEQUENCE,))
    common = {tag: value for tag, value in values.items() if tag != SPECIFIC_CHARACTER_SET}
    if not common.get(tags.STUDY_INSTANCE_UID, _EMPTY).text:
        common[tags.STUDY_INSTANCE_UID] = Value("UI", new_uid())  # one for all steps of the procedure
    found: list[WorklistItem] = []
    for step in sequence.items:
        try:
            status = ItemStatus(step.get(tags.STEP_STATUS, _EMPTY).text or "SCHEDULED")
        except ValueError:  # ARRIVED, READY: scheduled still, to us
            status = ItemStatus.SCHEDULED
        found.append(complete(WorklistItem(0, status, {**common, tags.SCHEDULED_STEP_SEQUENCE: _one(step)})))
    return tuple(found)


def item_from_fields(fields: Mapping[str, Any], *, before: WorklistItem | None = None) -> WorklistItem:
    """
    Make an item of the JSON form.

    Args:
        before: the item that it replaces; what the fields do not reach stays.

    Raises:
        InvalidValue, MissingValue: a field is wrong, unknown or missing; the message names it.
    """
    unknown = sorted(set(fields) - set(FIELD_NAMES) - {"id"})
    if unknown:
        raise InvalidValue(f"{unknown[0][:64]}: unknown field")
    values = dict(before.values) if before is not None else {}
    step = dict(before.step) if before is not None else {}
    for field in FIELDS:
        text = checked(field.name, field.vr, _text(fields, field.name))
        if field.is_required and not text:
            raise MissingValue(f"{field.name}: a value is needed", (field.tag,))
        if text or field.name not in _KEPT:
            (step if field.is_of_step else values)[field.tag] = Value(field.vr, text)
    moment = _text(fields, SCHEDULED_DATETIME)
    if not moment:
        raise MissingValue(f"{SCHEDULED_DATETIME}: a value is needed", (tags.SCHEDULED_DATE,))
    date, time = date_time_values(SCHEDULED_DATETIME, moment)
    step[tags.SCHEDULED_DATE], step[tags.SCHEDULED_TIME] = Value("DA", date), Value("TM", time)
    description = step[tags.STEP_DESCRIPTION].text
    before_it = before.step.get(tags.STEP_DESCRIPTION, _EMPTY).text if before is not None else ""
    if values.get(tags.REQUESTED_PROCEDURE_DESCRIPTION, _EMPTY).text in ("", before_it):
        values[tags.REQUESTED_PROCEDURE_DESCRIPTION] = Value("LO", description)  # it says the same of the procedure
    values[tags.SCHEDULED_STEP_SEQUENCE] = _one(step)
    status = before.status if before is not None else ItemStatus.SCHEDULED
    return complete(WorklistItem(before.pk if before is not None else 0, _status(fields, status), values))


def complete(item: WorklistItem) -> WorklistItem:
    """Give an item the identifiers that a modality can't do without (type 1 in PS3.4 table K.6-1)."""
    values, step = dict(item.values), dict(item.step)
    number = uuid.uuid4().int
    if not values.get(tags.STUDY_INSTANCE_UID, _EMPTY).text:
        values[tags.STUDY_INSTANCE_UID] = Value("UI", new_uid())
    if not step.get(tags.STEP_ID, _EMPTY).text:
        step[tags.STEP_ID] = Value("SH", f"SPS{number % 10**12:012d}")
    if not values.get(tags.REQUESTED_PROCEDURE_ID, _EMPTY).text:
        values[tags.REQUESTED_PROCEDURE_ID] = Value("SH", f"RP{number % 10**12:012d}")
    step.pop(tags.STEP_STATUS, None)  # it is the item's own
    values[tags.SCHEDULED_STEP_SEQUENCE] = _one(step)
    return replace(item, values=values)


def new_uid() -> str:
    """Give a new UID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def _one(step: Values) -> Value:
    return Value("SQ", "", (step,))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidValue(f"{name}: a text is needed")
    return value


def _status(fields: Mapping[str, Any], default: ItemStatus) -> ItemStatus:
    text = _text(fields, "status")
    return status_value(text) if text else default


def status_value(text: str) -> ItemStatus:
    """
    Give a status.

    Raises:
        InvalidValue: it is none.
    """
    try:
        return ItemStatus(text)
    except ValueError:
        raise InvalidValue(f"status: one of {', '.join(status.value for status in ItemStatus)}") from None
