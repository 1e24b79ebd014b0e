"""
The head of a DICOM file: preamble, prefix and File Meta Information (PS3.10 section 7.1).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final

from pacs.dataset.errors import DataSetError

PREAMBLE_BYTES: Final = 128
PREFIX: Final = b"DICM"
LONGEST_META_BYTES: Final = 64 * 1024

MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x0002
MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x0003
TRANSFER_SYNTAX_UID: Final = 0x0010
IMPLEMENTATION_CLASS_UID: Final = 0x0012
IMPLEMENTATION_VERSION_NAME: Final = 0x0013
SOURCE_AE_TITLE: Final = 0x0016

_SHORT: Final = Struct("<HH2sH")
_LONG: Final = Struct("<HH2sxxL")
_UINT32: Final = Struct("<L")
_LONG_VRS: Final = frozenset((b"OB", b"UN", b"UT", b"OW", b"SQ"))


def _element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("latin-1", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(2, element, vr, len(value)) + value


@lru_cache(maxsize=1024)
def _around(
    sop_class_uid: str, transfer_syntax_uid: str, implementation_class_uid: str, version_name: str, source_ae_title: str
) -> tuple[bytes, bytes]:
    """Give what stands before and behind the SOP Instance UID; it is the same for every object of a series."""
    before = _LONG.pack(2, 0x0001, b"OB", 2) + b"\0\1" + _element(MEDIA_STORAGE_SOP_CLASS_UID, b"UI", sop_class_uid)
    behind = (
        _element(TRANSFER_SYNTAX_UID, b"UI", transfer_syntax_uid)
        + _element(IMPLEMENTATION_CLASS_UID, b"UI", implementation_class_uid)
        + _element(IMPLEMENTATION_VERSION_NAME, b"SH", version_name)
    )
    if source_ae_title:
        behind += _element(SOURCE_AE_TITLE, b"AE", source_ae_title)
    return before, behind


def encode_file_meta(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    source_ae_title: str,
    implementation_class_uid: str,
    implementation_version_name: str,
) -> bytes:
    """Give preamble, prefix and File Meta Information; the data set follows."""
    before, behind = _around(
        sop_class_uid, transfer_syntax_uid, implementation_class_uid, implementation_version_name, source_ae_title
    )
    body = before + _element(MEDIA_STORAGE_SOP_INSTANCE_UID, b"UI", sop_instance_uid) + behind
    return bytes(PREAMBLE_BYTES) + PREFIX + _SHORT.pack(2, 0, b"UL", 4) + _UINT32.pack(len(body)) + body


@dataclass(frozen=True, slots=True)
class FileMeta:
    """
    What the head of a file says.

    Attributes:
        elements: text of the elements of group 0002, by element number.
        data_set_offset: where the data set begins.
    """

    elements: Mapping[int, str]
    data_set_offset: int

    @property
    def sop_class_uid(self) -> str:
        """Media Storage SOP Class UID."""
        return self.elements.get(MEDIA_STORAGE_SOP_CLASS_UID, "")

    @property
    def sop_instance_uid(self) -> str:
        """Media Storage SOP Instance UID."""
        return self.elements.get(MEDIA_STORAGE_SOP_INSTANCE_UID, "")

    @property
    def transfer_syntax_uid(self) -> str:
        """Transfer Syntax UID."""
        return self.elements.get(TRANSFER_SYNTAX_UID, "")

    @property
    def source_ae_title(self) -> str:
        """Source Application Entity Title: who sent it."""
        return self.elements.get(SOURCE_AE_TITLE, "")


def open_file(path: Path) -> BufferedReader:
    """
    Open a file that somebody names.

    A pipe would wait for who writes into it, and a device has no end.

    Raises:
        OSError: it can't be opened, or is no regular file.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "no regular file")
    return file


def read_file_meta(file: BinaryIO) -> FileMeta:
    """
    Read the head of a file from its beginning; group 0002 ends where another group begins.

    Raises:
        DataSetError: it is no DICOM file.
    """
    head = file.read(LONGEST_META_BYTES)
    if head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != PREFIX:
        raise DataSetError("no DICOM file: the prefix is missing")
    position = PREAMBLE_BYTES + 4
    elements: dict[int, str] = {}
    while position + 8 <= len(head):
        group, element, vr, length = _SHORT.unpack_from(head, position)
        if group != 2:
            break
        position += 8
        if vr in _LONG_VRS:
            (length,) = _UINT32.unpack_from(head.ljust(position + 4, b"\0"), position)
            position += 4
        if position + length > len(head):
            raise DataSetError("the File Meta Information is cut off")
        elements[element] = head[position : position + length].decode("latin-1").strip("\0 ")
        position += length
    return FileMeta(elements, position)
