"""
What a department's day is made of: the data sets that modalities send, and what is remembered of each examination.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bench.wire import EXPLICIT
from pacs.dataset.elements import ElementEncoder, read_elements
from pacs.dataset.values import Value, ValueEncoder, Values, values_of

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
WORKLIST: Final = "1.2.840.10008.5.1.4.31"
MPPS: Final = "1.2.840.10008.3.1.2.3.3"
COMMITMENT: Final = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"

_VALUES: Final = ValueEncoder(EXPLICIT)
_ELEMENTS: Final = ElementEncoder(EXPLICIT)


@dataclass(frozen=True)
class Kind:
    """
    A kind of modality.

    Attributes:
        side: rows and columns of an image.
        images: of an examination.
    """

    modality: str
    sop_class_uid: str
    side: int
    images: int

    @property
    def pixels(self) -> bytes:
        """Of each image."""
        return bytes(range(256)) * (self.side * self.side * 2 // 256)


KINDS: Final = (Kind("CT", CT, 512, 8), Kind("MR", MR, 128, 16))


@dataclass
class Exam:
    """
    One examination.

    Attributes:
        objects: the CRC-32 of each stored data set, by SOP Instance UID.
        never_stored: what commitment was asked for all the same.
        asked_s: when commitment was asked for, on the monotonic clock.
        committed, failed: what the report says.
        reported_s: when it came, and which way.
    """

    ae_title: str
    kind: Kind
    study_uid: str
    patient_id: str
    step_uid: str
    is_completed: bool
    objects: dict[str, int] = field(default_factory=dict)
    never_stored: tuple[str, ...] = ()
    transaction_uid: str = ""
    asked_s: float = 0.0
    committed: tuple[str, ...] = ()
    failed: dict[str, int] = field(default_factory=dict)
    reported_s: float = 0.0
    is_reported_on_new_association: bool = False


@dataclass
class Diary:
    """
    What one process of the department has done.

    Attributes:
        durations_s: of each operation.
        statuses: of DIMSE operations, by operation and status.
        faults: what went wrong, or was not as it must be.
    """

    durations_s: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    associations: int = 0
    matches: int = 0
    retrieved: int = 0
    retrievals: int = 0
    exams: list[Exam] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def note(self, operation: str, started_s: float) -> None:
        """Note how long something took until now."""
        self.durations_s.setdefault(operation, []).append(time.monotonic() - started_s)

    def add(self, other: Diary) -> None:
        """Take over another one."""
        for operation, durations in other.durations_s.items():
            self.durations_s.setdefault(operation, []).extend(durations)
        self.statuses += other.statuses
        self.associations += other.associations
        self.matches += other.matches
        self.retrieved += other.retrieved
        self.retrievals += other.retrievals
        self.exams += other.exams
        self.faults += other.faults


@dataclass(frozen=True)
class Report:
    """An N-EVENT-REPORT."""

    transaction_uid: str
    committed: tuple[str, ...]
    failed: Mapping[str, int]
    received_s: float


def encode(values: Mapping[int, tuple[str, str] | Value]) -> bytes:
    """Give a data set."""
    return _VALUES.data_set({tag: v if isinstance(v, Value) else Value(*v) for tag, v in values.items()}, "")


def sequence(*items: Mapping[int, tuple[str, str] | Value]) -> Value:
    """Give a sequence."""
    return Value("SQ", "", tuple({t: v if isinstance(v, Value) else Value(*v) for t, v in i.items()} for i in items))


def decode(data: bytes) -> Values:
    """Read a data set."""
    return values_of(read_elements(data, EXPLICIT), "", "<")


def text(values: Values, tag: int) -> str:
    """Give a value as text; "" when there is none."""
    value = values.get(tag)
    return "" if value is None else value.text


def image(kind: Kind, exam: Exam, item: Values, number: int) -> tuple[str, bytes]:
    """Give an image of an examination: its UID and its data set."""
    uid = f"{exam.study_uid}.1.{number}"
    head = encode(
        {
            0x00080016: ("UI", kind.sop_class_uid),
            0x00080018: ("UI", uid),
            0x00080020: ("DA", time.strftime("%Y%m%d")),
            0x00080030: ("TM", time.strftime("%H%M%S")),
            0x00080050: ("SH", text(item, 0x00080050)),
            0x00080060: ("CS", kind.modality),
            0x00100010: ("PN", text(item, 0x00100010)),
            0x00100020: ("LO", exam.patient_id),
            0x0020000D: ("UI", exam.study_uid),
            0x0020000E: ("UI", f"{exam.study_uid}.1"),
            0x00200010: ("SH", "1"),
            0x00200011: ("IS", "1"),
            0x00200013: ("IS", str(number)),
            0x00280002: ("US", "1"),
            0x00280004: ("CS", "MONOCHROME2"),
            0x00280010: ("US", str(kind.side)),
            0x00280011: ("US", str(kind.side)),
            0x00280100: ("US", "16"),
            0x00280101: ("US", "16"),
            0x00280102: ("US", "15"),
            0x00280103: ("US", "0"),
        }
    )
    return uid, head + _ELEMENTS.element(0x7FE00010, "OW", kind.pixels)


def fingerprint(data_set: bytes) -> int:
    """Give what two equal data sets have in common."""
    return zlib.crc32(data_set)


def step_begun(exam: Exam, item: Values) -> bytes:
    """Give the attribute list of an N-CREATE (PS3.4 table F.7.2-1)."""
    reference = sequence(
        {
            0x00080050: ("SH", text(item, 0x00080050)),
            0x00081110: sequence(),
            0x0020000D: ("UI", exam.study_uid),
            0x00321060: ("LO", ""),
            0x00400007: ("LO", ""),
            0x00400008: sequence(),
            0x00400009: ("SH", _step_id(item)),
            0x00401001: ("SH", text(item, 0x00401001)),
        }
    )
    return encode(
        {
            0x00080060: ("CS", exam.kind.modality),
            0x00081032: sequence(),
            0x00081120: sequence(),
            0x00100010: ("PN", text(item, 0x00100010)),
            0x00100020: ("LO", exam.patient_id),
            0x00100030: ("DA", ""),
            0x00100040: ("CS", ""),
            0x00200010: ("SH", "1"),
            0x00400241: ("AE", exam.ae_title),
            0x00400242: ("SH", ""),
            0x00400243: ("SH", ""),
            0x00400244: ("DA", time.strftime("%Y%m%d")),
            0x00400245: ("TM", time.strftime("%H%M%S")),
            0x00400250: ("DA", ""),
            0x00400251: ("TM", ""),
            0x00400252: ("CS", "IN PROGRESS"),
            0x00400253: ("SH", _step_id(item)),
            0x00400254: ("LO", ""),
            0x00400255: ("LO", ""),
            0x00400260: sequence(),
            0x00400270: reference,
            0x00400340: sequence(),
        }
    )


def _step_id(item: Values) -> str:
    (step,) = item[0x00400100].items or ({},)
    return text(step, 0x00400009)


def step_ended(exam: Exam) -> bytes:
    """Give the modification list of the last N-SET."""
    images = [{0x00081150: ("UI", exam.kind.sop_class_uid), 0x00081155: ("UI", uid)} for uid in exam.objects]
    series = sequence(
        {
            0x00080054: ("AE", ""),
            0x0008103E: ("LO", ""),
            0x00081050: ("PN", ""),
            0x00081070: ("PN", ""),
            0x00081140: sequence(*images),
            0x00181030: ("LO", "ROUTINE"),
            0x0020000E: ("UI", f"{exam.study_uid}.1"),
            0x00400220: sequence(),
        }
    )
    return encode(
        {
            0x00400250: ("DA", time.strftime("%Y%m%d")),
            0x00400251: ("TM", time.strftime("%H%M%S")),
            0x00400252: ("CS", "COMPLETED" if exam.is_completed else "DISCONTINUED"),
            0x00400340: series,
        }
    )


def worklist_keys(ae_title: str) -> bytes:
    """Give the identifier of a modality's query for what it is to do today."""
    step = sequence(
        {
            0x00080060: ("CS", ""),
            0x00400001: ("AE", ae_title),
            0x00400002: ("DA", time.strftime("%Y%m%d")),
            0x00400003: ("TM", ""),
            0x00400007: ("LO", ""),
            0x00400009: ("SH", ""),
            0x00400020: ("CS", ""),
        }
    )
    return encode(
        {
            0x00080050: ("SH", ""),
            0x00100010: ("PN", ""),
            0x00100020: ("LO", ""),
            0x00100030: ("DA", ""),
            0x0020000D: ("UI", ""),
            0x00400100: step,
            0x00401001: ("SH", ""),
        }
    )


