"""
The VR of an attribute by its tag, of private ones by their creator: PS3.6, as pydicom has it.
"""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import dictionary_VR, private_dictionary_VR


@lru_cache(maxsize=20_000)
def look_up(tag: int, private_creator: str | None) -> str | None:
    """Give the VR, several joined by ' or ', or None."""
    try:
        if private_creator is None:
            return dictionary_VR(tag)
        return private_dictionary_VR(tag, private_creator)
    except KeyError:
        return None
