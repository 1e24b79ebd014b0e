"""
Every real file of pydicom and pydicom-data in every transfer syntax that can be made of it: pixels and elements equal.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import jpeg_ls  # type: ignore[import-untyped]
import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.syntaxes import (
    COMPRESSED,
    ENCAPSULATED_UNCOMPRESSED,
    GE_PRIVATE,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    targets,
)
from tests.dicom import element
from tests.samples import Sample, samples
from tests.server import run_tool
from tests.transcoding import (
    BIG_ENDIAN,
    CHANGED_BY_DECODING,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    PIXEL_DATA,
    SETTINGS,
    as_read,
    differences,
    transcoded,
)

UNCOMPRESSED: Final = (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN)
LARGE_BYTES: Final = 400_000  # of these one target must do
NOT_DECODABLE: Final = {"JPEG2000-embedded-sequence-delimiter.dcm": "its codestream is damaged, no decoder reads it"}
NOT_BY_PYDICOM: Final = ("JPEG-lossy.dcm", "JPGExtended.dcm")  # 12 bits: only by a plugin under the GPL
PLUGINS: Final = {"J2K_pixelrep_mismatch.dcm": "pylibjpeg"}  # GDCM's answer can't be corrected by pydicom

plain_files = [sample for sample in samples() if sample.transfer_syntax_uid in UNCOMPRESSED]
compressed_files = [sample for sample in samples() if sample.transfer_syntax_uid in COMPRESSED]


def name(sample: Sample) -> str:
    return sample.path.name


def pixels(data_set: Dataset, plugin: str = "") -> Any:
    """Give the pixels, or None where pydicom can't."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pixel_array(data_set, decoding_plugin=plugin)
        except Exception:  # noqa: BLE001 - some files have no pixels, or none that are right
            return None


def encoded(data_set: Dataset, transfer_syntax: str) -> bytes:
    """Give a data set's bytes as pydicom writes them."""
    out = io.BytesIO()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        syntax = data_set.file_meta.TransferSyntaxUID
        pydicom.dcmwrite(
            out,
            data_set,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            force_encoding=True,
        )
    written = out.getvalue()
    return written[written.index(transfer_syntax.encode()) + len(transfer_syntax) + len(transfer_syntax) % 2 :]


def image(**attributes: Any) -> Dataset:
    """Give a data set of a small gray image, without its pixels."""
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows, data_set.Columns = 4, 6
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 16, 15, 0
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return data_set


@pytest.mark.parametrize("sample", plain_files, ids=name)
def test_an_uncompressed_file_is_the_same_in_every_other_encoding(sample: Sample) -> None:
    source = sample.transfer_syntax_uid
    for target in targets(source):
        original, read = as_read(sample.data_set, source), as_read(transcoded(sample.data_set, source, target), target)
        assert differences(original, read, but=frozenset((PIXEL_DATA,))) == []
        expected = pixels(original)
        if expected is not None and len(sample.data_set) < LARGE_BYTES:
            assert np.array_equal(expected, pixels(read))
        else:
            assert (PIXEL_DATA in original) == (PIXEL_DATA in read)


@pytest.mark.parametrize("sample", plain_files, ids=name)
def test_an_encoding_and_back_gives_the_same_bytes_again(sample: Sample) -> None:
    """What our own writer has written once is stable: nothing is lost on the way to any encoding with VRs and back."""
    source = sample.transfer_syntax_uid
    once = sample.data_set if source == EXPLICIT else transcoded(sample.data_set, source, EXPLICIT)
    first = transcoded(transcoded(once, EXPLICIT, DEFLATED), DEFLATED, EXPLICIT)
    assert transcoded(transcoded(first, EXPLICIT, BIG_ENDIAN), BIG_ENDIAN, EXPLICIT) == first
    assert transcoded(transcoded(first, EXPLICIT, DEFLATED), DEFLATED, EXPLICIT) == first


@pytest.mark.parametrize("sample", [s for s in compressed_files if s.path.name not in NOT_DECODABLE], ids=name)
def test_a_compressed_file_has_the_pixels_that_pydicom_decodes(sample: Sample, tmp_path: Path) -> None:
    source = sample.transfer_syntax_uid
    original = as_read(sample.data_set, source)
    if sample.path.name in NOT_BY_PYDICOM:
        run_tool("dcmdjpeg", str(sample.path), str(tmp_path / "decoded.dcm"))
        expected = pixels(pydicom.dcmread(tmp_path / "decoded.dcm"))
    else:
        expected = pixels(original, PLUGINS.get(sample.path.name, ""))
    assert expected is not None
    for target in UNCOMPRESSED if expected.nbytes < LARGE_BYTES else UNCOMPRESSED[:1]:
        read = as_read(transcoded(sample.data_set, source, target), target)
        assert differences(original, read, but=CHANGED_BY_DECODING) == []
        assert np.array_equal(pixels(read), expected)
        assert read.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB")
        assert read.get("PlanarConfiguration") == (0 if read.SamplesPerPixel > 1 else None)
        expected_vr = "OW" if read.BitsAllocated > 8 or target == IMPLICIT else "OB"
        assert str(read[PIXEL_DATA].VR) == expected_vr


