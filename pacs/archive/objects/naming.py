"""
What an object's file is called: the three naming schemes.

No received text becomes part of a path unless it is a UID or a date by its characters; anything else is replaced by
its hash. All names lie below `objects/`.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from pacs.archive.interfaces import NamingScheme

OBJECTS: Final = "objects"
SUFFIX: Final = ".dcm"

_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_DATE: Final = re.compile(r"(1[0-9]{3}|2[0-9]{3})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])")


def is_legal_uid(text: str) -> bool:
    """Whether it is a UID by its characters, PS3.5 9.1; leading zeros of a component are tolerated."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


@lru_cache(maxsize=256)  # of studies and series, which come again
def path_component(uid: str) -> str:
    """Give a UID as it is, or the hash of a text that is none."""
    return uid if is_legal_uid(uid) else hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()


def object_path(
    scheme: NamingScheme,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    study_date: str,
    received_at: int,
    version: int = 0,
) -> str:
    """
    Give the path of an object below the archive's root.

    Args:
        study_date: as in the object; the day of `received_at` (microseconds since 1970, UTC) stands in for one that is
            no date.
        version: 0 for the first file of a SOP Instance UID.
    """
    instance = path_component.__wrapped__(sop_instance_uid)
    name = f"{instance}~{version}{SUFFIX}" if version else instance + SUFFIX
    if scheme is NamingScheme.UID_HIERARCHICAL:
        return f"{OBJECTS}/{path_component(study_instance_uid)}/{path_component(series_instance_uid)}/{name}"
    if scheme is NamingScheme.UID_FLAT:
        digest = hashlib.sha256(sop_instance_uid.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{OBJECTS}/{digest[:2]}/{digest[2:4]}/{name}"
    date = study_date
    if not _DATE.fullmatch(study_date):
        date = datetime.fromtimestamp(received_at / 1e6, UTC).strftime("%Y%m%d")
    return f"{OBJECTS}/{date[:4]}/{date[4:6]}/{date[6:8]}/{path_component(study_instance_uid)}/{name}"
