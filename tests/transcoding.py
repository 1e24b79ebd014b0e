"""
Data sets transcoded in this process, and compared by pydicom.
"""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from array import array
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataset import Dataset

from pacs.dataset.part10 import encode_file_meta
from pacs.transcoding.convert import convert
from pacs.transcoding.settings import TranscodingSettings

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

PIXEL_DATA: Final = 0x7FE00010
CHANGED_BY_DECODING: Final = frozenset((PIXEL_DATA, 0x7FE00001, 0x7FE00002, 0x00280004, 0x00280006))
LEFT_OUT: Final = frozenset((0x00080001,))  # Length to End; group lengths too

WORDS: Final = {"OW": "H", "OL": "I", "OF": "I", "OD": "Q", "OV": "Q"}  # pydicom gives their bytes as they are

SETTINGS: Final = TranscodingSettings(directory=Path(tempfile.gettempdir()))


def in_memory(data: bytes) -> int:
    """Give an open file with some bytes."""
    descriptor = os.memfd_create("test")
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def transcoded(data: bytes, source: str, target: str, settings: TranscodingSettings = SETTINGS) -> bytes:
    """Give a data set in another transfer syntax; raises TranscodingError."""
    descriptor = in_memory(b"\xff" * 7 + data + b"\xff")  # a part of a file
    try:
        file = convert(descriptor, 7, len(data), source, target, settings)
    finally:
        os.close(descriptor)
    try:
        return os.pread(file.descriptor, file.length + 1, 0)
    finally:
        file.close()


def as_read(data: bytes, transfer_syntax: str) -> Dataset:
    """Give a data set as pydicom reads it."""
    head = encode_file_meta(
        sop_class_uid="1.2.3",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=transfer_syntax,
        source_ae_title="TEST",
        implementation_class_uid="1.2.3",
        implementation_version_name="TEST",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(head + data))


def differences(one: Dataset, other: Dataset, *, but: frozenset[int] = frozenset()) -> list[str]:
    """
    Name the elements in which two data sets differ.

    A VR is not compared where one side's encoding has none and no dictionary knows it; the bytes are.
    """
    one_ts, other_ts = one.file_meta.TransferSyntaxUID, other.file_meta.TransferSyntaxUID
    swaps = one_ts.is_little_endian != other_ts.is_little_endian
    loses_vrs = one_ts.is_implicit_VR != other_ts.is_implicit_VR
    found: list[str] = []

    def compare(left: Dataset, right: Dataset, path: str) -> None:
        tags = [tag for tag in sorted(left._dict) if tag.element and tag not in LEFT_OUT | but]
        others = [tag for tag in sorted(right._dict) if tag not in but]
        if tags != others:
            found.append(f"{path}: {sorted(set(tags) ^ set(others))}")
            return
        for tag in tags:
            raw = left.get_item(tag), right.get_item(tag)
            if "UN" in (raw[0].VR, raw[1].VR):  # what pydicom makes of it depends on the encoding, its bytes do not
                if (raw[0].value or b"") != (raw[1].value or b""):
                    found.append(f"{path}{tag}: other bytes")
                continue
            a, b = _element(left, tag), _element(right, tag)
            if a is None or b is None:
                if (a is None) != (b is None):
                    found.append(f"{path}{tag}: readable on one side")
            elif a.VR == b.VR == "SQ":
                if len(a.value) != len(b.value):
                    found.append(f"{path}{tag}: {len(a.value)} and {len(b.value)} items")
                for number, items in enumerate(zip(a.value, b.value, strict=False)):
                    compare(*items, f"{path}{tag}[{number}]")
            elif not _same(a, b, swaps=swaps, loses_vrs=loses_vrs):
                found.append(f"{path}{tag} {a.VR} {b.VR}: {str(a.value)[:40]!r} {str(b.value)[:40]!r}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compare(one, other, "")
    return found


def _element(data_set: Dataset, tag: Any) -> Any:
    try:
        return data_set[tag]
    except Exception:  # noqa: BLE001 - pydicom can't read some values of its own files
        return None


def _same(a: Any, b: Any, *, swaps: bool, loses_vrs: bool) -> bool:
    if a.VR == b.VR and a.value == b.value:
        return True
    if swaps and isinstance(a.value, bytes) and (a.VR in WORDS or b.VR in WORDS):
        words = array(WORDS.get(a.VR) or WORDS[b.VR], a.value)
        words.byteswap()
        return bool(words.tobytes() == b.value)
    if {a.VR, b.VR} <= {"OB", "OW"}:
        return bool(a.value == b.value)
    return loses_vrs and (a.tag.is_private or {a.VR, b.VR} <= {"US", "SS", "OW"})
