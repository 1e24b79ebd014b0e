"""New objects with some frames of others (PS3.4 Y.3.3, PS3.17 MM): pixels to the bit, and a header that fits."""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.utils import pack_bits

from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.request import FrameRequest
from tests.extraction import (
    EQUIPMENT,
    SOURCE_UID,
    calculated,
    encoded,
    extracted,
    extracted_bytes,
    frame_bytes,
    item,
    multi_frame,
    simple,
    time_range,
)
from tests.transcoding import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, SETTINGS

JPEG: Final = "1.2.840.10008.1.2.4.50"
RLE: Final = "1.2.840.10008.1.2.5"
MPEG4: Final = "1.2.840.10008.1.2.4.102"
COUNT: Final = 5


def made(request: FrameRequest, frames: int = COUNT, syntax: str = EXPLICIT, **attributes: Any) -> Dataset:
    """Extract from an object of six-byte frames with further attributes."""
    source = multi_frame(frame_bytes(range(1, frames + 1)), frames, **attributes)
    return extracted(encoded(source, syntax), syntax, request)


def cause(request: FrameRequest, **more: Any) -> Cause:
    with pytest.raises(ExtractionError) as caught:
        made(request, **more)
    assert str(caught.value)
    return caught.value.cause


# -- pixels


@given(
    count=st.integers(1, 6),
    rows=st.integers(1, 5),
    columns=st.integers(1, 7),
    bits=st.sampled_from([1, 8, 16, 32]),
    syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN]),
    is_word=st.booleans(),
    data=st.data(),
)
def test_native_frames_come_to_the_bit(
    count: int, rows: int, columns: int, bits: int, syntax: str, is_word: bool, data: st.DataObject
) -> None:
    """Bit-packed frames do not begin at bytes, frames of odd length not at words (PS3.5 8.1.1, D.2)."""
    wanted = sorted(data.draw(st.sets(st.integers(1, count), min_size=1)))
    pixels = np.frombuffer(data.draw(st.binary(min_size=4 * 6 * 35, max_size=4 * 6 * 35)), "<u4")
    values = [pixels[i * 35 : i * 35 + rows * columns] & ((1 << bits) - 1) for i in range(count)]

    def native(frames: list[Any]) -> bytes:
        flat = np.concatenate(frames)
        raw = pack_bits(flat.astype("u1")) if bits == 1 else flat.astype(f"<u{bits // 8}").tobytes()
        return raw + b"\0" * (len(raw) % 2)

    def stored(frames: list[Any]) -> bytes:
        raw = native(frames)
        if syntax != BIG_ENDIAN or vr == "OB":
            return raw
        return np.frombuffer(raw, f"<u{max(bits // 8, 2)}").astype(f">u{max(bits // 8, 2)}").tobytes()

    vr = "OW" if is_word or bits > 8 else "OB"
    if syntax == BIG_ENDIAN and bits == 32 and len(native(values)) % 4:
        return
    source = multi_frame(b"", count, bits=bits, rows=rows, columns=columns)
    source.add_new(0x7FE00010, vr, stored(values))
    new = extracted(encoded(source, syntax), syntax, simple(*wanted))
    assert new.NumberOfFrames == len(wanted)
    assert new.get_item(0x7FE00010).value == stored([values[number - 1] for number in wanted])


def test_float_pixel_data_are_pixel_data() -> None:
    values = np.arange(4 * 6, dtype="<f4")
    source = multi_frame(b"", 4, bits=32)
    del source.PixelData
    source.add_new(0x7FE00008, "OF", values.tobytes())
    new = extracted(encoded(source), EXPLICIT, simple(2, 4))
    assert new[0x7FE00008].VR == "OF"
    assert np.array_equal(np.frombuffer(new.FloatPixelData, "<f4"), np.concatenate([values[6:12], values[18:]]))
    source.BitsAllocated = 64
    del source.FloatPixelData
    source.add_new(0x7FE00009, "OD", values.astype("<f8").tobytes())
    new = extracted(encoded(source), EXPLICIT, simple(3))
    assert np.array_equal(np.frombuffer(new.DoubleFloatPixelData, "<f8"), values[12:18].astype("f8"))


def test_a_deflated_object_stays_deflated() -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    source = encoded(multi_frame(frame_bytes(range(1, 4)), 3))
    new = extracted(deflater.compress(source) + deflater.flush(), DEFLATED, simple(3))
    assert (new.NumberOfFrames, new.PixelData) == (1, frame_bytes([3]))


