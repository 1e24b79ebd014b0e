"""Where the frames of encapsulated pixel data are, beside pydicom's opinion (PS3.5 A.4)."""

from __future__ import annotations

import os
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from pacs.dataset.errors import DataSetError
from pacs.dataset.facts import EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS, Facts
from pacs.dataset.frames import EncapsulatedFrames, frame_bits, number_of_frames
from pacs.dataset.walk import PIXEL_DATA, Kind, Token
from pacs.dataset.window import Window
from tests.transcoding import in_memory

DELIMITER = pack("<HHL", 0xFFFE, 0xE0DD, 0)
jpeg = st.lists(st.integers(0, 254), min_size=24, max_size=60).map(lambda data: b"\xff\xd8" + bytes(data) + b"\xff\xd9")


def places(value: bytes, count: int, extended: tuple[bytes, bytes] | None = None) -> list[bytes]:
    """Give each frame's fragments joined, as we find them."""
    tables = b"".join(extended or ())
    descriptor = in_memory(tables + value + DELIMITER)
    try:
        window = Window(descriptor, 0, len(tables) + len(value) + 8)
        facts = Facts()
        if extended is not None:
            for tag, at, table in (
                (EXTENDED_OFFSET_TABLE, 0, extended[0]),
                (EXTENDED_OFFSET_TABLE_LENGTHS, len(extended[0]), extended[1]),
            ):
                facts.places[tag] = Token(Kind.ELEMENT, tag, "OV", at, len(table), True, False)
        token = Token(Kind.FRAGMENTS, PIXEL_DATA, "OB", len(tables), len(value) + 8, True, False)
        found = EncapsulatedFrames(window, token, facts, count)
        assert found.has_extended_offsets == (extended is not None)
        return [
            b"".join(window.read(at, length) for at, length in found.fragments(number))
            for number in range(1, count + 1)
        ]
    finally:
        os.close(descriptor)


@given(st.lists(jpeg, min_size=1, max_size=6), st.integers(1, 3), st.booleans())
def test_frames_in_several_fragments_are_found_with_and_without_offsets(
    frames: list[bytes], fragments: int, has_table: bool
) -> None:
    value = encapsulate(frames, fragments_per_frame=fragments, has_bot=has_table)
    expected = list(generate_frames(value, number_of_frames=len(frames)))
    assert [frame.rstrip(b"\0") for frame in expected] == [frame.rstrip(b"\0") for frame in frames]
    assert places(value, len(frames)) == expected


@given(st.lists(jpeg, min_size=1, max_size=6))
def test_the_extended_offset_table_goes_before_the_basic_one(frames: list[bytes]) -> None:
    value, offsets, lengths = encapsulate_extended(frames)
    padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    assert places(value, len(frames), (offsets, lengths)) == padded


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (encapsulate([b"\1\2", b"\3\4", b"\5\6"], has_bot=False), 2),  # nothing tells where the second begins
        (encapsulate([b"\1\2"], has_bot=False), 2),
        (pack("<HHL", 0xFFFE, 0xE000, 0), 1),  # a table and no fragment
        (pack("<HHL", 0x7FE0, 0x0010, 0), 1),
    ],
)
def test_frames_that_can_not_be_told_apart_are_an_error(value: bytes, count: int) -> None:
    with pytest.raises(DataSetError):
        places(value, count)


@pytest.mark.parametrize("table", [(0, 5), (4, 10), (10, 0), (0, 1000)])
def test_offsets_that_lead_elsewhere_are_not_believed(table: tuple[int, int]) -> None:
    """One fragment for each frame says it better."""
    value = pack("<HHL2L", 0xFFFE, 0xE000, 8, *table) + encapsulate([b"\1\2", b"\3\4"], has_bot=False)[8:]
    assert places(value, 2) == [b"\1\2", b"\3\4"]


def test_frames_are_counted_and_measured() -> None:
    assert number_of_frames(Facts()) == 1
    with pytest.raises(DataSetError, match="no number"):
        number_of_frames(Facts(texts={0x00280008: "1A"}))
    with pytest.raises(DataSetError, match="Rows, Columns"):
        frame_bits(Facts())
    numbers = {0x00280002: 3, 0x00280010: 4, 0x00280011: 6, 0x00280100: 8}
    assert frame_bits(Facts(numbers=numbers)) == 4 * 6 * 24
    assert frame_bits(Facts(numbers=numbers, texts={0x00280004: "YBR_FULL_422"})) == 4 * 6 * 16
