"""
The performed procedure steps: kept, changed by their rules, and followed by the worklist. Every change is durable
before it is answered, and is an event.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from twisted.logger import Logger

from pacs.archive.archive import Archive
from pacs.archive.index.writer import IndexWriter
from pacs.dataset.values import Values
from pacs.events import Event, EventBus, MPPSChanged
from pacs.security.access import Principal
from pacs.workflow import tags
from pacs.workflow.errors import Duplicate, InvalidValue, NotFound
from pacs.workflow.item import ItemStatus, WorklistItem
from pacs.workflow.step import PerformedStep, StepStatus, changed_step, missing_of_type_2, new_step
from pacs.workflow.stored_form import from_stored, to_stored
from pacs.workflow.worklist import worklist_changed
from pacs.workflow.worklist_table import Execute, get_item, items_of_step, update_item

_SELECT: Final = "SELECT sop_instance_uid, data, calling_ae_title FROM performed_steps"
_INSERT: Final = (
    "INSERT INTO performed_steps (sop_instance_uid, status, study_instance_uid, patient_id, calling_ae_title, data,"
    " created_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING pk"
)
_UPDATE: Final = "UPDATE performed_steps SET status = ?, data = ?, changed_at = ? WHERE sop_instance_uid = ?"
_STATUSES: Final = (
    "SELECT s.status FROM step_links l JOIN performed_steps s ON s.pk = l.performed_step_pk WHERE l.worklist_pk = ?"
)
_FILTERS: Final = frozenset(("status", "study_instance_uid", "patient_id"))
_ITEM_STATUS: Final = {
    StepStatus.IN_PROGRESS: ItemStatus.STARTED,
    StepStatus.COMPLETED: ItemStatus.COMPLETED,
    StepStatus.DISCONTINUED: ItemStatus.DISCONTINUED,
}
_STRONGEST: Final = tuple(_ITEM_STATUS)  # of several steps that belong to one item, the first of these decides

FieldsOfSteps = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """
    What a change of a step did.

    Attributes:
        number_of_items: how many items it belongs to.
        items: those whose status it changed.
        names_another_patient: an item that it belongs to has another Patient ID.
    """

    step: PerformedStep
    number_of_items: int
    items: tuple[WorklistItem, ...]
    names_another_patient: bool = False


class PerformedSteps:
    """The performed procedure steps of an archive."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, archive: Archive, bus: EventBus) -> None:
        self._archive = archive
        self._bus = bus

    async def create(self, sop_instance_uid: str, values: Values, who: Principal) -> PerformedStep:
        """
        Make a step.

        Raises:
            Duplicate: there is one with this UID.
            MissingAttribute, MissingValue, InvalidValue: it is not as PS3.4 F.7.2.1 has it.
        """
        step = new_step(sop_instance_uid, values, who.name)
        for tag in missing_of_type_2(values):
            self.log.debug(
                "{calling_ae_title} makes {sop_instance_uid} without ({group:04X},{element:04X}); it is kept empty",
                calling_ae_title=who.name,
                sop_instance_uid=sop_instance_uid,
                group=tag >> 16,
                element=tag & 0xFFFF,
            )
        change = await self._archive.change(
            lambda writer: _create(writer.execute, step), events=lambda change: _events(change, "created", who)
        )
        if not change.number_of_items:
            self.log.info(
                "{calling_ae_title} makes step {sop_instance_uid} that no worklist item knows; it is kept",
                calling_ae_title=who.name,
                sop_instance_uid=sop_instance_uid,
            )
        if change.names_another_patient:
            self.log.warn(
                "step {sop_instance_uid} of {calling_ae_title} names another patient than the worklist item that it"
                " belongs to; look at both",
                calling_ae_title=who.name,
                sop_instance_uid=sop_instance_uid,
            )
        self._publish(change, "created", who)
        return step

    async def change(self, sop_instance_uid: str, changes: Values, who: Principal) -> PerformedStep:
        """
        Change a step.

        Raises:
            NotFound: there is none.
            StepIsFinal, MissingAttribute, MissingValue, InvalidValue: it may not be changed so (PS3.4 F.7.2.2).
        """

        def in_transaction(writer: IndexWriter) -> Change:
            return _change(writer.execute, changed_step(_get(writer.execute, sop_instance_uid), changes))

        change = await self._archive.change(in_transaction, events=lambda change: _events(change, "changed", who))
        self._publish(change, "changed", who)
        return change.step

    async def get(self, sop_instance_uid: str) -> PerformedStep:
        """
        Give a step.

        Raises:
            NotFound: there is none.
        """
        return await self._archive.run(lambda connection: _get(_reading(connection), sop_instance_uid))

    async def list(self, filters: Mapping[str, str], *, limit: int = 100, offset: int = 0) -> tuple[int, FieldsOfSteps]:
        """
        Give how many steps there are and a page of them as JSON fields, the newest first.

        Args:
            filters: status, study_instance_uid, patient_id.

        Raises:
            InvalidValue: another filter.
        """
        unknown = sorted(set(filters) - _FILTERS)
        if unknown:
            raise InvalidValue(f"{unknown[0][:64]}: not a filter of performed steps")
        where = " AND ".join(["1", *(f"{name} = ?" for name in filters)])
        parameters = tuple(filters.values())

        def read(connection: sqlite3.Connection) -> tuple[int, FieldsOfSteps]:
            execute = _reading(connection)
            total = int(execute(f"SELECT count(*) FROM performed_steps WHERE {where}", parameters)[0][0])
            rows = execute(f"{_SELECT} WHERE {where} ORDER BY pk DESC LIMIT ? OFFSET ?", (*parameters, limit, offset))
            return total, [_step(row).as_dict() for row in rows]

        return await self._archive.run(read)

    def _publish(self, change: Change, action: str, who: Principal) -> None:
        self._bus.publish_all(_events(change, action, who))


