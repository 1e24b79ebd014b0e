"""
What an operator does with the worklist, in one transaction: the same with a running server and without one.

A request is what `pacsctl` sends over the control socket: `{"action": "add" | "list" | "remove" | "import", …}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pacs.workflow import tags
from pacs.workflow.errors import InvalidValue
from pacs.workflow.item import WorklistItem, item_from_fields, items_of
from pacs.workflow.stored_form import from_stored
from pacs.workflow.worklist_table import (
    Execute,
    delete_item,
    insert_item,
    items_of_step,
    list_items,
    update_item,
)

LISTED: Final = 1000


@dataclass(frozen=True, slots=True)
class Done:
    """
    What was done.

    Attributes:
        result: for the operator.
        changes: items, each with what became of it.
    """

    result: dict[str, Any]
    changes: tuple[tuple[WorklistItem, str], ...] = ()


def perform(execute: Execute, request: Mapping[str, Any]) -> Done:
    """
    Do what a request asks.

    Raises:
        WorkflowError: it can't be done; nothing of it is.
    """
    action = request.get("action")
    if action == "add":
        item = insert_item(execute, item_from_fields(request["fields"]))
        return Done(item.as_dict(), ((item, "created"),))
    if action == "list":
        limit, offset = int(request.get("limit", LISTED)), int(request.get("offset", 0))
        total, items = list_items(execute, request.get("filters", {}), limit=limit, offset=offset)
        return Done({"total": total, "items": [item.as_dict() for item in items]})
    if action == "remove":
        removed = [delete_item(execute, int(pk)) for pk in request["ids"]]
        return Done({"removed": len(removed)}, tuple((item, "deleted") for item in removed))
    if action == "import":
        return _import(execute, [item for text in request["data_sets"] for item in items_of(from_stored(text))])
    raise InvalidValue("unknown action")


def _import(execute: Execute, items: list[WorklistItem]) -> Done:
    """Add items; one whose study and step are there already takes its place, so that a second import does no harm."""
    changes: list[tuple[WorklistItem, str]] = []
    for item in items:
        known = items_of_step(execute, item.text(tags.STUDY_INSTANCE_UID), item.text(tags.STEP_ID))
        if known:
            updated = replace(item, pk=known[0].pk, status=known[0].status)
            update_item(execute, updated)
            changes.append((updated, "replaced"))
        else:
            changes.append((insert_item(execute, item), "created"))
    added = sum(action == "created" for _, action in changes)
    return Done({"added": added, "replaced": len(changes) - added}, tuple(changes))
