"""
An object that wants into the index: one that has just arrived, or a file that the index does not know.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from pacs.archive.attributes import INDEX_TAGS, IndexValues
from pacs.archive.index.writer import IndexWriter
from pacs.archive.interfaces import InstanceHeader, Stored
from pacs.archive.objects.files import FileStore
from pacs.dataset.errors import DataSetError
from pacs.dataset.part10 import read_file_meta
from pacs.dataset.scanner import DataSetScanner, ScanLimits, ScannedDataSet

READ_BYTES = 1 << 20


@dataclass(slots=True)
class Candidate:
    """
    An object that is whole and wants to be committed.

    Attributes:
        pieces: of a short object, which is in memory, its file's head first; else empty.
        incoming_path: of its file, below the archive's root; "" while it is in memory alone.
        received_at: microseconds since 1970, UTC.
        is_anonymized: it was de-identified on its way in.
        is_rebuilt: its file has its final name already; only the index does not know it.
        answer: fires when it is durable.
    """

    header: InstanceHeader
    scanned: ScannedDataSet
    source_ae_title: str
    data_set_offset: int
    size_bytes: int
    received_at: int
    pieces: list[bytes | memoryview] = field(default_factory=list)
    incoming_path: str = ""
    is_rebuilt: bool = False
    peer_address: str = ""
    is_anonymized: bool = False
    answer: Deferred[Stored] = field(default_factory=Deferred)


def candidate_of_file(store: FileStore, path: str, *, limits: ScanLimits) -> Candidate:
    """
    Read a stored object again, for its index rows.

    Raises:
        DataSetError: it is no whole object.
        OSError: it can't be read.
    """
    with os.fdopen(store.open_object(path), "rb", buffering=0) as file:
        meta = read_file_meta(file)
        status = os.fstat(file.fileno())
        file.seek(meta.data_set_offset)
        scanner = DataSetScanner(meta.transfer_syntax_uid, wanted=INDEX_TAGS, limits=limits)
        while piece := file.read(READ_BYTES):
            scanner.feed(piece)
        scanned = scanner.finish()
    if not meta.sop_instance_uid:
        raise DataSetError("the file has no SOP Instance UID")
    return Candidate(
        header=InstanceHeader(meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid),
        scanned=scanned,
        source_ae_title=meta.source_ae_title,
        data_set_offset=meta.data_set_offset,
        size_bytes=status.st_size,
        received_at=status.st_mtime_ns // 1000,
        incoming_path=path,
        is_rebuilt=True,
    )


def add_candidate(
    writer: IndexWriter, candidate: Candidate, values: IndexValues, *, path: str, copy_number: int
) -> int:
    """Add an object's rows; give its key."""
    return writer.add(
        writer.place(values, candidate.received_at),
        values,
        copy_number=copy_number,
        transfer_syntax_uid=candidate.header.transfer_syntax_uid,
        path=path,
        size_bytes=candidate.size_bytes,
        data_set_offset=candidate.data_set_offset,
        received_at=candidate.received_at,
        source_ae_title=candidate.source_ae_title,
    )
