"""
A data set in an open file: what is handed from whoever keeps or makes it to whoever sends it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(slots=True)
class DataSetFile:
    """
    Part of an open file; whoever holds it closes it, once.

    Attributes:
        descriptor: for reading, by `os.pread` alone: its position means nothing.
        offset: of the data set's first byte.
        length: of the data set, in bytes.
        transfer_syntax_uid: what it is encoded in.
        written: inode and time of the last write, in nanoseconds, of an object's file.
    """

    descriptor: int
    offset: int
    length: int
    transfer_syntax_uid: str
    written: tuple[int, int] = (0, 0)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
