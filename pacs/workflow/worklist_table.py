"""
The worklist in the index: each function is a part of one transaction, or reads one snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pacs.workflow import tags
from pacs.workflow.errors import InvalidValue, NotFound
from pacs.workflow.item import OPEN_STATUSES, ItemStatus, WorklistItem, status_value
from pacs.workflow.stored_form import from_stored, to_stored
from pacs.workflow.text import date_value

Execute = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs a statement with its parameters; gives its rows."""

_COLUMNS: Final = (
    "status", "step_id", "study_instance_uid", "patient_id", "accession_number", "modality", "station_ae_title",
    "scheduled_date", "scheduled_time", "data", "changed_at",
)  # fmt: skip
_SELECT: Final = "SELECT pk, status, data FROM worklist"
EQUAL: Final = frozenset(
    ("status", "step_id", "study_instance_uid", "patient_id", "accession_number", "modality", "station_ae_title")
)
_RANGES: Final[Mapping[str, str]] = {
    "scheduled_date_from": "scheduled_date >= ?",
    "scheduled_date_to": "scheduled_date <= ? AND scheduled_date <> ''",
}
_ORDER: Final = "scheduled_date, scheduled_time, pk"
SORTABLE: Final[Mapping[str, str]] = {
    "id": "pk",
    "scheduled_datetime": _ORDER,
    **{name: f"{name}, pk" for name in sorted(EQUAL)},
}


@dataclass(frozen=True, slots=True)
class Position:
    """Behind which item of the order of schedule a page begins."""

    date: str = ""
    time: str = ""
    pk: int = 0


def insert_item(execute: Execute, item: WorklistItem) -> WorklistItem:
    """Add an item; give it with its id."""
    marks = ", ".join("?" * len(_COLUMNS))
    rows = execute(f"INSERT INTO worklist ({', '.join(_COLUMNS)}) VALUES ({marks}) RETURNING pk", _row(item))
    return WorklistItem(int(rows[0][0]), item.status, item.values)


def update_item(execute: Execute, item: WorklistItem) -> None:
    """Write an item that is there."""
    changes = ", ".join(f"{name} = ?" for name in _COLUMNS)
    execute(f"UPDATE worklist SET {changes} WHERE pk = ?", (*_row(item), item.pk))


def get_item(execute: Execute, pk: int) -> WorklistItem:
    """
    Give an item.

    Raises:
        NotFound: there is none.
    """
    rows = execute(f"{_SELECT} WHERE pk = ?", (pk,))
    if not rows:
        raise NotFound("there is no such worklist item")
    return _item(rows[0])


def delete_item(execute: Execute, pk: int) -> WorklistItem:
    """
    Remove an item; give what it was.

    Raises:
        NotFound: there is none.
    """
    item = get_item(execute, pk)
    execute("DELETE FROM worklist WHERE pk = ?", (pk,))
    execute("DELETE FROM step_links WHERE worklist_pk = ?", (pk,))
    return item


def list_items(
    execute: Execute, filters: Mapping[str, str], *, limit: int, offset: int, sort: str = "scheduled_datetime"
) -> tuple[int, list[WorklistItem]]:
    """
    Give how many items there are, and a page of them.

    Args:
        filters: values of fields, and `scheduled_date_from`, `scheduled_date_to` (included).
        sort: a field; with "-" before it downwards.

    Raises:
        InvalidValue: a filter or an order that there is not, or a value that can't be one.
    """
    conditions: list[str] = ["1"]
    parameters: list[str] = []
    for name, value in filters.items():
        if name in EQUAL:
            conditions.append(f"{name} = ?")
            parameters.append(status_value(value).value if name == "status" else value)
        elif name in _RANGES:
            conditions.append(_RANGES[name])
            parameters.append(date_value(name, value))
        else:
            raise InvalidValue(f"{name[:64]}: not a filter of the worklist")
    order = SORTABLE.get(sort.removeprefix("-"))
    if order is None:
        raise InvalidValue(f"{sort[:64]}: the worklist is not sorted by it")
    if sort.startswith("-"):
        order = ", ".join(f"{name} DESC" for name in order.split(", "))
    where = " AND ".join(conditions)
    total = int(execute(f"SELECT count(*) FROM worklist WHERE {where}", parameters)[0][0])
    rows = execute(f"{_SELECT} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?", (*parameters, limit, offset))
    return total, [_item(row) for row in rows]


def items_after(
    execute: Execute,
    position: Position,
    *,
    open_only: bool,
    first_date: str,
    last_date: str,
    equal: Mapping[str, str],
    limit: int,
) -> list[WorklistItem]:
    """
    Give items in the order of schedule; those without a date belong to every range of dates.

    Args:
        equal: single values that some columns must have or, of several, may have.
    """
    conditions = ["(scheduled_date, scheduled_time, pk) > (?, ?, ?)"]
    parameters: list[Any] = [position.date, position.time, position.pk]
    if open_only:
        conditions.append(f"status IN ({', '.join('?' * len(OPEN_STATUSES))})")
        parameters += [status.value for status in OPEN_STATUSES]
    if first_date:
        conditions.append("(scheduled_date >= ? OR scheduled_date = '')")
        parameters.append(first_date)
    if last_date:
        conditions.append("scheduled_date <= ?")
        parameters.append(last_date)
    for name, value in equal.items():
        conditions.append(f"(trim({name}) = ? OR instr({name}, '\\') > 0)")
        parameters.append(value)
    statement = f"{_SELECT} WHERE {' AND '.join(conditions)} ORDER BY {_ORDER} LIMIT ?"
    return [_item(row) for row in execute(statement, (*parameters, limit))]


def items_of_step(execute: Execute, study_instance_uid: str, step_id: str) -> list[WorklistItem]:
    """Give the items that a performed step can mean by study and, if it names one, by step."""
    if not study_instance_uid:
        return []
    if step_id:
        condition, parameters = "study_instance_uid = ? AND step_id = ?", (study_instance_uid, step_id)
        return [_item(row) for row in execute(f"{_SELECT} WHERE {condition}", parameters)]
    rows = execute(f"{_SELECT} WHERE study_instance_uid = ? LIMIT 2", (study_instance_uid,))
    return [_item(row) for row in rows] if len(rows) == 1 else []  # which of several it is nobody knows


def position_of(item: WorklistItem) -> Position:
    """Give where the next page begins."""
    return Position(*item.scheduled, item.pk)


def _row(item: WorklistItem) -> tuple[Any, ...]:
    return (
        item.status.value,
        item.text(tags.STEP_ID),
        item.text(tags.STUDY_INSTANCE_UID),
        item.text(tags.PATIENT_ID),
        item.text(tags.ACCESSION_NUMBER),
        item.text(tags.MODALITY),
        item.text(tags.STATION_AE_TITLE),
        *item.scheduled,
        to_stored(item.values),
        time.time_ns() // 1000,
    )


def _item(row: tuple[Any, ...]) -> WorklistItem:
    return WorklistItem(int(row[0]), ItemStatus(row[1]), from_stored(row[2]))