@pytest.mark.parametrize("sample", [s for s in compressed_files if s.path.name in NOT_DECODABLE], ids=name)
def test_a_damaged_codestream_is_refused_with_a_reason(sample: Sample) -> None:
    with pytest.raises(TranscodingError, match="the first frame can't be decoded"):
        transcoded(sample.data_set, sample.transfer_syntax_uid, EXPLICIT)


# -- what real files do not have


def test_encapsulated_uncompressed_pixels_are_unwrapped() -> None:
    frames = [bytes(range(48)), bytes(range(100, 148))]
    data_set = image(NumberOfFrames=2, PixelData=encapsulate(frames))
    data_set["PixelData"].VR, data_set["PixelData"].is_undefined_length = "OB", True
    data = encoded(data_set, ENCAPSULATED_UNCOMPRESSED)
    assert as_read(transcoded(data, ENCAPSULATED_UNCOMPRESSED, EXPLICIT), EXPLICIT).PixelData == b"".join(frames)
    big = as_read(transcoded(data, ENCAPSULATED_UNCOMPRESSED, BIG_ENDIAN), BIG_ENDIAN)
    assert np.array_equal(big.pixel_array.ravel(), np.frombuffer(b"".join(frames), "<u2"))


def test_big_endian_pixels_of_ge_are_turned() -> None:
    words = np.arange(24, dtype=">u2")
    data = encoded(image(PixelData=words.tobytes()), IMPLICIT)
    read = as_read(transcoded(data, GE_PRIVATE, EXPLICIT), EXPLICIT)
    assert (read.Rows, read.pixel_array.ravel().tolist()) == (4, words.tolist())


def rle(frame: bytes) -> bytes:
    """Give a frame of 16-bit words as RLE Lossless (PS3.5 G)."""
    segments = []
    for plane in (frame[1::2], frame[0::2]):
        assert len(plane) <= 128
        segment = bytes((len(plane) - 1,)) + plane
        segments.append(segment + bytes(len(segment) % 2))
    return struct.pack("<16L", 2, 64, 64 + len(segments[0]), *[0] * 13) + b"".join(segments)


FRAMES: Final = [bytes(range(48)), bytes(range(50, 98)), bytes(range(150, 198))]


def compressed(count: int, **attributes: Any) -> Dataset:
    data_set = image(PixelData=encapsulate([rle(frame) for frame in FRAMES[:count]]), **attributes)
    data_set["PixelData"].is_undefined_length = True
    return data_set


def test_extended_offset_tables_are_used_and_left_out() -> None:
    data_set = compressed(3, NumberOfFrames=3)
    data_set.PixelData, data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths = encapsulate_extended(
        [rle(frame) for frame in FRAMES]
    )
    data_set["PixelData"].is_undefined_length = True
    read = as_read(transcoded(encoded(data_set, RLE_LOSSLESS), RLE_LOSSLESS, EXPLICIT), EXPLICIT)
    assert "ExtendedOffsetTable" not in read and "ExtendedOffsetTableLengths" not in read
    assert read.PixelData == b"".join(FRAMES)


def test_an_icon_is_decoded_or_copied() -> None:
    data_set = compressed(2, NumberOfFrames=2)
    data_set.IconImageSequence = [compressed(1), image(PixelData=FRAMES[2])]
    data_set.IconImageSequence[1]["PixelData"].VR = "OW"
    read = as_read(transcoded(encoded(data_set, RLE_LOSSLESS), RLE_LOSSLESS, EXPLICIT), EXPLICIT)
    assert [item.PixelData for item in read.IconImageSequence] == [FRAMES[0], FRAMES[2]]
    assert read.PixelData == FRAMES[0] + FRAMES[1]


