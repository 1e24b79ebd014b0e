"""
What the tests of de-identification share: data sets of any shape, and a de-identified object as pydicom reads it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.filereader import read_dataset

from pacs.deidentification.profiles import Policy
from pacs.deidentification.settings import Implementation
from pacs.deidentification.transform import Transformer
from pacs.deidentification.vault import Vault
from pacs.deidentification.verifier import Expectation, Verifier

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
PRIVATE_SOP_CLASS: Final = "1.2.826.0.1.3680043.9.9999.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
IMPLEMENTATION: Final = Implementation("2.25.1", "TEST")

_LONG: Final = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
_OPEN: Final = 0xFFFFFFFF

Elements = Sequence[tuple[int, str, Any]]


def encode(elements: Elements, syntax: str = EXPLICIT, *, is_open: bool = False) -> bytes:
    """Give a data set; a value is bytes, or a list of items; `is_open`: undefined lengths."""
    data = _encode(sorted(elements, key=lambda element: element[0]), syntax, is_open=is_open)
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-15)
        data = deflater.compress(data) + deflater.flush()
        data += b"\0" * (len(data) % 2)
    return data


def _encode(elements: Elements, syntax: str, *, is_open: bool) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    out = []
    for tag, vr, value in elements:
        if isinstance(value, list):
            body = b""
            for item in value:
                inner = _encode(sorted(item, key=lambda element: element[0]), syntax, is_open=is_open)
                body += struct.pack(order + "HHL", 0xFFFE, 0xE000, _OPEN if is_open else len(inner)) + inner
                if is_open:
                    body += struct.pack(order + "HHL", 0xFFFE, 0xE00D, 0)
            length = _OPEN if is_open else len(body)
            if is_open:
                body += struct.pack(order + "HHL", 0xFFFE, 0xE0DD, 0)
        else:
            body = value + (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) % 2)
            length = len(body)
        if syntax == IMPLICIT:
            head = struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)
        elif vr in _LONG:
            head = struct.pack(order + "HH2sxxL", tag >> 16, tag & 0xFFFF, vr.encode(), length)
        else:
            head = struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)
        out.append(head + body)
    return b"".join(out)


def minimal(*, sop_class: str = CT, instance: str = "1.2.3.4.5", patient_id: str = "PAT-4711-X") -> list[Any]:
    """Give what an object can't be without."""
    return [
        (0x00080016, "UI", sop_class.encode()),
        (0x00080018, "UI", instance.encode()),
        (0x00100010, "PN", b"Muster^Erika"),
        (0x00100020, "LO", patient_id.encode()),
        (0x0020000D, "UI", b"1.2.3.4"),
        (0x0020000E, "UI", b"1.2.3.4.1"),
    ]


def make_vault(directory: Path) -> Vault:
    """Open the vault of a directory."""
    return Vault(directory / "vault.db", fingerprint_path=directory / "vault.fingerprint")


def deidentify(data_set: bytes, policy: Policy, vault: Vault, *, syntax: str = EXPLICIT) -> bytes:
    """Transform an object and let the verifier see it; give the file."""
    transformer = Transformer(policy=policy, vault=vault, implementation=IMPLEMENTATION)
    original = transformer.read(data_set, syntax)
    done = transformer.transform(original, syntax)
    output = done.meta + b"".join(done.data_set)
    shift_days = vault.pseudonyms(original.identity()).shift_days
    Verifier().verify(data_set, syntax, output, Expectation(policy, done.pseudonym, shift_days))
    return output


def read(output: bytes) -> pydicom.FileDataset:
    """Read a file with pydicom."""
    return pydicom.dcmread(io.BytesIO(output), force=True)


def read_big_endian(output: bytes) -> pydicom.Dataset:
    """
    Read the data set of a big endian file with pydicom.

    `dcmread` takes a group 0000 at the beginning for a command set, and so for little endian.
    """
    (length_of_meta,) = struct.unpack_from("<L", output, 140)
    return read_dataset(io.BytesIO(output[144 + length_of_meta :]), is_implicit_VR=False, is_little_endian=False)
