"""
What is wrong with a configuration: all of it at once, each fault with its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault.

    Attributes:
        source: the file, or the name of the environment variable.
        line: 0 when there is none.
        key: with dots between the levels; "" for the file as a whole.
    """

    source: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigurationError(Exception):
    """
    The configuration can't be used.

    Attributes:
        faults: in the order of their lines.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.source, fault.line, fault.key)))
        super().__init__("\n".join(map(str, self.faults)))