@pytest.mark.parametrize("transfer_syntax", [JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS])
@pytest.mark.parametrize(("bits_allocated", "bits_stored"), [(16, 8), (16, 7), (32, 12)])
def test_a_codestream_of_few_bits_fills_the_cells_that_are_allocated(
    transfer_syntax: str, bits_allocated: int, bits_stored: int
) -> None:
    """Bits Stored is the codestream's precision, Bits Allocated may be more (PS3.5 8.2.3, 8.2.4)."""
    frames = np.arange(2 * 64 * 64).reshape(2, 64, 64) % (1 << bits_stored)
    coded = frames.astype("u1" if bits_stored <= 8 else "u2")
    codestreams = [
        bytes(encode_array(frame, bits_stored=bits_stored))
        if transfer_syntax == JPEG_2000_LOSSLESS
        else bytes(jpeg_ls.encode_array(frame))
        for frame in coded
    ]
    data_set = image(
        NumberOfFrames=2,
        Rows=64,
        Columns=64,
        BitsAllocated=bits_allocated,
        BitsStored=bits_stored,
        HighBit=bits_stored - 1,
        PixelData=encapsulate(codestreams),
    )
    data_set["PixelData"].is_undefined_length = True
    data = encoded(data_set, transfer_syntax)
    for target in UNCOMPRESSED:
        read = as_read(transcoded(data, transfer_syntax, target), target)
        assert (read.BitsAllocated, read.BitsStored) == (bits_allocated, bits_stored)
        assert np.array_equal(read.pixel_array, frames)


def test_missing_frames_are_an_error() -> None:
    data = encoded(compressed(2, NumberOfFrames=3), RLE_LOSSLESS)
    with pytest.raises(TranscodingError, match=r"frame 3 of 3|the first frame"):
        transcoded(data, RLE_LOSSLESS, EXPLICIT)


def test_pixels_without_rows_are_an_error() -> None:
    data_set = compressed(1)
    del data_set.Rows
    with pytest.raises(TranscodingError, match="without Rows, Columns and Bits Allocated"):
        transcoded(encoded(data_set, RLE_LOSSLESS), RLE_LOSSLESS, EXPLICIT)


def test_a_huge_frame_is_refused_before_it_is_decoded() -> None:
    data = encoded(compressed(1, Rows=65535, Columns=65535), RLE_LOSSLESS)
    with pytest.raises(TranscodingError, match="too large to be decoded"):
        transcoded(data, RLE_LOSSLESS, EXPLICIT)


def test_fragments_in_a_transfer_syntax_without_compression_are_an_error() -> None:
    data = encoded(compressed(1), RLE_LOSSLESS)
    with pytest.raises(TranscodingError, match="the transfer syntax says that they are not"):
        transcoded(data, EXPLICIT, IMPLICIT)


def test_video_can_not_be_transcoded() -> None:
    assert targets("1.2.840.10008.1.2.4.102") == ()
    with pytest.raises(TranscodingError, match="can't be given"):
        transcoded(b"", "1.2.840.10008.1.2.4.102", EXPLICIT)


def test_odd_lengths_are_padded_group_lengths_left_out_and_too_long_values_become_un() -> None:
    text = b"\\".join([b"1.5"] * 20_000)
    data = b"".join(
        struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
        for tag, value in (
            (0x00080000, struct.pack("<L", 100)),
            (0x00080018, b"1.2.3"),
            (0x00100010, b"A^B"),
            (0x300A0214, text),
        )
    )
    out = transcoded(data, IMPLICIT, EXPLICIT)
    padded = text + b" " * (len(text) % 2)
    assert out == (
        element(0x00080018, "UI", b"1.2.3\0")
        + element(0x00100010, "PN", b"A^B ")
        + struct.pack("<HH2sxxL", 0x300A, 0x0214, b"UN", len(padded))
        + padded
    )


def test_a_deflate_bomb_is_refused() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = element(0x00080018, "UI", b"1.2") + struct.pack("<HH2sxxL", 0x7FE0, 0x10, b"OB", 200_000_000)
    bomb = (
        deflater.compress(head) + b"".join(deflater.compress(bytes(1_000_000)) for _ in range(200)) + deflater.flush()
    )
    with pytest.raises(TranscodingError, match="more than 100 times"):
        transcoded(bomb, DEFLATED, EXPLICIT)


def test_output_is_limited() -> None:
    data = element(0x00080018, "UI", b"1.2.3\0") * 1000
    with pytest.raises(TranscodingError, match="longer than 5000 bytes"):
        transcoded(data, EXPLICIT, IMPLICIT, replace(SETTINGS, output_bytes=5000))


@pytest.mark.parametrize(
    "sample", [s for s in samples() if s.path.name in ("MR_small_RLE.dcm", "CT_small.dcm")], ids=name
)
def test_a_truncated_file_is_an_error(sample: Sample) -> None:
    source = sample.transfer_syntax_uid
    for length in (4, 201, len(sample.data_set) // 2, len(sample.data_set) - 10):
        with pytest.raises(TranscodingError):
            transcoded(sample.data_set[:length], source, IMPLICIT)
