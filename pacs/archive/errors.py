"""
Why the archive refuses an object; what each means to a peer is the services' business.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

_NO_SPACE: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


class ArchiveError(Exception):
    """
    Attributes:
        comment: for the peer and the log; without patient data.
    """

    def __init__(self, comment: str) -> None:
        super().__init__(comment)
        self.comment = comment


class StorageFull(ArchiveError):
    """Less than the reserve would remain free."""


class StorageFailed(ArchiveError):
    """The disk failed; nothing of the object remains."""


def disk_failure(error: OSError) -> ArchiveError:
    """Give what an error of the operating system means to whoever sends an object."""
    if error.errno in _NO_SPACE:
        return StorageFull("storage full")
    return StorageFailed(f"storage failed: {error.strerror}")


def index_failure(error: Exception) -> ArchiveError:
    """Give what a failed transaction of the index means to whoever sends an object."""
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StorageFull("storage full: no room for the index")
    return StorageFailed(f"index error: {type(error).__name__}")


class ObjectTooLarge(ArchiveError):
    """The object is longer than the limit."""


class ArchiveBusy(ArchiveError):
    """Too many objects wait to be committed."""


class ArchiveClosed(ArchiveError):
    """The archive is not open, or is being closed."""


class DataSetUnreadable(ArchiveError):
    """The data set has no structure, or lacks what it can't be kept without."""


class DataSetMismatch(ArchiveError):
    """The data set is of another SOP class or instance than the request said (PS3.4 B.2.3)."""


class DuplicateInstance(ArchiveError):
    """The instance is kept already, with other content, and the policy is to reject."""


class IdentityConflict(ArchiveError):
    """The instance is kept already, under another patient or study."""


class ObjectGone(ArchiveError):
    """The object has been replaced or deleted since it was found."""


class NotReleased(ArchiveError):
    """The object was to be de-identified, and can't be, or the verifier did not let it pass; nothing of it is kept."""


class IndexTooNew(Exception):
    """The index was written by a newer version; this one must not touch it."""
