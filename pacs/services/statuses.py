"""
What the archive's errors mean to a DIMSE peer: one table (PS3.4 B.2.3, PS3.7 annex C).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pacs.archive.errors import (
    ArchiveBusy,
    ArchiveClosed,
    ArchiveError,
    DataSetMismatch,
    DataSetUnreadable,
    DuplicateInstance,
    IdentityConflict,
    NotReleased,
    ObjectTooLarge,
    StorageFailed,
    StorageFull,
)
from pacs.dimse import DIMSEError, Status

STATUS_OF: Final[Mapping[type[ArchiveError], int]] = {
    StorageFull: Status.OUT_OF_RESOURCES,
    StorageFailed: Status.OUT_OF_RESOURCES,
    ObjectTooLarge: Status.OUT_OF_RESOURCES,
    ArchiveBusy: Status.OUT_OF_RESOURCES,
    ArchiveClosed: Status.OUT_OF_RESOURCES,
    DataSetMismatch: Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    DataSetUnreadable: Status.CANNOT_UNDERSTAND,
    DuplicateInstance: Status.DUPLICATE_SOP_INSTANCE,
    IdentityConflict: Status.CANNOT_UNDERSTAND,
    NotReleased: Status.CANNOT_UNDERSTAND,
}


def archive_failure(error: Exception) -> DIMSEError | None:
    """Give the status that an error of the archive is answered with, or None when it is not the archive's."""
    if not isinstance(error, ArchiveError):
        return None
    return DIMSEError(STATUS_OF.get(type(error), Status.PROCESSING_FAILURE), error.comment)