@pytest.mark.parametrize("has_table", [True, False])
@pytest.mark.parametrize("fragments", [1, 3])
def test_encapsulated_frames_keep_their_fragments_and_get_offsets(fragments: int, has_table: bool) -> None:
    codestreams = [b"\xff\xd8" + bytes([number]) * (20 + 2 * number) + b"\xff\xd9" for number in range(1, 6)]
    source = multi_frame(encapsulate(codestreams, fragments_per_frame=fragments, has_bot=has_table), 5)
    new = extracted(encoded(source, JPEG), JPEG, simple(2, 5))
    assert list(generate_frames(new.PixelData, number_of_frames=2)) == [codestreams[1], codestreams[4]]
    assert new.PixelData == encapsulate([codestreams[1], codestreams[4]], fragments_per_frame=fragments)
    (alone,) = generate_frames(extracted(encoded(source, JPEG), JPEG, simple(3)).PixelData, number_of_frames=1)
    assert alone == codestreams[2]


def test_an_extended_offset_table_is_made_anew() -> None:
    codestreams = [b"\xff\xd8" + bytes([number]) * (5 + number) + b"\xff\xd9" for number in range(1, 6)]
    source = multi_frame(b"", 5)
    source.PixelData, source.ExtendedOffsetTable, source.ExtendedOffsetTableLengths = encapsulate_extended(codestreams)
    source["PixelData"].VR = "OB"
    new = extracted(encoded(source, JPEG), JPEG, simple(1, 4))
    tables = new.ExtendedOffsetTable, new.ExtendedOffsetTableLengths
    frames = generate_frames(new.PixelData, number_of_frames=2, extended_offsets=tables)
    assert list(frames) == [codestreams[0], codestreams[3] + b"\0"]  # pydicom counts the padding
    assert (new.PixelData, *tables) == encapsulate_extended([codestreams[0], codestreams[3]])


def test_a_table_of_offsets_that_does_not_fit_is_not_passed_on() -> None:
    source = multi_frame(encapsulate([b"\1\2", b"\3\4"], has_bot=False), 2)
    source.ExtendedOffsetTable, source.ExtendedOffsetTableLengths = b"\7" * 16, b"\2" + b"\0" * 15
    new = extracted(encoded(source, RLE), RLE, simple(2))
    assert "ExtendedOffsetTable" not in new and "ExtendedOffsetTableLengths" not in new
    assert list(generate_frames(new.PixelData, number_of_frames=1)) == [b"\3\4"]


def test_frames_of_a_video_come_together_or_not_at_all() -> None:
    """PS3.17 MM.2.4."""
    source = encoded(multi_frame(encapsulate([b"\0\0\1\xb3 a stream "], has_bot=False), 30), MPEG4)
    with pytest.raises(ExtractionError, match="out of a stream") as caught:
        extracted(source, MPEG4, simple(1))
    assert caught.value.cause is Cause.FRAMES
    new = extracted(source, MPEG4, calculated(1, 0xFFFFFFFF, 1))
    assert new.NumberOfFrames == 30
    assert new.PixelData == encapsulate([b"\0\0\1\xb3 a stream "], has_bot=False)


def test_pixel_data_that_end_too_early_give_what_is_there() -> None:
    source = multi_frame(frame_bytes([1, 2, 3]), 5)
    assert extracted(encoded(source), EXPLICIT, simple(1, 3)).PixelData == frame_bytes([1, 3])
    with pytest.raises(ExtractionError, match="end before frame 4"):
        extracted(encoded(source), EXPLICIT, simple(3, 4))


def test_there_is_a_limit_to_what_is_written() -> None:
    with pytest.raises(ExtractionError) as caught:
        extracted_bytes(
            encoded(multi_frame(frame_bytes(range(1, 200)), 199)),
            EXPLICIT,
            calculated(1, 199, 1),
            settings=type(SETTINGS)(directory=SETTINGS.directory, output_bytes=1000),
        )
    assert caught.value.cause is Cause.RESOURCES


# -- header


