"""
Text in the bytes of frames and of ICC profiles: JPEG COM and APPn segments, JPEG 2000 COM segments, descriptions.

It is overwritten in its place, so that no offset moves. What decoders need stays: JFIF, Adobe's color transform, SPIFF
and the color transform of JPEG-LS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pacs.deidentification.errors import NotDeidentifiable

_SOI: Final = b"\xff\xd8"
_SOC: Final = b"\xff\x4f\xff\x51"
_JP2: Final = b"\0\0\0\x0cjP  "
_MARKER_IN_DATA: Final = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # no stuffed zero, no restart marker
_MARKER_IN_JPEG_LS: Final = re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]")  # a stuffed bit instead of a byte (ITU-T T.87)
_START_OF_SCAN: Final = 0xDA
_JPEG_LS_FRAME: Final = 0xF7
_END_OF_IMAGE: Final = 0xD9
_COMMENT: Final = 0xFE
_STANDALONE: Final = frozenset((0x01, *range(0xD0, 0xDA)))
# what may stay of an application segment: what it begins with, and how many bytes
_KNOWN_APPLICATION_DATA: Final = {
    0xE0: (b"JFIF\0", 14),
    0xE8: (b"mrfx", 5),
    0xEE: (b"Adobe", 12),
}
_SPIFF: Final = (b"SPIFF\0", 30)
_JP2_IMAGE_BOXES: Final = frozenset((b"jP  ", b"ftyp", b"ihdr", b"bpcc", b"colr", b"pclr", b"cmap", b"cdef", b"res "))
_JP2_ICC_METHODS: Final = frozenset((2, 3))
_ICC_HEADER_BYTES: Final = 128
_ICC_COLOR_TAGS: Final = frozenset(
    (
        b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"A2B0", b"A2B1", b"A2B2",
        b"B2A0", b"B2A1", b"B2A2", b"D2B0", b"D2B1", b"D2B2", b"D2B3", b"B2D0", b"B2D1", b"B2D2", b"B2D3", b"chad",
        b"chrm", b"cicp", b"gamt", b"lumi", b"pre0", b"pre1", b"pre2", b"meas", b"view", b"tech",
    )
)  # fmt: skip
_ICC_TEXT_TYPES: Final = frozenset((b"text", b"desc", b"mluc"))


def clean_fragments(fragments: Sequence[bytes]) -> list[bytes]:
    """
    Overwrite comments in the fragments of an encapsulated value; a frame may be in several.

    Raises:
        NotDeidentifiable: a frame's segments can't be followed.
    """
    cleaned: list[bytes] = []
    frame: list[bytes] = []
    for fragment in fragments:
        if frame and fragment.startswith((_SOI, _SOC, _JP2)):
            cleaned += _clean_frame(frame)
            frame = []
        frame.append(fragment)
    return cleaned + _clean_frame(frame) if frame else cleaned


def _clean_frame(parts: Sequence[bytes]) -> list[bytes]:
    whole = bytearray().join(parts)
    try:
        if whole.startswith(_SOI):
            _clean_jpeg(whole)
        elif whole.startswith(_SOC):
            _clean_codestream(whole, 0)
        elif whole.startswith(_JP2):
            _clean_boxes(whole, 0, len(whole))
    except IndexError:
        raise NotDeidentifiable("frame_comments", "a frame's segments are cut off") from None
    result = []
    position = 0
    for part in parts:
        result.append(bytes(whole[position : position + len(part)]))
        position += len(part)
    return result


def _blank(data: bytearray, start: int, end: int) -> None:
    data[start:end] = bytes(max(0, min(end, len(data)) - start))


def _clean_jpeg(data: bytearray) -> None:
    """Walk the marker segments (ISO/IEC 10918-1 annex B), through the entropy-coded data of each scan."""
    position = 2
    in_data = _MARKER_IN_DATA
    while position < len(data) - 1:
        if data[position] != 0xFF:
            match = in_data.search(data, position)
            if match is None:
                return
            position = match.end() - 2
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == _END_OF_IMAGE:
            _blank(data, position + 2, len(data))
            return
        if marker in _STANDALONE:
            position += 2
            continue
        length = data[position + 2] << 8 | data[position + 3]
        end = position + 2 + length
        if end > len(data):
            raise NotDeidentifiable("frame_comments", "a segment reaches beyond its frame")
        if marker == _COMMENT:
            _blank(data, position + 4, end)
        elif 0xE0 <= marker <= 0xEF:
            _clean_application_data(data, marker, position + 4, end)
        position = end
        if marker == _JPEG_LS_FRAME:
            in_data = _MARKER_IN_JPEG_LS
        if marker == _START_OF_SCAN:
            match = in_data.search(data, position)
            if match is None:
                return
            position = match.end() - 2


def _clean_application_data(data: bytearray, marker: int, start: int, end: int) -> None:
    known = [_KNOWN_APPLICATION_DATA.get(marker)]
    if marker == 0xE8:
        known.append(_SPIFF)
    for entry in known:
        if entry is not None and data.startswith(entry[0], start):
            _blank(data, start + entry[1], end)
            return
    _blank(data, start, end)


def _clean_codestream(data: bytearray, start: int) -> None:
    """Walk the main header and the tile-part headers (ISO/IEC 15444-1 annex A)."""
    position = start + 2
    tile_end = 0
    while position < len(data) - 1:
        if data[position] != 0xFF:
            raise NotDeidentifiable("frame_comments", "no marker where one was expected")
        marker = data[position + 1]
        if marker == 0xD9:
            _blank(data, position + 2, len(data))
            return
        if marker == 0x93:  # SOD: the tile-part's data
            position = tile_end
            continue
        end = position + 2 + (data[position + 2] << 8 | data[position + 3])
        if marker == 0x90:  # SOT
            tile_length = int.from_bytes(data[position + 6 : position + 10], "big")
            tile_end = position + tile_length if tile_length else len(data)
            if tile_length and tile_end <= position:
                raise NotDeidentifiable("frame_comments", "a tile-part without length")
        elif marker == 0x64:  # COM; its registration value stays
            _blank(data, position + 6, end)
        position = end


def _clean_boxes(data: bytearray, position: int, end: int) -> None:
    """Walk the boxes of a JP2 file (ISO/IEC 15444-1 annex I); keep what describes the image."""
    while position + 8 <= end:
        length = int.from_bytes(data[position : position + 4], "big") or end - position
        kind = bytes(data[position + 4 : position + 8])
        box_end = position + length
        if length < 8 or box_end > end:
            raise NotDeidentifiable("frame_comments", "a box of an unknown length")
        if kind == b"jp2c":
            _clean_codestream(data, position + 8)
        elif kind == b"jp2h":
            _clean_boxes(data, position + 8, box_end)
        elif kind == b"colr" and data[position + 8] in _JP2_ICC_METHODS:
            profile = clean_icc_profile(bytes(data[position + 11 : box_end]))
            if profile is None:
                raise NotDeidentifiable("frame_comments", "a color profile that can't be read")
            data[position + 11 : box_end] = profile
        elif kind not in _JP2_IMAGE_BOXES:
            _blank(data, position + 8, box_end)
        position = box_end


def clean_icc_profile(profile: bytes) -> bytes | None:
    """
    Overwrite the text in an ICC profile (ISO 15076-1 section 7); colors stay the same.

    Returns:
        None: it is no profile.
    """
    data = bytearray(profile)
    if len(data) < _ICC_HEADER_BYTES + 4 or data[36:40] != b"acsp":
        return None
    _blank(data, 4, 8)  # preferred CMM
    _blank(data, 24, 36)  # when it was made
    _blank(data, 48, 64)  # manufacturer, model, attributes
    _blank(data, 80, _ICC_HEADER_BYTES)  # creator, identifier, reserved
    count = int.from_bytes(data[128:132], "big")
    used = [(0, _ICC_HEADER_BYTES + 4 + 12 * count)]
    if used[0][1] > len(data):
        return None
    for entry in range(_ICC_HEADER_BYTES + 4, used[0][1], 12):
        name = bytes(data[entry : entry + 4])
        offset = int.from_bytes(data[entry + 4 : entry + 8], "big")
        size = int.from_bytes(data[entry + 8 : entry + 12], "big")
        if offset + size > len(data):
            return None
        if name not in _ICC_COLOR_TAGS or bytes(data[offset : offset + 4]) in _ICC_TEXT_TYPES:
            _blank_icc_text(data, offset, size)
        used.append((offset, offset + size))
    position = 0
    for start, end in sorted(used):  # what no tag uses
        if start > position:
            _blank(data, position, start)
        position = max(position, end)
    _blank(data, position, len(data))
    return bytes(data)


def _blank_icc_text(data: bytearray, offset: int, size: int) -> None:
    """Leave an empty text of the same type and length."""
    kind = bytes(data[offset : offset + 4])
    if kind == b"mluc" and size >= 28:
        _blank(data, offset + 4, offset + 8)
        data[offset + 8 : offset + 28] = (
            (1).to_bytes(4, "big") + (12).to_bytes(4, "big") + b"enUS" + bytes(4) + (28).to_bytes(4, "big")
        )
        _blank(data, offset + 28, offset + size)
    elif kind == b"desc" and size >= 12:
        data[offset + 8 : offset + 12] = (1).to_bytes(4, "big")  # a terminating zero alone
        _blank(data, offset + 12, offset + size)
    else:
        _blank(data, offset + (8 if kind == b"text" else 0), offset + size)
