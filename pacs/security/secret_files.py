"""
Files that hold secrets: everybody may not read them, their group had better not (RELIABILITY P3, P4).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

LARGEST_FILE_BYTES: Final = 16 << 20


class SecretFileError(Exception):
    """A file can't be read, or everybody can read it; the text says which and what to do."""


def mode_fault(path: Path, mode: int) -> str:
    """Say what is wrong with the mode of a file that holds a secret, or nothing."""
    return f"'{path}' can be read by everybody; chmod o-r it" if mode & stat.S_IROTH else ""


def mode_warning(path: Path, mode: int) -> str:
    """Say what had better be otherwise with the mode of a file that holds a secret, or nothing."""
    return f"'{path}' can be read by its group; chmod g-r it" if mode & stat.S_IRGRP else ""


def read_secret_file(path: Path, warn: Callable[[str], None]) -> bytes:
    """
    Read a file that only we should be able to read.

    Args:
        warn: told when its group can read it.

    Raises:
        SecretFileError: everybody can read it, or we can't.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(LARGEST_FILE_BYTES)
    except OSError as error:
        raise SecretFileError(f"'{path}' can't be read: {error.strerror}") from None
    fault, warning = mode_fault(path, mode), mode_warning(path, mode)
    if fault:
        raise SecretFileError(fault)
    if warning:
        warn(warning)
    return data
