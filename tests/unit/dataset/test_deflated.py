"""
Deflated data sets, whose inflated form ends where a piece of the inflater's does.
"""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from pacs.dataset.scanner import INFLATED_PIECE_BYTES, DataSetScanner

DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"


@pytest.mark.parametrize("cut", [1, 7, 1 << 20])
def test_a_deflated_data_set_of_any_length_is_scanned_to_its_end(cut: int) -> None:
    for length in range(INFLATED_PIECE_BYTES - 80, INFLATED_PIECE_BYTES + 80, 2):
        unit = bytes(random.Random(length).choices(b"ab", k=64))
        value = (unit * (length // len(unit) + 1))[:length]
        data = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, length) + value
        deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = deflater.compress(data) + deflater.flush()
        scanner = DataSetScanner(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, wanted=frozenset())
        for at in range(0, len(deflated), cut):
            scanner.feed(deflated[at : at + cut])
        assert scanner.finish().byte_count == len(data)
