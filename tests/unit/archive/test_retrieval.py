"""
Going through a selection: pages of rows, objects that are gone, objects that are taken back.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from pacs.archive.retrieval import PAGE_OBJECTS, Kind, ObjectCursor, Selection, StoredObject

CT, MR = (Kind("1.2.3", "ID", sop_class, "1.2.840.10008.1.2.1") for sop_class in ("1.2.840.1", "1.2.840.2"))
COUNT = 3 * PAGE_OBJECTS + 7


def index() -> sqlite3.Connection:
    """Give an index in which each third object is gone."""
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE instances (pk INTEGER PRIMARY KEY, sop_instance_uid TEXT, path TEXT, data_set_offset INTEGER,"
        " size_bytes INTEGER, received_at INTEGER, transfer_syntax_uid TEXT)"
    )
    connection.executemany(
        "INSERT INTO instances VALUES (?, ?, ?, 300, 1000, 0, '1.2.840.10008.1.2.1')",
        [(key, f"1.2.{key}", f"objects/{key}") for key in range(COUNT) if key % 3],
    )
    return connection


def selection() -> Selection:
    return Selection((CT, MR), array("q", range(COUNT)), array("L", [key % 2 for key in range(COUNT)]))


def cursor(of: Selection, pages: list[int]) -> ObjectCursor:
    connection = index()

    async def run(function: Callable[[sqlite3.Connection], Any]) -> Any:
        page = function(connection)
        pages.append(len(page))
        return page

    return ObjectCursor(of, run=run)


def result_of(coroutine: Coroutine[Deferred[Any], Any, Any]) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addCallback(results.append)
    return results[0]


async def everything(objects: ObjectCursor) -> list[StoredObject]:
    found = []
    while (stored := await objects.next()) is not None:
        found.append(stored)
    return found


def test_all_objects_come_in_order_page_by_page() -> None:
    pages: list[int] = []
    found = result_of(everything(cursor(selection(), pages)))
    assert pages == [PAGE_OBJECTS] * 3 + [7]
    assert [stored.kind for stored in found] == [(CT, MR)[key % 2] for key in range(COUNT)]
    assert [stored.path for stored in found] == [f"objects/{key}" if key % 3 else "" for key in range(COUNT)]


def test_what_was_not_sent_comes_again() -> None:
    objects = cursor(selection(), [])
    first, second = result_of(objects.next()), result_of(objects.next())
    objects.push_back(first, second)
    assert result_of(everything(objects))[:2] == [first, second]


def test_a_part_has_the_objects_of_its_sop_classes() -> None:
    part = selection().of_sop_classes({MR.sop_class_uid})
    assert len(part) == COUNT // 2
    assert part.count_by_kind() == {MR: COUNT // 2}
    assert {stored.kind for stored in result_of(everything(cursor(part, [])))} == {MR}
    assert selection().count_by_kind() == {CT: COUNT - COUNT // 2, MR: COUNT // 2}
