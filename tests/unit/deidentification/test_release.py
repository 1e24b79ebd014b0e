"""
Which pixels are released, and what is blanked before.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from pacs.dataset.scanner import DEFAULT_LIMITS
from pacs.deidentification.codec import parse_data_set
from pacs.deidentification.errors import NotDeidentifiable
from pacs.deidentification.original import Original
from pacs.deidentification.profiles import Policy
from pacs.deidentification.regions import RegionRulesError, blank, find_regions, load_region_rules
from pacs.deidentification.release import burned_in_reason, face_reason, hidden_plane_reason
from pacs.deidentification.tables import Profile
from tests.deidentification import CT, EXPLICIT, encode, minimal

CAPTURE = "1.2.840.10008.5.1.4.1.1.7.4"
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
PIXELS = (0x7FE00010, "OW", bytes(8))


def original(*more: Any, sop_class: str = CT, buffer: bytearray | None = None) -> Original:
    """Give a parsed object."""
    data = encode([*minimal(sop_class=sop_class), *more])
    if buffer is not None:
        buffer[:] = data
    parsed = parse_data_set(memoryview(buffer) if buffer is not None else data, EXPLICIT, DEFAULT_LIMITS)
    return Original(parsed, default_character_set=None)


@pytest.mark.parametrize(
    ("sop_class", "element", "is_refused"),
    [
        (CT, (0x00080060, "CS", b"CT"), False),
        (CT, (0x00280301, "CS", b"YES"), True),
        (CT, (0x00080064, "CS", b"WSD"), True),
        (CT, (0x00080008, "CS", b"DERIVED\\SECONDARY\\SCREEN SAVE"), True),
        (CT, (0x00080060, "CS", b"ES"), True),
        (CAPTURE, (0x00080060, "CS", b"CT"), True),
        (CAPTURE, (0x00280301, "CS", b"NO"), False),
        (ULTRASOUND, (0x00080060, "CS", b"US"), True),
        (ULTRASOUND, (0x00280301, "CS", b"NO"), False),
    ],
)
def test_unknown_is_not_no_where_text_is_common(sop_class: str, element: Any, is_refused: bool) -> None:
    assert (burned_in_reason(original(element, PIXELS, sop_class=sop_class)) is not None) == is_refused
    assert burned_in_reason(original(element, sop_class=sop_class)) is None, "an object without pixels"


def test_faces_are_refused_by_safe_harbor_alone() -> None:
    head = original((0x00080060, "CS", b"MR"), (0x00180015, "CS", b"HEAD"), PIXELS)
    assert face_reason(head, Policy(Profile.HIPAA_SAFE_HARBOR))
    assert not face_reason(head, Policy(Profile.BASIC))
    defaced = original((0x00080060, "CS", b"MR"), (0x00180015, "CS", b"HEAD"), (0x00280302, "CS", b"NO"), PIXELS)
    assert not face_reason(defaced, Policy(Profile.HIPAA_SAFE_HARBOR))


def test_an_overlay_in_the_bits_of_the_pixels_is_seen() -> None:
    assert hidden_plane_reason(original((0x60000102, "US", b"\x0c\0"), PIXELS))
    lowest = (0x60000100, "US", b"\x10\0"), (0x60000102, "US", b"\0\0")  # of left-aligned pixels
    assert hidden_plane_reason(original(*lowest, PIXELS))
    assert not hidden_plane_reason(original((0x60000102, "US", b"\0\0"), (0x60003000, "OW", b"\0\0"), PIXELS))


def shape(rows: int, columns: int, samples: int, photometric: bytes, *, planar: int = 0, frames: int = 1) -> list[Any]:
    """Give an image's description."""
    return [
        (0x00280002, "US", struct.pack("<H", samples)),
        (0x00280004, "CS", photometric),
        (0x00280006, "US", struct.pack("<H", planar)),
        (0x00280008, "IS", str(frames).encode()),
        (0x00280010, "US", struct.pack("<H", rows)),
        (0x00280011, "US", struct.pack("<H", columns)),
        (0x00280100, "US", b"\x08\0"),
    ]


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("keeps", [False, True])
def test_regions_are_blanked_in_every_frame_and_sample(planar: int, keeps: bool) -> None:
    buffer = bytearray()
    pixels = (0x7FE00010, "OB", b"\7" * (2 * 3 * 4 * 3))
    image = original(*shape(3, 4, 3, b"RGB", planar=planar, frames=2), pixels, buffer=buffer)
    blank(buffer, image, [(1, 1, 2, 5)], keeps=keeps)
    place = image.top[0x7FE00010]
    data = bytes(buffer[place[3] : place[4]])
    for frame in range(2):
        for y in range(3):
            for x in range(4):
                for sample in range(3):
                    pixel = frame * 36 + (sample * 12 + y * 4 + x if planar else (y * 4 + x) * 3 + sample)
                    is_inside = y >= 1 and 1 <= x < 3
                    assert data[pixel] == (7 if is_inside == keeps else 0)


