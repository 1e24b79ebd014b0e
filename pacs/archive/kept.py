"""
What becomes of objects that are kept: they are counted, told of, and what is derived from them is still to come.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from pacs.archive.attributes import ATTRIBUTES_OF, Level
from pacs.archive.batch import CommittedObject
from pacs.archive.derive import Derivable, Derived, Outline
from pacs.archive.index.writer import IndexWriter
from pacs.events import ImageReceived

DERIVED_PK: Final = "derived_pk"
_PATIENT_ID: Final = [a.column for a in ATTRIBUTES_OF[Level.PATIENT]].index("patient_id")
_STUDY_UID: Final = [a.column for a in ATTRIBUTES_OF[Level.STUDY]].index("study_instance_uid")
_SERIES_UID: Final = [a.column for a in ATTRIBUTES_OF[Level.SERIES]].index("series_instance_uid")


def count_in_thread(connection: sqlite3.Connection) -> Mapping[str, int]:
    """Count patients, studies, series, instances and bytes, by what the rows of studies tell."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM patients), count(*), coalesce(sum(num_series), 0),"
        " coalesce(sum(num_instances), 0), coalesce(sum(size_bytes), 0) FROM studies"
    ).fetchone()
    return dict(zip(("patients", "studies", "series", "instances", "bytes"), row, strict=True))


def underived_in_thread(connection: sqlite3.Connection) -> list[Derivable]:
    """Give the objects from which nothing has been derived yet, in the order in which they came."""
    rows = connection.execute(
        "SELECT pk, path, data_set_offset, transfer_syntax_uid FROM instances WHERE sha256 IS NULL AND pk > "
        "coalesce((SELECT CAST(value AS INTEGER) FROM archive_state WHERE name = ?), 0) ORDER BY pk",
        (DERIVED_PK,),
    )
    return [Derivable(*row) for row in rows]


def note_derived(writer: IndexWriter, group: list[Derived]) -> None:
    """Note what was derived; objects are derived in the order of their keys."""
    writer.set_derived(group)
    writer.set_state(DERIVED_PK, str(group[-1].pk))


def derivable(item: CommittedObject) -> Derivable:
    """Give what is derived from an object that was just committed."""
    candidate = item.candidate
    outline = Outline(candidate.scanned.byte_count, candidate.scanned.holes)
    return Derivable(item.pk, item.path, candidate.data_set_offset, candidate.header.transfer_syntax_uid, outline)


def image_received(item: CommittedObject) -> ImageReceived:
    """Give the event of an object that was just committed."""
    candidate, values = item.candidate, item.values
    return ImageReceived(
        sop_instance_uid=candidate.header.sop_instance_uid,
        sop_class_uid=candidate.header.sop_class_uid,
        patient_id=values.patient[_PATIENT_ID],
        study_instance_uid=values.study[_STUDY_UID],
        series_instance_uid=values.series[_SERIES_UID],
        calling_ae=candidate.source_ae_title,
        size_bytes=candidate.size_bytes,
        anonymized=candidate.is_anonymized,
        peer_address=candidate.peer_address,
        is_replacement=item.replaced is not None,
    )
