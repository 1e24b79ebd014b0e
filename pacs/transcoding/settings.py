"""
How many worker processes there are, and what one data set may cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pacs.dataset.scanner import ScanLimits


@dataclass(frozen=True, slots=True)
class TranscodingSettings:
    """
    What a Transcoder is given.

    Attributes:
        directory: where unnamed files are made for data sets that are too long for memory.
        workers: processes at most; each is started when it is needed, and ends when it was idle for a while.
        seconds: wall-clock time for one data set.
        memory_bytes: address space of a worker.
        output_bytes: of one data set, at most.
    """

    directory: Path
    workers: int = 2
    seconds: float = 120.0
    memory_bytes: int = 2 << 30
    output_bytes: int = 4 << 30
    idle_s: float = 60.0
    scan_limits: ScanLimits = field(default_factory=ScanLimits)

    def to_message(self) -> dict[str, Any]:
        """Give them as JSON can have them, for a worker's first message."""
        return {**asdict(self), "directory": str(self.directory)}

    @classmethod
    def from_message(cls, given: Mapping[str, Any]) -> TranscodingSettings:
        """Give what `to_message` was made of."""
        limits = ScanLimits(**given["scan_limits"])
        return cls(**{**given, "directory": Path(given["directory"]), "scan_limits": limits})
