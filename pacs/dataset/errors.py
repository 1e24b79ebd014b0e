"""
The failure of reading a data set.
"""

from __future__ import annotations


class DataSetError(Exception):
    """A data set that can't be read; the message names tag and offset, never a value."""