def commitment_request(exam: Exam) -> bytes:
    """Give the action information of a request for storage commitment."""
    items = [
        {0x00081150: ("UI", exam.kind.sop_class_uid), 0x00081155: ("UI", uid)}
        for uid in (*exam.objects, *exam.never_stored)
    ]
    return encode({0x00081195: ("UI", exam.transaction_uid), 0x00081199: sequence(*items)})


def read_report(data: bytes) -> Report:
    """Read the event information of a report."""
    values = decode(data)
    committed = values.get(0x00081199, sequence()).items or ()
    failed = values.get(0x00081198, sequence()).items or ()
    return Report(
        text(values, 0x00081195),
        tuple(text(item, 0x00081155) for item in committed),
        {text(item, 0x00081155): int(text(item, 0x00081197)) for item in failed},
        time.monotonic(),
    )


def study_keys(patient_id: str) -> bytes:
    """Give the identifier of a workstation's query for a patient's studies."""
    return encode(
        {
            0x00080020: ("DA", ""),
            0x00080052: ("CS", "STUDY"),
            0x00100010: ("PN", ""),
            0x00100020: ("LO", patient_id),
            0x0020000D: ("UI", ""),
            0x00201208: ("IS", ""),
        }
    )


def study_identifier(study_uid: str) -> bytes:
    """Give the identifier of a retrieval of a study."""
    return encode({0x00080052: ("CS", "STUDY"), 0x0020000D: ("UI", study_uid)})