def _events(change: Change, action: str, who: Principal) -> list[Event]:
    """Give what a change of a step means to subscribers."""
    step = change.step
    step_changed = MPPSChanged(
        sop_instance_uid=step.sop_instance_uid,
        study_instance_uid=step.study_instance_uid,
        status=step.status.value,
        action=action,
        calling_ae=who.name,
        worklist_items=change.number_of_items,
        instances=step.instances,
        patient_id=step.text(tags.PATIENT_ID),
        peer_address=who.peer_address,
    )
    return [step_changed, *(worklist_changed(item, "status", who) for item in change.items)]


# -- parts of a transaction


def _reading(connection: sqlite3.Connection) -> Execute:
    return lambda statement, parameters: connection.execute(statement, parameters).fetchall()


def _step(row: tuple[Any, ...]) -> PerformedStep:
    return PerformedStep(row[0], from_stored(row[1]), row[2])


def _get(execute: Execute, sop_instance_uid: str) -> PerformedStep:
    rows = execute(f"{_SELECT} WHERE sop_instance_uid = ?", (sop_instance_uid,))
    if not rows:
        raise NotFound("there is no such performed procedure step")
    return _step(rows[0])


def _create(execute: Execute, step: PerformedStep) -> Change:
    if execute("SELECT 1 FROM performed_steps WHERE sop_instance_uid = ?", (step.sop_instance_uid,)):
        raise Duplicate("there is a performed procedure step with this UID already")
    now = time.time_ns() // 1000
    rows = execute(
        _INSERT,
        (
            step.sop_instance_uid,
            step.status.value,
            step.study_instance_uid,
            step.text(tags.PATIENT_ID),
            step.calling_ae_title,
            to_stored(step.values),
            now,
            now,
        ),
    )
    for reference in step.references:
        for item in items_of_step(execute, reference.study_instance_uid, reference.step_id):
            execute("INSERT OR IGNORE INTO step_links VALUES (?, ?)", (item.pk, rows[0][0]))
    return _followed(execute, step)


def _change(execute: Execute, step: PerformedStep) -> Change:
    values = (step.status.value, to_stored(step.values), time.time_ns() // 1000, step.sop_instance_uid)
    execute(_UPDATE, values)
    return _followed(execute, step)


def _followed(execute: Execute, step: PerformedStep) -> Change:
    """Let the worklist items of a step follow it."""
    rows = execute(
        "SELECT l.worklist_pk FROM step_links l JOIN performed_steps s ON s.pk = l.performed_step_pk"
        " WHERE s.sop_instance_uid = ?",
        (step.sop_instance_uid,),
    )
    changed: list[WorklistItem] = []
    patients: set[str] = {step.text(tags.PATIENT_ID)}
    for (pk,) in rows:
        item = get_item(execute, pk)
        patients.add(item.text(tags.PATIENT_ID))
        statuses = {StepStatus(status) for (status,) in execute(_STATUSES, (pk,))}
        status = _ITEM_STATUS[next(status for status in _STRONGEST if status in statuses)]
        if status is not item.status:
            changed.append(replace(item, status=status))
            update_item(execute, changed[-1])
    return Change(step, len(rows), tuple(changed), names_another_patient=len(patients - {""}) > 1)
