"""
Retrieval at the FRAME level of the Composite Instance Root (PS3.4 annex Y), by pynetdicom from the real server: every
real multi-frame file, every failure, and large objects.
"""

from __future__ import annotations

import os
import signal
import struct
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pynetdicom import AE, build_role, evt

from tests.audit import records, wait_for_record
from tests.conftest import MakeServer
from tests.dicom import Client, ct_data_set, element
from tests.extraction import encoded, frame_bytes, item, multi_frame
from tests.retrieve import Requester, final, pynetdicom_scp
from tests.samples import Sample, samples
from tests.server import AE_TITLE, Server, free_port
from tests.transcoding import BIG_ENDIAN, EXPLICIT, as_read

GET: Final = "1.2.840.10008.5.1.4.1.2.4.3"
MOVE: Final = "1.2.840.10008.5.1.4.1.2.4.2"
BYTE_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7.2"
ENHANCED_CT: Final = "1.2.840.10008.5.1.4.1.1.2.1"
MPEG4: Final = "1.2.840.10008.1.2.4.102"
TO_THE_END: Final = 0xFFFFFFFF
MB: Final = 1 << 20
MEMORY_KIB: Final = 150_000
UNDECODABLE: Final = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "its codestream is damaged",
}
NO_NUMBER: Final = "badVR.dcm"  # Number of Frames is "1A"
LISTS: Final = {
    "SimpleFrameList": (0x00081161, "UL", "L"),
    "CalculatedFrameList": (0x00081162, "UL", "L"),
    "TimeRange": (0x00081163, "FD", "d"),
}


def has_frames(sample: Sample) -> bool:
    read = as_read(sample.data_set, sample.transfer_syntax_uid)
    return "NumberOfFrames" in read and "PixelData" in read


FILES: Final = [sample for sample in samples() if has_frames(sample)]
REAL: Final = [sample for sample in FILES if sample.path.name != NO_NUMBER]


def query(uid: str | list[str], **keys: Any) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = "FRAME"
    made.SOPInstanceUID = uid
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


@contextmanager
def association(
    server: Server, received: dict[str, bytes], *contexts: tuple[str, str], model_syntax: str = EXPLICIT
) -> Iterator[Any]:
    """Associate with pynetdicom, to get objects; their data sets go to `received` by SOP Instance UID."""

    def keep(event: Any) -> int:
        received[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return 0

    entity = AE()
    for model in (GET, MOVE):
        entity.add_requested_context(model, model_syntax)
    for sop_class, transfer_syntax in contexts:
        entity.add_requested_context(sop_class, transfer_syntax)
    made = entity.associate(
        "127.0.0.1", server.port, ae_title=AE_TITLE, evt_handlers=[(evt.EVT_C_STORE, keep)],
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in {kind[0] for kind in contexts}],
    )  # fmt: skip
    assert made.is_established
    yield made
    made.release()


def get(server: Server, what: Dataset, *contexts: tuple[str, str], **more: Any) -> tuple[Any, dict[str, bytes]]:
    """Give the final response, and what came."""
    received: dict[str, bytes] = {}
    with association(server, received, *contexts, **more) as made:
        responses = [status for status, _ in made.send_c_get(what, GET)]
    return responses[-1], received


