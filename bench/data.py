"""
What is sent: a CT image of 526 KB and a small MR image of 10 KB, as P-DATA-TF with places for their UIDs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import pydicom
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

UID_LENGTH: Final = 40  # every UID has this length, so that it can be put in place
UID_ROOT: Final = "2.25.7."


def uid(*parts: int) -> bytes:
    """Give a UID of fixed length from some numbers below 10,000,000."""
    text = UID_ROOT + ".".join(f"1{part:08d}" for part in parts)
    return (text + ".1" + "0" * UID_LENGTH)[:UID_LENGTH].encode()


@dataclass(frozen=True, slots=True)
class Template:
    """
    An object to be sent many times under different UIDs.

    Attributes:
        head: of the data set, up to what no UID is in.
        tail: the rest.
        places: where the study, series and instance UIDs are in the head.
    """

    sop_class_uid: str
    head: bytes
    tail: bytes
    places: tuple[int, int, int]

    @property
    def length(self) -> int:
        """Of the data set, in bytes."""
        return len(self.head) + len(self.tail)


def make_template(name: str, rows: int, columns: int) -> Template:
    """Make a template of one of pydicom's files with as many pixels."""
    path = get_testdata_file(name)
    data_set = pydicom.dcmread(str(path))
    marks = [b"2.25.9." + str(number).encode() * (UID_LENGTH - 7) for number in (1, 2, 3)]
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID = (mark.decode() for mark in marks)
    data_set.Rows, data_set.Columns = rows, columns
    data_set.PixelData = bytes(range(256)) * (rows * columns * 2 // 256)
    if "DataSetTrailingPadding" in data_set:
        del data_set.DataSetTrailingPadding
    buffer = BytesIO()
    file = DicomFileLike(buffer)
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, data_set)
    encoded = buffer.getvalue()
    split = encoded.index(struct.pack("<HH", 0x7FE0, 0x0010) + b"OW") + 12
    head, tail = encoded[:split], encoded[split:]
    places = (head.index(marks[0]), head.index(marks[1]), head.index(marks[2]))
    return Template(str(data_set.SOPClassUID), head, tail, places)


TRANSFER_SYNTAX: Final = str(ExplicitVRLittleEndian)
