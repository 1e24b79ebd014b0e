"""
Which objects a retrieval is about: counted and sorted at once, looked up page by page while they are sent.

A selection of 100,000 objects is two arrays of numbers; the rows with their paths are read as they are needed, and an
object that was replaced or deleted since is noticed then.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from pacs.archive.attributes import Level
from pacs.archive.index.schema import INSTANCES, PATIENTS, STUDIES
from pacs.archive.index.search import select_for
from pacs.archive.index.sql import compile_select
from pacs.archive.query import AnyOf, Condition, Equals, Query

ROWS_AT_ONCE: Final = 2000
PAGE_OBJECTS: Final = 200
_PLACE: Final = "place "  # what stands for a value while a statement is made

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind:
    """What the objects of a selection are told apart by."""

    study_instance_uid: str
    patient_id: str
    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """
    One object to be read.

    Attributes:
        path: below the archive's root; empty when it is not there any more.
        size_bytes: of its file.
        received_at: microseconds since 1970, UTC.
    """

    kind: Kind
    sop_instance_uid: str
    path: str
    data_set_offset: int
    size_bytes: int
    received_at: int = 0

    @property
    def sop_class_uid(self) -> str:
        """Of its data set."""
        return self.kind.sop_class_uid

    @property
    def transfer_syntax_uid(self) -> str:
        """It is stored in."""
        return self.kind.transfer_syntax_uid


class Selection:
    """
    The objects that match, in the order of their arrival.

    Attributes:
        kinds: all that occur.
        first: the first page of them, if it has been read already.
    """

    def __init__(
        self, kinds: tuple[Kind, ...], keys: array[int], kind_of: array[int], first: Sequence[StoredObject] = ()
    ) -> None:
        self.kinds = kinds
        self.first = first
        self._keys = keys
        self._kind_of = kind_of

    def __len__(self) -> int:
        return len(self._keys)

    def count_by_kind(self) -> dict[Kind, int]:
        """Give how many there are of each kind."""
        return {self.kinds[index]: count for index, count in Counter(self._kind_of).items()}

    def of_sop_classes(self, sop_classes: Collection[str]) -> Selection:
        """Give the part whose SOP class is one of these."""
        wanted = {index for index, kind in enumerate(self.kinds) if kind.sop_class_uid in sop_classes}
        if len(wanted) == len(self.kinds):
            return self
        places = [place for place, index in enumerate(self._kind_of) if index in wanted]
        return Selection(
            self.kinds,
            array("q", [self._keys[place] for place in places]),
            array("L", [self._kind_of[place] for place in places]),
        )

    def page(self, start: int) -> list[tuple[int, Kind]]:
        """Give the keys and kinds of some objects."""
        end = start + PAGE_OBJECTS
        return [
            (key, self.kinds[index]) for key, index in zip(self._keys[start:end], self._kind_of[start:end], strict=True)
        ]


@lru_cache(maxsize=256)
def _statement(shape: tuple[tuple[type[Equals | AnyOf], int, int], ...]) -> tuple[str, tuple[int | str, ...]]:
    """
    Give the statement for conditions of a shape, and its parameters: places in the list of all values, or constants.

    Args:
        shape: type, tag and number of values of each condition.
    """
    names = iter(range(sum(count for _, _, count in shape)))
    conditions: list[Condition] = []
    for kind, tag, count in shape:
        values = tuple(f"{_PLACE}{next(names)}" for _ in range(count))
        conditions.append(Equals(tag, values[0]) if kind is Equals else AnyOf(tag, values))
    statement = select_for(Query(Level.IMAGE, tuple(conditions), ())).with_only_columns(
        INSTANCES.c.pk,
        STUDIES.c.study_instance_uid,
        PATIENTS.c.patient_id,
        INSTANCES.c.sop_class_uid,
        INSTANCES.c.transfer_syntax_uid,
    )
    text, parameters = compile_select(statement)
    return text, tuple(
        int(parameter.removeprefix(_PLACE))
        if isinstance(parameter, str) and parameter.startswith(_PLACE)
        else str(parameter)
        for parameter in parameters
    )


def select_in_thread(connection: sqlite3.Connection, conditions: tuple[Equals | AnyOf, ...]) -> Selection:
    """Find the objects for which the conditions hold; of several copies of one the first."""
    values: list[str] = []
    shape: list[tuple[type[Equals | AnyOf], int, int]] = []
    for condition in conditions:
        own = (condition.value,) if isinstance(condition, Equals) else condition.values
        values += own
        shape.append((type(condition), condition.tag, len(own)))
    text, places = _statement(tuple(shape))
    cursor = connection.execute(text, [values[place] if isinstance(place, int) else place for place in places])
    index_of: dict[tuple[str, ...], int] = {}
    keys, kind_of = array("q"), array("L")
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        for key, *kind in rows:
            keys.append(key)
            kind_of.append(index_of.setdefault(tuple(kind), len(index_of)))
    selection = Selection(tuple(Kind(*kind) for kind in index_of), keys, kind_of)
    selection.first = _read_page(connection, selection.page(0))
    return selection


Run = Callable[[Callable[[sqlite3.Connection], T]], Awaitable[T]]


class ObjectCursor:
    """
    Goes through a selection.

    Args:
        run: runs a function with a snapshot of the index, in a thread.
    """

    def __init__(self, selection: Selection, *, run: Run[Any]) -> None:
        self._selection = selection
        self._run = run
        self._next = len(selection.first)
        self._page = deque(selection.first)

    async def next(self) -> StoredObject | None:
        """Give the next object, or None behind the last."""
        if not self._page:
            wanted = self._selection.page(self._next)
            if not wanted:
                return None
            self._next += len(wanted)
            self._page.extend(await self._run(lambda connection: _read_page(connection, wanted)))
        return self._page.popleft()

    def push_back(self, *objects: StoredObject) -> None:
        """Take objects back that `next` has given: they are the next ones again."""
        self._page.extendleft(reversed(objects))


def _read_page(connection: sqlite3.Connection, wanted: list[tuple[int, Kind]]) -> list[StoredObject]:
    marks = ", ".join("?" * len(wanted))
    rows = connection.execute(
        "SELECT pk, sop_instance_uid, path, data_set_offset, size_bytes, received_at, transfer_syntax_uid"
        f" FROM instances WHERE pk IN ({marks})",
        [key for key, _ in wanted],
    )
    found = {row[0]: row[1:] for row in rows}
    return [_stored(kind, found.get(key)) for key, kind in wanted]


def _stored(kind: Kind, row: tuple[Any, ...] | None) -> StoredObject:
    if row is None or row[5] != kind.transfer_syntax_uid:
        return StoredObject(kind, "" if row is None else row[0], "", 0, 0)
    return StoredObject(kind, *row[:5])