def frames_of(data_set: bytes, transfer_syntax: str) -> tuple[Dataset, Any]:
    """Give a data set, and its frames as pydicom decodes them."""
    read = as_read(data_set, transfer_syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = pixel_array(read)
    return read, pixels if int(read.NumberOfFrames) > 1 else pixels[np.newaxis]


def store(server: Server, data_set: bytes, uid: str, sop_class: str, transfer_syntax: str = EXPLICIT) -> None:
    with Client(server.port, (sop_class, transfer_syntax)) as client:
        assert client.store(data_set, uid, sop_class_uid=sop_class).status == 0


def store_made(server: Server, made: Dataset, transfer_syntax: str = EXPLICIT) -> str:
    uid = str(made.SOPInstanceUID)
    store(server, encoded(made, transfer_syntax), uid, str(made.SOPClassUID), transfer_syntax)
    return uid


def workers(server: Server) -> list[int]:
    """Give the server's extraction processes."""
    found = []
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"pacs.extraction" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def destination() -> int:
    """Give the port of DEST."""
    return free_port()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, destination: int) -> Iterator[Server]:
    """Give a server to which files are stored as they are needed, of one UID the last."""
    nodes = [{"ae_title": "DEST", "host": "127.0.0.1", "port": destination}]
    server = Server(tmp_path_factory.mktemp("frames"), {"server": {"remote_nodes": nodes}})
    server.start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def timed(shared: Server) -> str:
    """Give an object of five frames, 40 ms apart."""
    made = multi_frame(frame_bytes(range(1, 6)), 5, FrameTime="40", FrameIncrementPointer=0x00181063)
    made.SOPInstanceUID, made.ContentTime = "1.2.500.1", "120000"
    return store_made(shared, made)


# -- real files


@pytest.mark.parametrize("sample", REAL, ids=[sample.path.name for sample in REAL])
def test_frames_of_every_real_file_are_those_of_the_original(shared: Server, sample: Sample) -> None:
    """In the stored transfer syntax: all, the last, every other one, and some of which not all are there."""
    store(shared, sample.data_set, sample.sop_instance_uid, sample.sop_class_uid, sample.transfer_syntax_uid)
    kind = sample.sop_class_uid, sample.transfer_syntax_uid
    source = as_read(sample.data_set, sample.transfer_syntax_uid)
    count = int(source.NumberOfFrames)
    original = None
    if sample.path.name not in UNDECODABLE:
        source, original = frames_of(sample.data_set, sample.transfer_syntax_uid)
    for key, value, expected in (
        ("CalculatedFrameList", [1, TO_THE_END, 1], list(range(1, count + 1))),
        ("SimpleFrameList", [count], [count]),
        ("CalculatedFrameList", [1, count, 2], list(range(1, count + 1, 2))),
        ("SimpleFrameList", [1, count + 1, count + 7], [1]),
    ):
        status, received = get(shared, query(sample.sop_instance_uid, **{key: value}), kind)
        assert status.Status == 0, status
        assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (1, 0)
        ((uid, data_set),) = received.items()
        new = as_read(data_set, sample.transfer_syntax_uid)
        assert new.SOPInstanceUID == uid != sample.sop_instance_uid
        assert new.SOPClassUID == sample.sop_class_uid
        assert new.NumberOfFrames == len(expected)
        (step,) = new.FrameExtractionSequence
        assert step.MultiFrameSourceSOPInstanceUID == sample.sop_instance_uid
        assert step[key].value == (value if len(value) > 1 else value[0])
        for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "ImageType", "InstanceNumber"):
            assert new.get(keyword) == source.get(keyword)
        if "PerFrameFunctionalGroupsSequence" in source:
            groups = source.PerFrameFunctionalGroupsSequence
            assert len(new.PerFrameFunctionalGroupsSequence) == len(expected)
            for group, number in zip(new.PerFrameFunctionalGroupsSequence, expected, strict=True):
                for element_ in group:
                    assert element_ == groups[number - 1][element_.tag]
        if original is not None:
            _, pixels = frames_of(data_set, sample.transfer_syntax_uid)
            assert np.array_equal(pixels, original[[number - 1 for number in expected]])


def test_frames_come_transcoded_where_the_stored_syntax_is_not_taken(shared: Server) -> None:
    (sample,) = [sample for sample in REAL if sample.path.name == "emri_small_jpeg_2k_lossless.dcm"]
    store(shared, sample.data_set, sample.sop_instance_uid, sample.sop_class_uid, sample.transfer_syntax_uid)
    _, original = frames_of(sample.data_set, sample.transfer_syntax_uid)
    for syntax in (EXPLICIT, BIG_ENDIAN):
        status, received = get(
            shared, query(sample.sop_instance_uid, SimpleFrameList=[2, 9]), (sample.sop_class_uid, syntax)
        )
        assert status.Status == 0
        (data_set,) = received.values()
        assert np.array_equal(frames_of(data_set, syntax)[1], original[[1, 8]])


