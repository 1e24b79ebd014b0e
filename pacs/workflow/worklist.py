"""
The worklist: what the doors (C-FIND, REST, `pacsctl`) do with it. Every change is durable before it is answered, and
is an event.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from pacs.archive.archive import Archive
from pacs.archive.evaluate import matches
from pacs.archive.index.writer import IndexWriter
from pacs.archive.query import AnyOf, Condition, Equals, Period, Range, SequenceKey, Wildcard
from pacs.dataset.values import Values
from pacs.events import EventBus, WorklistChanged
from pacs.security.access import Principal
from pacs.workflow import tags
from pacs.workflow.item import WorklistItem, item_from_fields
from pacs.workflow.operations import perform
from pacs.workflow.worklist_table import (
    Execute,
    Position,
    delete_item,
    get_item,
    insert_item,
    items_after,
    list_items,
    position_of,
    update_item,
)

PAGE_ITEMS: Final = 200
_COLUMN_OF: Final[Mapping[int, str]] = {
    tags.STEP_ID: "step_id",
    tags.STUDY_INSTANCE_UID: "study_instance_uid",
    tags.PATIENT_ID: "patient_id",
    tags.ACCESSION_NUMBER: "accession_number",
    tags.MODALITY: "modality",
    tags.STATION_AE_TITLE: "station_ae_title",
}
"""Keys that the index looks at before the items are."""

T = TypeVar("T")
Fields = dict[str, Any]
FieldsOfItems = list[Fields]
PageOfValues = list[Values]


class Worklist:
    """The scheduled procedure steps of an archive."""

    def __init__(self, *, archive: Archive, bus: EventBus) -> None:
        self._archive = archive
        self._bus = bus

    # -- the operations of the contract's section 5

    async def list(
        self, filters: Mapping[str, str], *, limit: int = 100, offset: int = 0, sort: str = "scheduled_datetime"
    ) -> tuple[int, FieldsOfItems]:
        """
        Give how many items there are and a page of them, as JSON fields.

        Raises:
            InvalidValue: a filter or an order that there is not.
        """
        total, items = await self._read(
            lambda execute: list_items(execute, filters, limit=limit, offset=offset, sort=sort)
        )
        return total, [item.as_dict() for item in items]

    async def get(self, pk: int) -> Fields:
        """
        Give one item.

        Raises:
            NotFound: there is none.
        """
        return (await self._read(lambda execute: get_item(execute, pk))).as_dict()

    async def create(self, fields: Mapping[str, Any], who: Principal) -> Fields:
        """
        Add an item.

        Raises:
            InvalidValue, MissingValue: a field is wrong or missing; the message names it.
        """
        item = item_from_fields(fields)
        created = await self._archive.change(
            lambda writer: insert_item(writer.execute, item),
            events=lambda item: [worklist_changed(item, "created", who)],
        )
        self._changed((created,), "created", who)
        return created.as_dict()

    async def replace(self, pk: int, fields: Mapping[str, Any], who: Principal) -> Fields:
        """
        Write an item anew.

        Raises:
            NotFound: there is none.
            InvalidValue, MissingValue: a field is wrong or missing.
        """

        def change(writer: IndexWriter) -> WorklistItem:
            item = item_from_fields(fields, before=get_item(writer.execute, pk))
            update_item(writer.execute, item)
            return item

        item = await self._archive.change(change, events=lambda item: [worklist_changed(item, "replaced", who)])
        self._changed((item,), "replaced", who)
        return item.as_dict()

    async def delete(self, pk: int, who: Principal) -> None:
        """
        Remove an item.

        Raises:
            NotFound: there is none.
        """
        item = await self._archive.change(
            lambda writer: delete_item(writer.execute, pk),
            events=lambda item: [worklist_changed(item, "deleted", who)],
        )
        self._changed((item,), "deleted", who)

    async def perform(self, request: Mapping[str, Any], who: Principal) -> Fields:
        """
        Do what an operator asks (`pacs.workflow.operations`), all or nothing.

        Raises:
            WorkflowError: it can't be done; the message says why.
        """
        done = await self._archive.change(
            lambda writer: perform(writer.execute, request),
            events=lambda done: [worklist_changed(item, action, who) for item, action in done.changes],
        )
        if self._bus.has_subscribers(WorklistChanged):
            self._bus.publish_all([worklist_changed(item, action, who) for item, action in done.changes])
        return done.result

    # -- queries

    async def find(self, conditions: Sequence[Condition]) -> AsyncIterator[PageOfValues]:
        """
        Give the data sets that match, page by page, in the order of schedule.

        Without a condition on Scheduled Procedure Step Status those that are completed or discontinued are left out.
        """
        step_conditions = [
            inner
            for condition in conditions
            if isinstance(condition, SequenceKey) and condition.tag == tags.SCHEDULED_STEP_SEQUENCE
            for inner in condition.conditions
        ]
        first_date, last_date = _dates(step_conditions)
        equal = {
            column: condition.value
            for condition in (*conditions, *step_conditions)
            if isinstance(condition, Equals) and (column := _COLUMN_OF.get(condition.tag)) is not None
        }
        open_only = not any(
            isinstance(condition, (Equals, AnyOf, Wildcard)) and condition.tag == tags.STEP_STATUS
            for condition in step_conditions
        )
        position = Position()

        def page(execute: Execute) -> tuple[PageOfValues, Position, bool]:
            items = items_after(
                execute,
                position,
                open_only=open_only,
                first_date=first_date,
                last_date=last_date,
                equal=equal,
                limit=PAGE_ITEMS,
            )
            answered = [item.answered() for item in items]
            found = [values for values in answered if all(matches(condition, values) for condition in conditions)]
            return found, position_of(items[-1]) if items else position, len(items) < PAGE_ITEMS

        while True:
            found, position, is_last = await self._read(page)
            if found:
                yield found
            if is_last:
                return

    # -- within

    async def _read(self, function: Callable[[Execute], T]) -> T:
        def in_thread(connection: sqlite3.Connection) -> T:
            return function(lambda statement, parameters: connection.execute(statement, parameters).fetchall())

        return await self._archive.run(in_thread)

    def _changed(self, items: Sequence[WorklistItem], action: str, who: Principal) -> None:
        if self._bus.has_subscribers(WorklistChanged):
            self._bus.publish_all([worklist_changed(item, action, who) for item in items])


def worklist_changed(item: WorklistItem, action: str, who: Principal) -> WorklistChanged:
    """Give the event of an item's change."""
    return WorklistChanged(
        item_id=item.pk,
        step_id=item.text(tags.STEP_ID),
        study_instance_uid=item.text(tags.STUDY_INSTANCE_UID),
        status=item.status.value,
        action=action,
        user=who.name,
        patient_id=item.text(tags.PATIENT_ID),
        peer_address=who.peer_address,
    )


def _dates(conditions: Sequence[Condition]) -> tuple[str, str]:
    """Give the days that conditions leave, so that the index looks at those alone."""
    for condition in conditions:
        found = condition.date if isinstance(condition, Period) else condition
        if isinstance(found, Range) and found.tag == tags.SCHEDULED_DATE:
            return found.low, found.high
    return "", ""