def test_the_same_request_gives_the_same_object_and_another_one_another() -> None:
    source = encoded(multi_frame(frame_bytes(range(1, 6)), 5))
    first = extracted_bytes(source, EXPLICIT, simple(1, 2))
    assert extracted_bytes(source, EXPLICIT, simple(1, 2)) == first
    uids = {made(request).SOPInstanceUID for request in (simple(1, 2), simple(1), calculated(1, 2, 1))}
    assert len(uids) == 3
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_the_new_object_says_where_it_comes_from_and_who_made_it() -> None:
    """PS3.3 C.12.3 and C.12.1; the pixels are the original ones, and Image Type stays (PS3.4 Y.3.3)."""
    new = made(calculated(1, 5, 2), InstanceCreationDate="20200101", InstanceNumber="7")
    (step,) = new.FrameExtractionSequence
    assert step.MultiFrameSourceSOPInstanceUID == SOURCE_UID
    assert step.CalculatedFrameList == [1, 5, 2]
    (equipment,) = new.ContributingEquipmentSequence
    assert equipment.Manufacturer == "Production PACS"
    assert (equipment.StationName, equipment.SoftwareVersions) == (EQUIPMENT.station_name, EQUIPMENT.software_version)
    (purpose,) = equipment.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109105", "DCM")
    assert (new.SOPClassUID, new.SeriesInstanceUID, new.PatientID) == ("1.2.840.10008.5.1.4.1.1.7.2", "1.2.3.4", "P1")
    assert new.ImageType == ["ORIGINAL", "PRIMARY"]
    assert new.InstanceNumber == 7
    assert "InstanceCreationDate" not in new


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_earlier_extractions_and_equipment_are_kept(syntax: str) -> None:
    first = made(simple(1, 2, 4, 5), syntax=syntax, ContributingEquipmentSequence=[item(Manufacturer="SOMEBODY")])
    second = extracted(encoded(first, syntax), syntax, simple(3))
    sources = [step.MultiFrameSourceSOPInstanceUID for step in second.FrameExtractionSequence]
    assert sources == [SOURCE_UID, first.SOPInstanceUID]
    lists = [step.get("SimpleFrameList") for step in second.FrameExtractionSequence]
    assert lists == [[1, 2, 4, 5], 3]
    assert [e.Manufacturer for e in second.ContributingEquipmentSequence] == [
        "SOMEBODY",
        "Production PACS",
        "Production PACS",
    ]
    assert second.PixelData == frame_bytes([4])
    assert second.SOPInstanceUID not in (SOURCE_UID, first.SOPInstanceUID)


def test_it_is_in_no_concatenation_and_has_nothing_private_and_no_signature() -> None:
    source = multi_frame(
        frame_bytes(range(1, 4)),
        3,
        ConcatenationUID="1.2.9",
        SOPInstanceUIDOfConcatenationSource="1.2.8",
        InConcatenationNumber=1,
        InConcatenationTotalNumber=2,
        ConcatenationFrameOffsetNumber=3,
        PixelDataProviderURL="http://nowhere/",
        DigitalSignaturesSequence=[item(MACIDNumber=1)],
        SharedFunctionalGroupsSequence=[item(PixelMeasuresSequence=[item(SliceThickness="2")])],
    )
    source.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "SQ", [item(PatientName="X")])
    source.SharedFunctionalGroupsSequence[0].private_block(0x0021, "OTHER", create=True).add_new(1, "LO", "frame 1")
    new = extracted(encoded(source), EXPLICIT, calculated(1, 3, 1))
    tags = [element.tag for element in new.iterall()]
    assert not any(tag.is_private for tag in tags)
    assert new.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2
    assert [keyword for keyword in source.dir() if keyword not in new] == [
        "ConcatenationFrameOffsetNumber",
        "ConcatenationUID",
        "DigitalSignaturesSequence",
        "InConcatenationNumber",
        "InConcatenationTotalNumber",
        "PixelDataProviderURL",
        "SOPInstanceUIDOfConcatenationSource",
    ]


def test_functional_groups_are_cut() -> None:
    groups = [item(FrameContentSequence=[item(DimensionIndexValues=[1, n])]) for n in range(1, 6)]
    new = made(simple(2, 5), PerFrameFunctionalGroupsSequence=groups)
    kept = [group.FrameContentSequence[0].DimensionIndexValues for group in new.PerFrameFunctionalGroupsSequence]
    assert kept == [[1, 2], [1, 5]]
    assert cause(simple(1), PerFrameFunctionalGroupsSequence=groups[:3]) is Cause.FRAMES
    assert len(made(calculated(1, 5, 1), PerFrameFunctionalGroupsSequence=groups).PerFrameFunctionalGroupsSequence) == 5


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_vectors_are_cut(syntax: str) -> None:
    """Those that Frame Increment Pointer names, and those that are known (PS3.17 MM.2.7)."""
    new = made(
        simple(1, 4),
        syntax=syntax,
        FrameIncrementPointer=[0x00540010, 0x00540020],
        EnergyWindowVector=[1, 1, 2, 2, 3],
        DetectorVector=[1, 2, 300, 400, 5],
        SliceLocationVector=["1.5", "2.5", "3.5", "4.5", "5.5"],
        FrameLabelVector=["A", "B"],
        ImageComments="first\\last",
    )
    assert (new.EnergyWindowVector, new.DetectorVector) == ([1, 2], [1, 400])
    assert new.SliceLocationVector == [1.5, 4.5]
    assert new.FrameLabelVector == ["A", "B"]  # not one for each frame: nobody knows what it says
    assert cause(simple(1), FrameIncrementPointer=[0x00540010], EnergyWindowVector=[1, 2]) is Cause.FRAMES


