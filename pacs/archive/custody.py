"""
Is an object that somebody relies on really kept: known to the index, of the SOP class that it is said to have, its
bytes those that were stored, and it is what its sender has, not a de-identified copy of it?

Every byte is read and compared with the SHA-256 that was noted when the object arrived; nothing is believed.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, NamedTuple

from pacs.archive.archive import Archive
from pacs.archive.headers import HeaderReader
from pacs.archive.scrub import Kept, Pace, content_fault
from pacs.deidentification.profiles import is_own_method
from pacs.events import StudyInstances

LOOKED_UP_AT_ONCE: Final = 500
_DEIDENTIFICATION_METHOD: Final = 0x00120063
_FIND: Final = (
    "SELECT i.pk, i.sop_instance_uid, i.path, i.size_bytes, i.sha256, i.sop_class_uid, t.study_instance_uid,"
    " p.patient_id FROM instances i JOIN series s ON s.pk = i.series_pk JOIN studies t ON t.pk = s.study_pk"
    " JOIN patients p ON p.pk = t.patient_pk WHERE i.sop_instance_uid IN (SELECT value FROM json_each(?))"
)
_FIND_UNCHECKED: Final = (
    "SELECT 1 FROM instances WHERE sop_instance_uid IN (SELECT value FROM json_each(?)) AND sha256 IS NULL LIMIT 1"
)


class Custody(Enum):
    """What can be said of an object."""

    KEPT = "kept"
    ABSENT = "not kept"
    ABSENT_FOR_WANT_OF_SPACE = "not kept, and none is taken at the moment"
    OTHER_CLASS = "kept as another SOP class"
    DEIDENTIFIED = "only a de-identified copy is kept"
    DAMAGED = "not what was stored"
    UNCHECKED = "its checksum is not computed yet"


class Reference(NamedTuple):
    """An object as somebody names it."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Findings:
    """
    What was found of some objects.

    Attributes:
        custody: of each, in their order.
        studies: what those belong to that the index knows.
    """

    custody: tuple[Custody, ...]
    studies: tuple[StudyInstances, ...]


class _Copy(NamedTuple):
    kept: Kept
    sop_class_uid: str
    study_instance_uid: str
    patient_id: str
    is_deidentified: bool


class CustodyCheck:
    """Looks after objects of an archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._headers = HeaderReader(store=archive.store)

    async def is_checkable(self, references: Sequence[Reference]) -> bool:
        """Whether the checksums of all that is there have been computed; if not, they are computed next."""
        found: bool = await self._archive.run(partial(_is_checkable, references))
        if not found:
            self._archive.hurry_checksums()
        return found

    async def check(self, references: Sequence[Reference], whole: set[Kept]) -> Findings:
        """
        Look at objects, one after the other.

        Args:
            whole: copies whose bytes were compared lately, and are not read again; what is compared now is added.
        """
        custody: list[Custody] = []
        studies: Counter[tuple[str, str, str]] = Counter()
        for start in range(0, len(references), LOOKED_UP_AT_ONCE):
            page = references[start : start + LOOKED_UP_AT_ONCE]
            copies = await self._archive.run(partial(self._look_up, page))
            for reference in page:
                found = copies.get(reference.sop_instance_uid, ())
                custody.append(await self._judge(reference, found, whole))
                studies.update({(c.study_instance_uid, c.patient_id, c.sop_class_uid) for c in found})
        return Findings(tuple(custody), _by_study(studies))

    def _look_up(self, page: Sequence[Reference], connection: sqlite3.Connection) -> dict[str, list[_Copy]]:
        found: dict[str, list[_Copy]] = {}
        uids = json.dumps([reference.sop_instance_uid for reference in page])
        for pk, uid, path, size_bytes, sha256, sop_class, study, patient in connection.execute(_FIND, (uids,)):
            header = self._headers.values(connection, pk, frozenset((_DEIDENTIFICATION_METHOD,)))
            method = header.get(_DEIDENTIFICATION_METHOD)
            is_deidentified = method is not None and any(map(is_own_method, method.text.split("\\")))
            kept = Kept(pk, uid, path, size_bytes, sha256)
            found.setdefault(uid, []).append(_Copy(kept, sop_class, study, patient, is_deidentified))
        return found

    async def _judge(self, reference: Reference, copies: Sequence[_Copy], whole: set[Kept]) -> Custody:
        """Judge by all copies of a UID: nobody can tell which of them is meant."""
        if not copies:
            return Custody.ABSENT if self._archive.has_room else Custody.ABSENT_FOR_WANT_OF_SPACE
        if any(copy.is_deidentified for copy in copies):
            return Custody.DEIDENTIFIED
        if any(copy.sop_class_uid != reference.sop_class_uid for copy in copies):
            return Custody.OTHER_CLASS
        if any(copy.kept.sha256 is None for copy in copies):
            return Custody.UNCHECKED
        for copy in copies:
            if copy.kept in whole:
                continue
            if await self._archive.in_thread(self._is_damaged, copy.kept):
                return Custody.DAMAGED
            whole.add(copy.kept)
        return Custody.KEPT

    def _is_damaged(self, kept: Kept) -> bool:
        pace = Pace(share=1.0, rest=lambda _: None)
        fault = content_fault(self._archive.store, kept, pace=pace, is_stopping=lambda: False, leaves_cache=False)
        return fault is not None


def _is_checkable(references: Sequence[Reference], connection: sqlite3.Connection) -> bool:
    uids = json.dumps([reference.sop_instance_uid for reference in references])
    return connection.execute(_FIND_UNCHECKED, (uids,)).fetchone() is None


def _by_study(counted: Counter[tuple[str, str, str]]) -> tuple[StudyInstances, ...]:
    studies: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for (study, patient, sop_class), number in counted.items():
        studies.setdefault((study, patient), []).append((sop_class, number))
    return tuple(StudyInstances(study, patient, tuple(numbers)) for (study, patient), numbers in studies.items())
