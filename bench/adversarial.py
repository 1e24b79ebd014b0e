"""
Thirty-two objects that try de-identification: every row of PS3.15 Table E.1-1 has a value of its own, at depths of 0
to 3 sequences, in eight encodings and SOP classes. And how often an output breaks the Basic Profile.

A violation is a row whose attribute is still there although the table removes it, or still has its value although the
table replaces or empties it. Written and read by pydicom, judged by the table alone.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

DEPTHS: Final = range(4)
WRAPPERS: Final = (0x52009230, 0x00209113, 0x00089215)  # sequences that the table does not list
CARRIER: Final = 0x00181210  # in items: an attribute that no profile touches
REFERENCE: Final = 0x00081155
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_MR: Final = "1.2.840.10008.5.1.4.1.1.4.1"
REPORT: Final = "1.2.840.10008.5.1.4.1.1.88.33"
PRIVATE: Final = "1.2.826.0.1.3680043.9.9999.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

_OF_THE_OBJECT: Final = frozenset((0x00080016, 0x00080018, 0x0020000D, 0x0020000E))
_NUMBERS: Final = frozenset(("US", "SS", "UL", "SL", "FL", "FD"))
_BYTES: Final = frozenset(("OB", "OW", "UN"))


@dataclass(frozen=True, slots=True)
class Shape:
    """An encoding and a SOP class; `is_open`: sequences and items of undefined length."""

    name: str
    sop_class_uid: str
    transfer_syntax_uid: str
    is_open: bool = False


SHAPES: Final = (
    Shape("ct", CT, EXPLICIT),
    Shape("ct-open", CT, EXPLICIT, is_open=True),
    Shape("ct-implicit", CT, IMPLICIT),
    Shape("ct-implicit-open", CT, IMPLICIT, is_open=True),
    Shape("ct-big-endian", CT, BIG_ENDIAN),
    Shape("enhanced-mr", ENHANCED_MR, EXPLICIT),
    Shape("report-deflated", REPORT, DEFLATED),
    Shape("private", PRIVATE, EXPLICIT),
)


@dataclass(frozen=True, slots=True)
class Canary:
    """A row's value: what stands in the object, and what must not be found afterwards."""

    tag: int
    vr: str
    action: str
    value: Any
    sought: str


@lru_cache(maxsize=1)
def canaries() -> tuple[Canary, ...]:
    """Give one for each row of the Basic Profile."""
    with files("pacs.deidentification").joinpath("data", "profile_actions.csv").open(encoding="utf-8") as file:
        return tuple(_canary(row, number) for number, row in enumerate(csv.DictReader(file)))


def _canary(row: Mapping[str, str], number: int) -> Canary:
    pattern = {"private": "00991001", "50xxxxxx": "50023000"}.get(row["tag"], row["tag"])
    tag, vr = int(pattern.replace("xx", "04"), 16), row["vr"].split("/")[0] or "LO"
    word = f"CANARY{number:04}"
    texts = {
        "DA": f"19{50 + number % 40}{2 + number % 10:02}{3 + number % 25:02}",
        "DT": f"19{50 + number % 40}{2 + number % 10:02}{3 + number % 25:02}112233.{number:06}",
        "TM": f"112233.{number:06}",
        "UI": f"1.3.6.1.4.1.55555.{70000 + number}",
        "AS": "097Y",
        "DS": f"7755{number:04}",
        "IS": f"7755{number:04}",
    }
    sought = str(20000 + number) if vr in _NUMBERS else texts.get(vr, word)
    value: Any = sought
    if vr in _NUMBERS:
        value = 20000 + number
    elif vr in _BYTES:
        value = sought.encode()
    elif vr == "SQ":
        item = Dataset()
        if row["basic"] == "X/Z/U*":  # it may stay, with other UIDs
            sought = texts["UI"]
            item.add_new(REFERENCE, "UI", sought)
        else:
            item.add_new(CARRIER, "SH", sought)
        value = Sequence([item])
    return Canary(tag, vr, row["basic"], value, sought)


def make_objects(directory: Path) -> list[tuple[Path, int]]:
    """Write them; give each with its depth."""
    found: list[tuple[Path, int]] = []
    for shape in SHAPES:
        for depth in DEPTHS:
            path = directory / f"{shape.name}-{depth}.dcm"
            _write(path, shape, depth, number=len(found))
            found.append((path, depth))
    return found


def _write(path: Path, shape: Shape, depth: int, *, number: int) -> None:
    inner = Dataset()
    for canary in canaries():
        if canary.tag >> 16 > 2 and not (depth == 0 and canary.tag in _OF_THE_OBJECT):
            inner.add(DataElement(canary.tag, canary.vr, canary.value))
    for tag in WRAPPERS[:depth]:
        outer = Dataset()
        outer.add_new(tag, "SQ", Sequence([inner]))
        inner = outer
    data_set = inner
    data_set.SOPClassUID = shape.sop_class_uid
    data_set.SOPInstanceUID = f"1.3.6.1.4.1.55555.1.{number + 1}"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "1.3.6.1.4.1.55555.2", "1.3.6.1.4.1.55555.3"
    if depth:
        data_set.PatientID, data_set.PatientName = "CANARY-ID", "Canary^Name"
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = pydicom.uid.UID(shape.transfer_syntax_uid)
    _open(data_set, is_open=shape.is_open)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set.save_as(path, enforce_file_format=True)


def _open(data_set: Dataset, *, is_open: bool) -> None:
    """Have every sequence and item written with, or without, its length."""
    for element in data_set:
        if element.VR == "SQ":
            element.is_undefined_length = is_open
            for item in element.value:
                item.is_undefined_length_sequence_item = is_open
                _open(item, is_open=is_open)


def violations(output: Path, depth: int) -> list[str]:
    """Give the rows that an output breaks, as eight digits and the action."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        item: Dataset = pydicom.dcmread(output, force=True)
        for tag in reversed(WRAPPERS[:depth]):
            if tag not in item or not item[tag].value:
                return []  # all of it is gone
            item = item[tag].value[0]
        return [f"{canary.tag:08X} {canary.action}" for canary in _broken(item, depth)]


def _broken(item: Dataset, depth: int) -> Iterator[Canary]:
    for canary in canaries():
        is_ours = depth == 0 and canary.tag in _OF_THE_OBJECT
        if canary.action == "K" or is_ours or canary.tag not in item:
            continue
        if canary.action == "X" or _text_of(item, canary.tag, canary.sought):
            yield canary


def _text_of(item: Dataset, tag: int, sought: str) -> bool:
    """Whether an attribute has a text in its value, whatever its VR has become."""
    element = item[tag]
    if element.VR == "SQ":
        return any(sought in str(inner.value) for entry in element.value for inner in entry.iterall())
    value = element.value
    return sought in (value.decode("latin-1") if isinstance(value, bytes) else str(value))


@dataclass(slots=True)
class Verdict:
    """
    What a tool did with all objects.

    Attributes:
        violations: rows that its outputs break, over all of them.
        refused: objects that it gave no output for.
    """

    violations: int = 0
    refused: int = 0


def judge(tool: Callable[[Path, Path], None], objects: list[tuple[Path, int]], directory: Path) -> Verdict:
    """Have a tool de-identify all of them."""
    verdict = Verdict()
    directory.mkdir()
    for source, depth in objects:
        target = directory / source.name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tool(source, target)
        except Exception:  # noqa: BLE001 - the border to any tool
            verdict.refused += 1
        else:
            verdict.violations += len(violations(target, depth))
    return verdict
