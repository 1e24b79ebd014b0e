"""
Real DICOM files: those of pydicom and of pydicom-data that have a SOP Class and a SOP Instance UID.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import data_store
import pydicom

from pacs.dataset.errors import DataSetError
from pacs.dataset.part10 import read_file_meta

ROOTS: Final = (
    Path(pydicom.__file__).parent / "data",
    Path(data_store.__file__).parent / "data",
)

NOT_SENDABLE: Final = {
    "MR_truncated.dcm": "its pixel data end before their announced length",
    "rtplan_truncated.dcm": "its last sequence ends before its announced length",
    "ExplVR_BigEndNoMeta.dcm": "no file meta information: its transfer syntax is unknown to a sender",
    "ExplVR_LitEndNoMeta.dcm": "no file meta information: its transfer syntax is unknown to a sender",
    "rtstruct.dcm": "no file meta information: its transfer syntax is unknown to a sender",
    "OT-PAL-8-face.dcm": "no file meta information: its transfer syntax is unknown to a sender",
}
"""Files that no peer can send as they are, with the reason."""


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One file.

    Attributes:
        data_set: its bytes behind the file meta information.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes


@lru_cache(maxsize=1)
def samples() -> tuple[Sample, ...]:
    """Give all files that can be sent; of several with the same data set the first."""
    found: dict[tuple[str, bytes], Sample] = {}
    for root in ROOTS:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            sample = _sample(path)
            if sample is not None and path.name not in NOT_SENDABLE:
                found.setdefault((sample.transfer_syntax_uid, sample.data_set), sample)
    return tuple(found.values())


def _sample(path: Path) -> Sample | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = pydicom.dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], force=True)
            uids = str(head.get("SOPClassUID", "")), str(head.get("SOPInstanceUID", ""))
    except Exception:  # noqa: BLE001 - pydicom's data have files that are no DICOM at all
        return None
    if not all(uids):
        return None
    with path.open("rb") as file:
        try:
            meta = read_file_meta(file)
        except DataSetError:
            return None
        file.seek(meta.data_set_offset)
        return Sample(path, *uids, meta.transfer_syntax_uid, file.read())