def test_numbers_of_frames_are_the_new_ones() -> None:
    new = made(
        simple(2, 4, 5),
        RepresentativeFrameNumber=4,
        FrameNumbersOfInterest=[1, 2, 5],
        FrameOfInterestDescription=["one", "two", "five"],
        RWavePointer=[1, 3],
        StartTrim=1,
        StopTrim=5,
        RecommendedViewingMode="SUB",
        MaskSubtractionSequence=[item(MaskOperation="AVG_SUB", MaskFrameNumbers=1)],
    )
    assert new.RepresentativeFrameNumber == 2
    assert (new.FrameNumbersOfInterest, new.FrameOfInterestDescription) == ([1, 3], ["two", "five"])
    assert not {"RWavePointer", "StartTrim", "StopTrim", "MaskSubtractionSequence"} & set(new.dir())
    assert new.RecommendedViewingMode == "NAT"


def test_all_frames_keep_what_speaks_of_frames() -> None:
    new = made(calculated(1, 5, 1), StartTrim=2, FrameTime="40", FrameIncrementPointer=0x00181063, RWavePointer=[1, 3])
    assert (new.StartTrim, new.FrameTime, new.RWavePointer) == (2, 40, [1, 3])


def test_tiles_whose_positions_are_implied_can_not_be_cut() -> None:
    assert cause(simple(1), DimensionOrganizationType="TILED_FULL") is Cause.SOP_CLASS
    assert made(calculated(1, 9, 1), DimensionOrganizationType="TILED_FULL").NumberOfFrames == COUNT


def test_overlays_of_several_frames_are_cut() -> None:
    """PS3.3 C.9.3: planes 1 to 3 are for the frames 2 to 4; a plane has 6 bits."""
    planes = np.array([[1, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 1]], "u1")
    source = multi_frame(frame_bytes(range(1, 6)), 5)
    for group, frames in ((0x6000, 3), (0x6002, 1), (0x6004, None)):
        source.add_new(group << 16 | 0x0010, "US", 2)
        source.add_new(group << 16 | 0x0011, "US", 3)
        if frames is not None:
            source.add_new(group << 16 | 0x0015, "IS", str(frames))
            source.add_new(group << 16 | 0x0051, "US", 2)
        source.add_new(group << 16 | 0x3000, "OW", pack_bits(planes[: frames or 1].ravel()))
    new = extracted(encoded(source), EXPLICIT, simple(1, 3, 4, 5))
    assert (new[0x60000015].value, new[0x60000051].value) == (2, 2)
    assert new[0x60003000].value == pack_bits(planes[1:].ravel())
    assert 0x60020010 not in new and 0x60023000 not in new  # it was for frame 2
    assert new[0x60043000].value == pack_bits(planes[0])  # for all of them


# -- times


def test_frames_at_equal_distances_have_a_longer_frame_time() -> None:
    """PS3.17 MM.2.2 and MM.2.3."""
    timed: dict[str, Any] = {"FrameTime": "33.333", "FrameIncrementPointer": 0x00181063, "FrameDelay": "10"}
    times: dict[str, Any] = {"ContentDate": "20201231", "ContentTime": "235959.980", "AcquisitionTime": "101112"}
    new = made(calculated(2, 5, 2), **timed, **times, AcquisitionDateTime="20201231101112+0100")
    assert (new.FrameTime, new.FrameIncrementPointer) == (66.666, 0x00181063)
    assert (new.ContentDate, new.ContentTime) == ("20210101", "000000.013333")
    assert (new.AcquisitionTime, new.AcquisitionDateTime) == ("101112.033333", "20201231101112.033333+0100")
    new = made(simple(1, 2, 3), **timed, **times)
    assert (new.FrameTime, new.ContentTime, new.ContentDate) == (33.333, "235959.980", "20201231")


def test_frames_at_unequal_distances_get_a_vector() -> None:
    new = made(simple(1, 2, 5), FrameTime="40", FrameIncrementPointer=0x00181063)
    assert "FrameTime" not in new
    assert (new.FrameTimeVector, new.FrameIncrementPointer) == ([0, 40, 120], 0x00181065)