@pytest.mark.parametrize("model_syntax", [EXPLICIT, BIG_ENDIAN, "1.2.840.10008.1.2"])
def test_a_range_of_times(shared: Server, model_syntax: str) -> None:
    """33.333 ms a frame: frames 31 to 61 are between 1 and 2 seconds; the new object begins a second later."""
    (sample,) = [sample for sample in REAL if sample.path.name == "color3d_jpeg_baseline.dcm"]
    kind = sample.sop_class_uid, sample.transfer_syntax_uid
    store(shared, sample.data_set, sample.sop_instance_uid, *kind)
    what = query(sample.sop_instance_uid, TimeRange=[1.0 - 0.00001, 2.0])
    status, received = get(shared, what, kind, model_syntax=model_syntax)
    assert status.Status == 0, status
    (data_set,) = received.values()
    new, pixels = frames_of(data_set, sample.transfer_syntax_uid)
    _, original = frames_of(sample.data_set, sample.transfer_syntax_uid)
    assert np.array_equal(pixels, original[30:61])
    assert (new.FrameTime, new.ContentTime) == (33.333, "121535.999990")
    assert new.FrameExtractionSequence[0].TimeRange == [1.0 - 0.00001, 2.0]


def test_the_same_request_gives_the_same_bytes(shared: Server, timed: str) -> None:
    what = query(timed, CalculatedFrameList=[1, 5, 3])
    first, second = (get(shared, what, (BYTE_SECONDARY_CAPTURE, EXPLICIT))[1] for _ in range(2))
    assert len(first) == 1
    assert first == second


def test_an_extracted_object_is_stored_and_extracted_from_again(shared: Server, timed: str) -> None:
    """The Frame Extraction Sequence keeps the items before (PS3.3 C.12.3)."""
    kind = BYTE_SECONDARY_CAPTURE, EXPLICIT
    _, received = get(shared, query(timed, SimpleFrameList=[2, 3, 5]), kind)
    ((uid, data_set),) = received.items()
    store(shared, data_set, uid, BYTE_SECONDARY_CAPTURE)
    status, received = get(shared, query(uid, TimeRange=[0.04, 0.12]), kind)
    assert status.Status == 0
    (data_set,) = received.values()
    new = as_read(data_set, EXPLICIT)
    assert new.PixelData == frame_bytes([3, 5])
    assert (new.FrameTimeVector, new.ContentTime) == ([0, 80], "120000.080000")
    steps = [(step.MultiFrameSourceSOPInstanceUID, step.get("SimpleFrameList")) for step in new.FrameExtractionSequence]
    assert steps == [(timed, [2, 3, 5]), (uid, None)]
    assert len(new.ContributingEquipmentSequence) == 2


# -- C-MOVE


def test_a_move_sends_the_frames_to_the_destination(shared: Server, destination: int, timed: str) -> None:
    received: list[Dataset] = []

    def keep(event: Any) -> int:
        received.append(event.dataset)
        return 0

    before = len(records(shared, "110104"))
    with (
        pynetdicom_scp(destination, keep, BYTE_SECONDARY_CAPTURE),
        association(shared, {}) as made,
    ):
        responses = [status for status, _ in made.send_c_move(query(timed, SimpleFrameList=[4]), "DEST", MOVE)]
    assert responses[-1].Status == 0
    assert responses[-1].NumberOfCompletedSuboperations == 1
    (new,) = received
    assert (new.NumberOfFrames, new.PixelData) == (1, frame_bytes([4]))
    wait_for_record(shared, "110104")
    assert len(records(shared, "110104")) > before


def test_a_destination_that_drops_gets_the_frames_in_the_next_attempt(
    shared: Server, destination: int, timed: str
) -> None:
    """The new object is still there then."""
    attempts: list[str] = []

    def drop_once(event: Any) -> int:
        attempts.append(event.request.AffectedSOPInstanceUID)
        if len(attempts) == 1:
            event.assoc.abort()
        return 0

    with (
        pynetdicom_scp(destination, drop_once, BYTE_SECONDARY_CAPTURE),
        association(shared, {}) as made,
    ):
        responses = [status for status, _ in made.send_c_move(query(timed, SimpleFrameList=[1]), "DEST", MOVE)]
    assert responses[-1].Status == 0
    assert len(attempts) == 2 and attempts[0] == attempts[1]


