"""
What an engine is made of, and what it gives: the vocabulary that the server shares with its worker processes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pacs.dataset.scanner import DEFAULT_LIMITS, ScanLimits
from pacs.deidentification.profiles import Policy

if TYPE_CHECKING:
    from pacs.deidentification.regions import RegionRule  # with the transformer's codec

IN_MEMORY_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Implementation:
    """Who writes the files: Implementation Class UID and Version Name."""

    class_uid: str
    version_name: str


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """
    What an engine is made of.

    Attributes:
        fingerprint_path: of the archive's note of its vault.
        directory: for unnamed files that are too long for memory.
        default_character_set: for data sets without Specific Character Set.
    """

    policy: Policy
    vault_path: Path
    fingerprint_path: Path
    directory: Path
    implementation: Implementation
    region_rules: tuple[RegionRule, ...] = ()
    default_character_set: str | None = None
    limits: ScanLimits = DEFAULT_LIMITS
    memory_bytes: int = 2 << 30
    output_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Released:
    """
    An output that the verifier has let pass, in an open file that its holder closes.

    Attributes:
        original_sop_instance_uid: of what came in, to be compared with what a request said; for nothing else.
        data_set_offset: behind the File Meta Information.
    """

    descriptor: int
    length: int
    data_set_offset: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    original_sop_instance_uid: str
    pseudonym: str


def make_output(directory: Path, length: int) -> int:
    """Open an unnamed file, in memory where it will be short."""
    if length <= IN_MEMORY_BYTES:
        return os.memfd_create("de-identified", os.MFD_CLOEXEC)
    return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
