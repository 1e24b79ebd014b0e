"""
What the archive can be told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pacs.archive.interfaces import DuplicatePolicy, NamingScheme
from pacs.dataset.scanner import ScanLimits


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """
    Settings of the archive.

    Attributes:
        root_path: everything but the index lies below it.
        index_path: the SQLite file.
        min_free_bytes: below it objects are refused.
        warn_free_percent: of bytes and inodes; with less the storage is degraded.
        look_interval_s: between looks at the free space.
        scrub_interval_s: within which each object is read against its SHA-256; 0: never.
        object_bytes: the longest object.
        default_character_set: of objects without Specific Character Set.
        keeps_changes: whether there is anybody who could read the change feed.
        implementation_class_uid, implementation_version_name: written into each file's head (PS3.10 7.1).
    """

    root_path: Path
    index_path: Path
    implementation_class_uid: str
    implementation_version_name: str
    naming_scheme: NamingScheme = NamingScheme.UID_HIERARCHICAL
    duplicate_policy: DuplicatePolicy = DuplicatePolicy.REPLACE
    min_free_bytes: int = 1 << 30
    warn_free_percent: float = 10.0
    look_interval_s: float = 30.0
    scrub_interval_s: float = 30 * 86400.0
    object_bytes: int = 4 << 30
    default_character_set: str | None = None
    keeps_changes: bool = True
    scan_limits: ScanLimits = field(default_factory=ScanLimits)
