"""
The archive's vocabulary: what comes in, and what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What a request says about the object that follows; the data set is checked against it (PS3.4 B.2.3)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class Outcome(Enum):
    """What became of an object."""

    STORED = "stored"
    IDENTICAL = "identical"  # it was there already; nothing was written
    REPLACED = "replaced"
    RENAMED = "renamed"  # kept beside the first of the same UID


@dataclass(frozen=True, slots=True)
class Stored:
    """
    The answer to a commit.

    Attributes:
        path: of the object, below the archive's root.
        size_bytes: of its file.
    """

    outcome: Outcome
    path: str
    size_bytes: int


class NamingScheme(Enum):
    """How objects are named on disk."""

    UID_HIERARCHICAL = "uid_hierarchical"
    UID_FLAT = "uid_flat"
    DATE_BASED = "date_based"


class DuplicatePolicy(Enum):
    """What happens to an object whose SOP Instance UID is kept already, with other content."""

    REPLACE = "replace"
    REJECT = "reject"
    RENAME = "rename"