def test_a_frame_time_vector_has_the_distances_of_what_is_left() -> None:
    vector: dict[str, Any] = {"FrameTimeVector": ["0", "10", "20", "30", "40"], "FrameIncrementPointer": 0x00181065}
    assert made(simple(2, 4, 5), **vector).FrameTimeVector == [0, 50, 40]
    assert cause(simple(1), **{**vector, "FrameTimeVector": ["0", "10"]}) is Cause.FRAMES


def test_time_range_by_frame_time_vector_and_delay() -> None:
    """Times count from the Content Time, the delay included (PS3.4 Y.3.2.1.3, PS3.3 C.7.6.5)."""
    vector: dict[str, Any] = {
        "FrameTimeVector": ["0", "100", "200", "300", "400"],  # 0.5, 0.6, 0.8, 1.1, 1.5 s
        "FrameIncrementPointer": 0x00181065,
        "FrameDelay": "500",
    }
    new = made(time_range(0.6, 1.1), **vector)
    assert new.get_item(0x7FE00010).value == frame_bytes([2, 3, 4])
    assert new.FrameExtractionSequence[0].TimeRange == [0.6, 1.1]
    assert cause(time_range(0.0, 0.4), **vector) is Cause.NO_SUCH_FRAMES


@pytest.mark.parametrize(
    ("moments", "more", "expected"),
    [
        (["20200101235959.5", "20200102000000.25", "20200102000001"], {}, [2, 3]),
        (["20200101225959.5+0000", "20200101230000.25+0000", "20200101230001+0000"], {"zone": "+0100"}, [2, 3]),
        (["20200101235959.5", "garbage", "20200102000001"], {}, None),
        (["20200101235959.5", "20200102000000.25", "20200102000001"], {"without": "ContentTime"}, None),
    ],
)
def test_time_range_by_frame_reference_datetime(
    moments: list[str], more: dict[str, str], expected: list[int] | None
) -> None:
    source = multi_frame(frame_bytes(range(1, 4)), 3, ContentDate="20200101", ContentTime="235959")
    source.PerFrameFunctionalGroupsSequence = [
        item(FrameContentSequence=[item(FrameReferenceDateTime=moment)]) for moment in moments
    ]
    if "zone" in more:
        source.TimezoneOffsetFromUTC = more["zone"]
    if "without" in more:
        delattr(source, more["without"])
    if expected is None:
        with pytest.raises(ExtractionError) as caught:
            extracted(encoded(source), EXPLICIT, time_range(1.0, 2.0))
        assert caught.value.cause is Cause.NOT_TIMED
        return
    new = extracted(encoded(source), EXPLICIT, time_range(1.0, 2.0))
    assert new.get_item(0x7FE00010).value == frame_bytes(expected)
    assert new.ContentTime == "235959.750000"


# -- doses


def test_the_planes_of_a_dose_stay_where_they_were() -> None:
    """PS3.3 C.8.8.3.2: offsets from the position, or positions."""
    grid: dict[str, Any] = {
        "FrameIncrementPointer": 0x3004000C,
        "ImagePositionPatient": ["10", "20", "30"],
        "ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"],  # the normal is +y
        "GridFrameOffsetVector": ["0", "2.5", "5", "7.5", "10"],
    }
    new = made(simple(3, 5), **grid)
    assert (new.ImagePositionPatient, new.GridFrameOffsetVector) == ([10, 25, 30], [0, 5])
    new = made(simple(1, 5), **grid)
    assert (new.ImagePositionPatient, new.GridFrameOffsetVector) == ([10, 20, 30], [0, 10])
    absolute = {**grid, "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"]}
    new = made(simple(2), **{**absolute, "GridFrameOffsetVector": ["30", "32.5", "35", "37.5", "40"]})
    assert (new.ImagePositionPatient, new.GridFrameOffsetVector) == ([10, 20, 32.5], 32.5)


# -- what is no source


def test_what_is_no_multi_frame_image_gives_no_frames() -> None:
    source = multi_frame(frame_bytes([1]), 1)
    del source.NumberOfFrames
    for data_set in (encoded(source), encoded(item(SOPInstanceUID="1.2", NumberOfFrames="3"))):
        with pytest.raises(ExtractionError) as caught:
            extracted(data_set, EXPLICIT, simple(1))
        assert caught.value.cause is Cause.SOP_CLASS


@given(st.binary(max_size=300), st.integers(0, 200))
def test_garbage_is_an_error_and_nothing_else(garbage: bytes, at: int) -> None:
    source = encoded(multi_frame(frame_bytes(range(1, 4)), 3, FrameTime="4", FrameIncrementPointer=0x00181063))
    try:
        extracted_bytes(source[:at] + garbage + source[at + len(garbage) :], EXPLICIT, simple(2))
    except ExtractionError as error:
        assert str(error)