# -- failures


@pytest.mark.parametrize(
    ("keys", "status", "comment", "offending"),
    [
        ({}, 0xA900, "one list of frames or range of times is needed", 0x00081161),
        ({"SimpleFrameList": [1], "TimeRange": [0, 1]}, 0xA900, "one list of frames", None),
        (
            {"SimpleFrameList": [6, 7]},
            0xAA00,
            "none of the 5 frames is in the Simple Frame List",
            None,
        ),
        ({"CalculatedFrameList": [6, 9, 1]}, 0xAA00, "none of the 5 frames is in", None),
        ({"TimeRange": [1.0, 2.0]}, 0xAA00, "none of the 5 frames is in", None),
        ({"SimpleFrameList": [3, 2]}, 0xAA04, "Simple Frame List: frame numbers must increase", 0x00081161),
        ({"SimpleFrameList": [2, 2]}, 0xAA04, "Simple Frame List: frame numbers must increase", 0x00081161),
        ({"SimpleFrameList": [0, 2]}, 0xAA04, "Simple Frame List: frame numbers begin with 1", 0x00081161),
        ({"CalculatedFrameList": [1, 3]}, 0xAA04, "Calculated Frame List: three numbers", 0x00081162),
        ({"CalculatedFrameList": [3, 1, 1]}, 0xAA04, "Calculated Frame List: a sub-range ends", 0x00081162),
        ({"CalculatedFrameList": [1, 3, 0]}, 0xAA04, "Calculated Frame List: the increment", 0x00081162),
        ({"CalculatedFrameList": [1, 3, 1, 3, 5, 1]}, 0xAA04, "Calculated Frame List: sub-ranges must", 0x00081162),
        ({"TimeRange": [2.0, 1.0]}, 0xAA04, "Time Range: it must begin before it ends", 0x00081163),
        ({"TimeRange": [2.0]}, 0xAA04, "Time Range: it must have two values", 0x00081163),
    ],
)
def test_a_request_that_can_not_be_fulfilled_is_answered_with_its_reason(
    shared: Server, timed: str, keys: dict[str, Any], status: int, comment: str, offending: int | None
) -> None:
    """PS3.4 tables Y.4-1 and Y.4-2, for C-GET and C-MOVE."""
    received: dict[str, bytes] = {}
    with association(shared, received, (BYTE_SECONDARY_CAPTURE, EXPLICIT)) as made:
        for responses in (
            [response for response, _ in made.send_c_get(query(timed, **keys), GET)],
            [response for response, _ in made.send_c_move(query(timed, **keys), "DEST", MOVE)],
        ):
            (response,) = responses
            assert response.Status == status
            assert response.ErrorComment.startswith(comment)
            if offending is not None:
                assert response.OffendingElement == offending
    assert received == {}


def refused(server: Server, uid: str | list[str], kind: tuple[str, str], **keys: Any) -> tuple[int, str]:
    status, received = get(server, query(uid, **keys), kind)
    assert received == {}
    return status.Status, status.ErrorComment