@pytest.mark.parametrize(
    ("frames", "pixel_bytes", "region", "reason"),
    [
        (b"0", 12, (0, 0, 4, 1), "can't be cleaned"),
        (b"-1", 12, (0, 0, 4, 1), "can't be cleaned"),
        (b"two", 12, (0, 0, 4, 1), "can't be cleaned"),
        (b"2", 12, (0, 0, 4, 1), "too short"),
        (b"1", 24, (0, 0, 4, 1), "longer than their frames"),
        (b"1", 12, (4, 0, 4, 1), "nothing to blank"),
    ],
)
def test_pixels_of_which_nothing_would_be_blanked_are_not_clean(
    frames: bytes, pixel_bytes: int, region: Any, reason: str
) -> None:
    buffer = bytearray()
    pixels = (0x7FE00010, "OB", b"\7" * pixel_bytes)
    described = [element for element in shape(3, 4, 1, b"MONOCHROME2") if element[0] != 0x00280008]
    image = original(*described, (0x00280008, "IS", frames), pixels, buffer=buffer)
    with pytest.raises(NotDeidentifiable, match=reason):
        blank(buffer, image, [region], keeps=False)


def test_an_ultrasound_region_as_large_as_the_image_is_no_cleaning() -> None:
    buffer = bytearray()
    image = original(*shape(3, 4, 1, b"MONOCHROME2"), (0x7FE00010, "OB", b"\7" * 12), buffer=buffer)
    with pytest.raises(NotDeidentifiable, match="nothing to blank"):
        blank(buffer, image, [(0, 0, 4, 3)], keeps=True)


def test_ultrasound_regions_are_what_is_kept() -> None:
    corners = [(tag, "UL", struct.pack("<L", n)) for tag, n in
               ((0x00186018, 1), (0x0018601A, 2), (0x0018601C, 5), (0x0018601E, 7))]  # fmt: skip
    assert find_regions(original((0x00186011, "SQ", [corners])), ()) == (((1, 2, 5, 6),), True)
    assert find_regions(original(), ()) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rules: 3", "list"),
        ("rule: []", "rules"),
        ("rules: [{blank: [[0, 0, 1, 1]], keep: [[0, 0, 1, 1]]}]", "either"),
        ("rules: [{manufactorer: A, blank: [[0, 0, 1, 1]]}]", "keys"),
        ("rules: [{blank: [[0, 0, -1, 1]]}]", "region"),
        ("rules: [{blank: [[true, 0, 1, 1]]}]", "region"),
        ("rules: [{rows: '480', blank: [[0, 0, 1, 1]]}]", "numbers"),
        ("{", r"rules\.yaml:1: no YAML"),
        ("rules: [2026-99-99]", "no YAML: month must be in"),
        ("rules: \0", "no YAML"),
    ],
)
def test_wrong_region_rules_are_told(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(RegionRulesError, match=fault):
        load_region_rules(path)
