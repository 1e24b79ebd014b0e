"""
Frames extracted in this process, and multi-frame objects made by pydicom to be their sources.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from struct import pack
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from pacs.extraction.changes import Equipment
from pacs.extraction.extract import extract
from pacs.extraction.request import FrameKey, FrameRequest
from pacs.transcoding.settings import TranscodingSettings
from tests.transcoding import BIG_ENDIAN, EXPLICIT, IMPLICIT, SETTINGS, as_read, in_memory

EQUIPMENT: Final = Equipment("PROD_PACS", "0.1.0")
SOURCE_UID: Final = "1.2.3.4.5"


def simple(*numbers: int) -> FrameRequest:
    """Ask with a Simple Frame List."""
    return FrameRequest(FrameKey.SIMPLE_FRAME_LIST, pack(f"<{len(numbers)}I", *numbers))


def calculated(*numbers: int) -> FrameRequest:
    """Ask with a Calculated Frame List."""
    return FrameRequest(FrameKey.CALCULATED_FRAME_LIST, pack(f"<{len(numbers)}I", *numbers))


def time_range(*seconds: float) -> FrameRequest:
    """Ask with a Time Range."""
    return FrameRequest(FrameKey.TIME_RANGE, pack(f"<{len(seconds)}d", *seconds))


def extracted_bytes(
    data: bytes, transfer_syntax: str, request: FrameRequest, settings: TranscodingSettings = SETTINGS
) -> bytes:
    """Give the new data set; raises ExtractionError."""
    descriptor = in_memory(b"\xff" * 7 + data + b"\xff")  # a part of a file
    try:
        made = extract(descriptor, 7, len(data), transfer_syntax, request, EQUIPMENT, settings)
    finally:
        os.close(descriptor)
    try:
        return os.pread(made.file.descriptor, made.file.length + 1, 0)
    finally:
        made.file.close()


def extracted(data: bytes, transfer_syntax: str, request: FrameRequest) -> Dataset:
    """Give the new data set as pydicom reads it; raises ExtractionError."""
    return as_read(extracted_bytes(data, transfer_syntax, request), transfer_syntax)


def encoded(data_set: Dataset, transfer_syntax: str = EXPLICIT) -> bytes:
    """Give a data set's bytes as pydicom writes them."""
    file = DicomBytesIO()
    file.is_implicit_VR = transfer_syntax == IMPLICIT
    file.is_little_endian = transfer_syntax != BIG_ENDIAN
    data_set.is_undefined_length_sequence_item = False
    if UID(transfer_syntax).is_encapsulated:
        data_set["PixelData"].is_undefined_length = True
    write_dataset(file, data_set)
    return file.getvalue()


def multi_frame(pixels: bytes, frames: int, *, bits: int = 8, rows: int = 2, columns: int = 3, **more: Any) -> Dataset:
    """Give a multi-frame object; further attributes by keyword."""
    made = Dataset()
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.2"
    made.SOPInstanceUID = SOURCE_UID
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    made.StudyInstanceUID, made.SeriesInstanceUID, made.PatientID = "1.2.3", "1.2.3.4", "P1"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.NumberOfFrames, made.Rows, made.Columns = frames, rows, columns
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, 0
    made.add_new(0x7FE00010, "OB" if bits == 8 else "OW", pixels)
    for keyword, value in more.items():
        setattr(made, keyword, value)
    return made


def item(**attributes: Any) -> Dataset:
    """Give an item of a sequence."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def frame_bytes(frames: Sequence[int], *, size: int = 6) -> bytes:
    """Give pixel data in which each byte of a frame has the frame's number."""
    return b"".join(bytes([number]) * size for number in frames)