def test_objects_of_which_no_frames_can_be_had(shared: Server, timed: str) -> None:
    kind = BYTE_SECONDARY_CAPTURE, EXPLICIT
    assert refused(shared, "1.2.500.999", kind, SimpleFrameList=[1]) == (
        0xAA00, "the SOP instance is not in the archive"
    )  # fmt: skip
    status, comment = refused(shared, [timed, "1.2.500.2"], kind, SimpleFrameList=[1])
    assert (status, comment) == (0xA900, "SOPInstanceUID: one value at the FRAME level")
    store(shared, ct_data_set("1.2.500.3"), "1.2.500.3", "1.2.840.10008.5.1.4.1.1.2")
    assert refused(shared, "1.2.500.3", kind, SimpleFrameList=[1]) == (0xAA01, "the object is no multi-frame image")
    without_times = multi_frame(frame_bytes([1, 2]), 2, SOPInstanceUID="1.2.500.4")
    store_made(shared, without_times)
    status, comment = refused(shared, "1.2.500.4", kind, TimeRange=[0, 1])
    assert (status, comment) == (0xAA03, "the frames have no times (Frame Time, Frame Reference DateTime)")
    tiled = multi_frame(frame_bytes([1, 2]), 2, SOPInstanceUID="1.2.500.5", DimensionOrganizationType="TILED_FULL")
    store_made(shared, tiled)
    assert refused(shared, "1.2.500.5", kind, SimpleFrameList=[2])[0] == 0xAA01
    groups = multi_frame(frame_bytes([1, 2]), 2, SOPInstanceUID="1.2.500.6", PerFrameFunctionalGroupsSequence=[item()])
    store_made(shared, groups)
    status, comment = refused(shared, "1.2.500.6", kind, SimpleFrameList=[2])
    assert (status, comment) == (0xAA02, "the object has 2 frames, but functional groups for 1")
    video = multi_frame(encapsulate([b"\0\0\0\1stream"], has_bot=False), 9, SOPInstanceUID="1.2.500.7")
    store_made(shared, video, MPEG4)
    status, comment = refused(shared, "1.2.500.7", (BYTE_SECONDARY_CAPTURE, MPEG4), SimpleFrameList=[2])
    assert (status, comment[:42]) == (0xAA02, "frames can't be taken out of a stream (MPE")
    (bad,) = [sample for sample in FILES if sample.path.name == NO_NUMBER]
    store(shared, bad.data_set, bad.sop_instance_uid, bad.sop_class_uid, bad.transfer_syntax_uid)
    status, comment = refused(shared, bad.sop_instance_uid, (bad.sop_class_uid, EXPLICIT), SimpleFrameList=[1])
    assert (status, comment) == (0xAA02, "Number of Frames (0028,0008) is no number")


def test_a_receiver_that_does_not_take_the_new_object_makes_it_a_failed_sub_operation(
    shared: Server, timed: str
) -> None:
    status, received = get(shared, query(timed, SimpleFrameList=[1]), (ENHANCED_CT, EXPLICIT))
    assert (status.Status, received) == (0xA702, {})
    assert status.NumberOfFailedSuboperations == 1
    assert status.ErrorComment == "SOP class not accepted by the receiver"


def test_there_is_no_frame_level_in_the_other_models(shared: Server) -> None:
    requester = Requester(shared.port, "1.2.840.10008.5.1.4.1.2.2.3")
    what = element(0x00080018, "UI", b"1.2") + element(0x00080052, "CS", b"FRAME")
    response = final(requester.get(what))
    assert (response.status, response.error_comment) == (0xA900, "Query/Retrieve Level must be STUDY, SERIES, IMAGE")
    requester.release()


# -- while it goes on


def frame_query(uid: str, number: int) -> bytes:
    return (
        element(0x00080018, "UI", uid.encode())
        + element(0x00080052, "CS", b"FRAME")
        + element(0x00081161, "UL", struct.pack("<L", number))
    )


def stopped_worker(server: Server, uid: str) -> int:
    """Give the process that extracts, stopped."""
    status, _ = get(server, query(uid, SimpleFrameList=[1]), (BYTE_SECONDARY_CAPTURE, EXPLICIT))
    assert status.Status == 0
    (pid,) = workers(server)
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.parametrize("model", [GET, MOVE])
def test_the_requester_hears_from_us_and_can_cancel_while_frames_are_extracted(
    make_server: MakeServer, model: str
) -> None:
    nodes = [{"ae_title": "DEST", "host": "127.0.0.1", "port": free_port()}]
    server = make_server({"server": {"remote_nodes": nodes}})
    uid = store_made(server, multi_frame(frame_bytes([1, 2]), 2))
    pid = stopped_worker(server, uid)
    requester = Requester(server.port, model, [(BYTE_SECONDARY_CAPTURE, EXPLICIT)])
    started_s = time.monotonic()
    if model == GET:
        result = requester.get(frame_query(uid, 1), cancel_after=2)
    else:
        result = requester.move(frame_query(uid, 1), "DEST", cancel_after=2)
    assert final(result).status == 0xFE00
    assert result.counters == (1, 0, 0, 0)
    assert [response.number_of_remaining_suboperations for response in result.pending] == [1, 1]
    assert result.pending_times_s[0] - started_s > 1
    requester.release()
    deadline_s = time.monotonic() + 10
    while pid in workers(server):  # killed, and gone as soon as the system has seen to it
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    status, _ = get(server, query(uid, SimpleFrameList=[1]), (BYTE_SECONDARY_CAPTURE, EXPLICIT))
    assert status.Status == 0  # by another process


def test_what_takes_too_long_is_given_up(make_server: MakeServer) -> None:
    server = make_server({"server": {"limits": {"transcoding_seconds": 5}}})
    uid = store_made(server, multi_frame(frame_bytes([1, 2]), 2))
    stopped_worker(server, uid)
    assert refused(server, uid, (BYTE_SECONDARY_CAPTURE, EXPLICIT), SimpleFrameList=[2]) == (
        0xA702, "extraction took more than 5 s"
    )  # fmt: skip
    server.wait_for_log("extraction took more than 5 s")


def test_no_process_outlives_the_server(make_server: MakeServer) -> None:
    server = make_server()
    uid = store_made(server, multi_frame(frame_bytes([1, 2]), 2))
    pid = stopped_worker(server, uid)
    os.kill(pid, signal.SIGCONT)
    assert server.stop() == 0
    assert not Path(f"/proc/{pid}").exists()


def large_data_set(uid: str, *, frames: int, frame: bytes, pieces: int) -> Iterator[bytes]:
    """Give an object of some frames, each `pieces` times a run of bytes, and its number at the end."""
    head = multi_frame(
        b"", frames, bits=8, rows=pieces, columns=len(frame), SOPInstanceUID=uid, SOPClassUID=ENHANCED_CT
    )
    yield encoded(head)[:-12]
    yield struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", frames * pieces * len(frame))
    for number in range(1, frames + 1):
        for _ in range(pieces - 1):
            yield frame
        yield struct.pack("<L", number) * (len(frame) // 4)


def test_half_of_400_mb_is_extracted_in_less_than_150_mb_of_memory(make_server: MakeServer) -> None:
    """Neither the server nor the process that extracts holds the object."""
    server = make_server()
    frames, frame, pieces = 200, bytes(range(256)) * 16, 512
    with Client(server.port, (ENHANCED_CT, EXPLICIT)) as client:
        client.socket.settimeout(600)
        data = large_data_set("1.2.501", frames=frames, frame=frame, pieces=pieces)
        assert client.store(data, "1.2.501", sop_class_uid=ENHANCED_CT).status == 0
    requester = Requester(server.port, GET, [(ENHANCED_CT, EXPLICIT)], max_pdu_length=131072)
    what = (
        element(0x00080018, "UI", b"1.2.501")
        + element(0x00080052, "CS", b"FRAME")
        + element(0x00081162, "UL", struct.pack("<3L", 2, TO_THE_END, 2))
    )
    result = requester.get(what)
    requester.release()
    assert final(result).status == 0, final(result)
    (data_set,) = result.data_sets.values()
    size = pieces * len(frame)
    assert len(data_set) > 100 * size
    pixels = memoryview(data_set)[-100 * size :]
    for index in range(100):
        kept = pixels[index * size : (index + 1) * size]
        assert kept[: len(frame)] == frame
        assert kept[-4:] == struct.pack("<L", 2 * index + 2)
    (pid,) = workers(server)
    peak_kib = int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0])
    assert server.resident_kib("VmHWM") < MEMORY_KIB
    assert peak_kib < MEMORY_KIB
    assert not [path for path in server.root.iterdir() if path.name.startswith("transcoded-")]
