"""
C-GET and C-MOVE of every real file, at every level of every model, with DCMTK's getscu, movescu and storescp and with
pynetdicom (PS3.4 annex C and Y): what comes out is what went in, bit for bit.
"""

from __future__ import annotations

import struct
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
import pytest
from pydicom.pixels.utils import pixel_array
from pynetdicom import AE, build_role, evt

from pacs.dataset.part10 import read_file_meta
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set, element
from tests.retrieve import Requester, data_set_of, final, identifier, storescp
from tests.samples import samples
from tests.server import AE_TITLE, Server, free_port, run_tool
from tests.transcoding import DEFLATED, IMPLICIT, as_read

GET: Final = {
    "patient": "1.2.840.10008.5.1.4.1.2.1.3",
    "study": "1.2.840.10008.5.1.4.1.2.2.3",
    "patient_study_only": "1.2.840.10008.5.1.4.1.2.3.3",
    "composite": "1.2.840.10008.5.1.4.1.2.4.3",
}
MOVE: Final = {model: uid[:-1] + "2" for model, uid in GET.items()}
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
UNDECODABLE: Final = "1.2.66.1"
IMAGE_PIXEL: Final = (
    (0x00280002, 1), (0x00280010, 16), (0x00280011, 16), (0x00280100, 16), (0x00280101, 16), (0x00280102, 15),
    (0x00280103, 0),
)  # fmt: skip


class Stored:
    """What the archive keeps, read from its files: what retrievals must give."""

    def __init__(self, server: Server) -> None:
        self.data_sets: dict[str, bytes] = {}
        self.kind_of: dict[str, tuple[str, str]] = {}
        self.place_of: dict[str, tuple[str, str, str]] = {}
        for path in server.objects():
            with path.open("rb") as file:
                meta = read_file_meta(file)
            uid = meta.sop_instance_uid
            data_set = data_set_of(path)
            if meta.transfer_syntax_uid == DEFLATED and len(data_set) % 2:
                data_set += b"\0"  # PS3.5 A.5: a deflated data set is sent with an even length
            self.data_sets[uid] = data_set
            self.kind_of[uid] = meta.sop_class_uid, meta.transfer_syntax_uid
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                head = pydicom.dcmread(path, specific_tags=["PatientID", "StudyInstanceUID", "SeriesInstanceUID"])
            self.place_of[uid] = (
                str(head.get("PatientID", "") or ""),
                str(head.get("StudyInstanceUID", "") or ""),
                str(head.get("SeriesInstanceUID", "") or ""),
            )

    def contexts(self, *uids: str) -> list[tuple[str, str]]:
        """Give the contexts that some objects need to come as they are stored."""
        return sorted({self.kind_of[uid] for uid in uids or self.kind_of})

    def grouped(self, depth: int) -> dict[tuple[str, ...], set[str]]:
        """Give the objects by the first parts of their places; those without some part are left out."""
        groups: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        for uid, place in self.place_of.items():
            if all(place[:depth]):
                groups[place[:depth]].add(uid)
        return dict(groups)


@pytest.fixture(scope="module")
def destination(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """Give DCMTK's storescp, which takes everything and writes it as it comes."""
    directory, port = tmp_path_factory.mktemp("storescp") / "objects", free_port()
    with storescp(directory, port, "+B", "+xa", "-pm"):
        yield directory, port


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, destination: tuple[Path, int]) -> Iterator[Server]:
    """Give a server with all real files."""
    nodes = [{"ae_title": "DEST", "host": "127.0.0.1", "port": destination[1]}]
    server = Server(tmp_path_factory.mktemp("retrieve"), {"server": {"remote_nodes": nodes}})
    server.start()
    for sample in samples():
        with Client(server.port, (sample.sop_class_uid, sample.transfer_syntax_uid)) as client:
            client.store(sample.data_set, sample.sop_instance_uid, sop_class_uid=sample.sop_class_uid)
    with Client(server.port, (CT_IMAGE_STORAGE, JPEG_2000)) as client:
        assert client.store(undecodable(), UNDECODABLE).status == 0
    yield server
    assert server.stop() == 0


def undecodable() -> bytes:
    """Give an object in JPEG 2000 whose codestream is none."""
    head = ct_data_set(UNDECODABLE, study="1.2.66", series="1.2.66.1000", pixels=b"")
    item = struct.Struct("<HHL")
    return (
        head[: -len(element(0x7FE00010, "OW", b""))]
        + b"".join(element(tag, "US", struct.pack("<H", value)) for tag, value in IMAGE_PIXEL)
        + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF)
        + item.pack(0xFFFE, 0xE000, 0)
        + item.pack(0xFFFE, 0xE000, 64)
        + b"no codestream".ljust(64)
        + item.pack(0xFFFE, 0xE0DD, 0)
    )


@pytest.fixture(scope="module")
def stored(filled: Server) -> Stored:
    found = Stored(filled)
    assert len(found.data_sets) > 100
    return found


def get(filled: Server, stored: Stored, model: str, what: bytes, uids: set[str]) -> None:
    """Retrieve by C-GET, and compare."""
    requester = Requester(filled.port, GET[model], stored.contexts(*uids))
    result = requester.get(what)
    requester.release()
    assert final(result).status == 0
    assert result.counters == (None, len(uids), 0, 0)
    assert result.data_sets == {uid: stored.data_sets[uid] for uid in uids}


def test_every_object_is_retrieved_by_itself_in_the_composite_instance_root(filled: Server, stored: Stored) -> None:
    """One association, a C-GET for each object, and one with the list of all."""
    requester = Requester(filled.port, GET["composite"], stored.contexts())
    for uid, data_set in stored.data_sets.items():
        result = requester.get(identifier("IMAGE", image=uid))
        assert result.data_sets == {uid: data_set}
        assert final(result).status == 0
    result = requester.get(identifier("IMAGE", image=list(stored.data_sets)))
    assert result.data_sets == stored.data_sets
    requester.release()


@pytest.mark.parametrize("model", ["patient", "patient_study_only"])
def test_every_patient_is_retrieved(filled: Server, stored: Stored, model: str) -> None:
    for (patient,), uids in stored.grouped(1).items():
        get(filled, stored, model, identifier("PATIENT", patient=patient), uids)


def test_every_study_is_retrieved_below_its_patient(filled: Server, stored: Stored) -> None:
    for (patient, study), uids in stored.grouped(2).items():
        get(filled, stored, "patient", identifier("STUDY", patient=patient, study=study), uids)
        get(filled, stored, "patient_study_only", identifier("STUDY", patient=patient, study=study), uids)


def test_every_series_is_retrieved(filled: Server, stored: Stored) -> None:
    for (patient, study, series), uids in stored.grouped(3).items():
        get(filled, stored, "study", identifier("SERIES", study=study, series=series), uids)
        what = identifier("SERIES", patient=patient, study=study, series=series)
        get(filled, stored, "patient", what, uids)


def test_images_of_a_series_are_retrieved_by_a_list(filled: Server, stored: Stored) -> None:
    (_, study, series), uids = max(stored.grouped(3).items(), key=lambda item: len(item[1]))
    assert len(uids) > 3
    some = set(sorted(uids)[::2])
    get(filled, stored, "study", identifier("IMAGE", study=study, series=series, image=sorted(some)), some)


def test_all_studies_are_retrieved_by_a_list(filled: Server, stored: Stored) -> None:
    studies = {place[1]: None for place in stored.place_of.values() if place[1]}
    uids = {uid for uid, place in stored.place_of.items() if place[1] in studies}
    get(filled, stored, "study", identifier("STUDY", study=list(studies)), uids)


def test_movescu_sends_everything_to_storescp(
    filled: Server, stored: Stored, destination: tuple[Path, int], tmp_path: Path
) -> None:
    studies = sorted({place[1] for place in stored.place_of.values() if place[1]})
    uids = {uid for uid, place in stored.place_of.items() if place[1]}
    output = run_tool(
        "movescu", "-v", "-S", "-aec", AE_TITLE, "-aem", "DEST", "-k", "QueryRetrieveLevel=STUDY",
        "-k", "StudyInstanceUID=" + "\\".join(studies), "127.0.0.1", str(filled.port), check=False,
    ).stdout  # fmt: skip
    assert "Received Final Move Response (Success)" in output, output
    received = {}
    for path in destination[0].iterdir():
        with path.open("rb") as file:
            received[read_file_meta(file).sop_instance_uid] = data_set_of(path)
    assert set(received) >= uids
    assert all(received[uid] == stored.data_sets[uid] for uid in uids)


@pytest.mark.parametrize("level", ["PATIENT", "SERIES", "IMAGE"])
def test_movescu_at_the_other_levels(filled: Server, stored: Stored, destination: tuple[Path, int], level: str) -> None:
    (patient, study, series), uids = max(stored.grouped(3).items(), key=lambda item: len(item[1]))
    keys = {
        "PATIENT": {"PatientID": patient},
        "SERIES": {"PatientID": patient, "StudyInstanceUID": study, "SeriesInstanceUID": series},
        "IMAGE": {
            "PatientID": patient, "StudyInstanceUID": study, "SeriesInstanceUID": series,
            "SOPInstanceUID": "\\".join(sorted(uids)),
        },
    }[level]  # fmt: skip
    expected = stored.grouped(1)[patient,] if level == "PATIENT" else uids
    for path in destination[0].iterdir():
        path.unlink()
    arguments = [text for key, value in keys.items() for text in ("-k", f"{key}={value}")]
    output = run_tool(
        "movescu", "-v", "-P", "-aec", AE_TITLE, "-aem", "DEST", "-k", f"QueryRetrieveLevel={level}", *arguments,
        "127.0.0.1", str(filled.port), check=False,
    ).stdout  # fmt: skip
    assert "Received Final Move Response (Success)" in output, output
    assert len(list(destination[0].iterdir())) == len(expected)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_getscu_writes_what_is_stored(filled: Server, stored: Stored, tmp_path: Path, levels: int) -> None:
    """getscu takes what it is sent as it comes (+B); by default it proposes the uncompressed transfer syntaxes."""
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    place, uids = max(
        (
            (place, uids)
            for place, uids in stored.grouped(levels).items()
            if all(stored.kind_of[uid][1] == EXPLICIT for uid in uids)
        ),
        key=lambda item: len(item[1]),
    )
    level = ("PATIENT", "STUDY", "SERIES")[levels - 1]
    keys = [text for name, value in zip(names, place, strict=False) for text in ("-k", f"{name}={value}")]
    output = run_tool(
        "getscu", "-v", "+B", "-P", "-aec", AE_TITLE, "-k", f"QueryRetrieveLevel={level}", *keys,
        "-od", str(tmp_path), "127.0.0.1", str(filled.port), check=False,
    ).stdout  # fmt: skip
    assert "Received C-GET Response (Success)" in output, output
    received = [data_set_of(path) for path in tmp_path.iterdir()]
    assert sorted(received) == sorted(stored.data_sets[uid] for uid in uids)


def test_pynetdicom_retrieves_by_c_get_and_by_c_move(
    filled: Server, stored: Stored, destination: tuple[Path, int]
) -> None:
    """C-GET in the three hierarchical models, C-MOVE in all four; the counters of the last response are right."""
    (patient, study), uids = max(stored.grouped(2).items(), key=lambda item: len(item[1]))
    received: dict[str, bytes] = {}

    def keep(event: Any) -> int:
        received[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return 0

    entity = AE()
    contexts = stored.contexts(*uids)
    for sop_class, transfer_syntax in contexts:
        entity.add_requested_context(sop_class, transfer_syntax)
    for model in (*GET.values(), *MOVE.values()):
        entity.add_requested_context(model)
    association = entity.associate(
        "127.0.0.1", filled.port, ae_title=AE_TITLE, evt_handlers=[(evt.EVT_C_STORE, keep)],
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in {kind[0] for kind in contexts}],
    )  # fmt: skip
    assert association.is_established
    keys = pydicom.Dataset()
    keys.QueryRetrieveLevel, keys.PatientID, keys.StudyInstanceUID = "STUDY", patient, study
    images = pydicom.Dataset()
    images.QueryRetrieveLevel, images.SOPInstanceUID = "IMAGE", sorted(uids)
    for model, query in (("patient", keys), ("study", keys), ("patient_study_only", keys), ("composite", images)):
        received.clear()
        statuses = [status for status, _ in association.send_c_get(query, GET[model])]
        assert statuses[-1].Status == 0
        assert statuses[-1].NumberOfCompletedSuboperations == len(uids)
        assert received == {uid: stored.data_sets[uid] for uid in uids}
        statuses = [status for status, _ in association.send_c_move(query, "DEST", MOVE[model])]
        assert statuses[-1].Status == 0
        assert statuses[-1].NumberOfCompletedSuboperations == len(uids)
        assert [s.NumberOfRemainingSuboperations for s in statuses[:-1]] == list(range(len(uids) - 1, 0, -1))
    association.release()


@pytest.mark.parametrize("length", [64, 128, 4096, 16382, 16383, 131072, 0])
def test_objects_are_cut_for_the_peers_pdu_length(filled: Server, stored: Stored, length: int) -> None:
    """PS3.8 D.1: no PDU is longer than the peer wants; the fragments have even lengths and make the data set."""
    largest = max(stored.data_sets, key=lambda uid: len(stored.data_sets[uid]))
    small = sorted(stored.data_sets, key=lambda uid: len(stored.data_sets[uid]))[:20]
    uids = small if 0 < length < 4096 else [*small, largest]
    requester = Requester(filled.port, GET["composite"], stored.contexts(*uids), max_pdu_length=length)
    lengths = []
    receive = requester.pdu

    def noted() -> tuple[int, bytes]:
        kind, body = receive()
        lengths.append(len(body))
        return kind, body

    requester.pdu = noted  # type: ignore[method-assign]
    result = requester.get(identifier("IMAGE", image=uids))
    assert result.data_sets == {uid: stored.data_sets[uid] for uid in uids}
    assert all(size % 2 == 0 and size <= (length or 1 << 30) for size in lengths)


def test_an_empty_match_is_a_success_without_sub_operations(filled: Server, stored: Stored) -> None:
    requester = Requester(filled.port, GET["study"], stored.contexts()[:1])
    result = requester.get(identifier("STUDY", study="1.2.3.999"))
    assert (final(result).status, result.counters, result.pending) == (0, (None, 0, 0, 0), [])


@pytest.mark.parametrize(
    ("model", "what", "comment"),
    [
        ("study", identifier("PATIENT", patient="X"), "Query/Retrieve Level must be STUDY, SERIES, IMAGE"),
        ("patient_study_only", identifier("SERIES", series="1.2"), "Query/Retrieve Level must be PATIENT, STUDY"),
        ("composite", identifier("STUDY", study="1.2"), "Query/Retrieve Level must be IMAGE"),
        ("study", identifier("STUDY"), "StudyInstanceUID is missing"),
        ("study", identifier("SERIES", series="1.2"), "StudyInstanceUID is missing"),
        ("patient", identifier("STUDY", study="1.2"), "PatientID is missing"),
        ("study", identifier("SERIES", study=["1.2", "1.3"], series="1.2"), "StudyInstanceUID: one value above"),
        ("patient", identifier("PATIENT", patient="A*"), "PatientID: no wild cards in a unique key"),
    ],
)
def test_an_identifier_that_does_not_fit_the_model_is_refused(
    filled: Server, model: str, what: bytes, comment: str
) -> None:
    """A900 (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
    for requester, destination in (
        (Requester(filled.port, GET[model], [(CT_IMAGE_STORAGE, EXPLICIT)]), None),
        (Requester(filled.port, MOVE[model]), "DEST"),
    ):
        result = requester.get(what) if destination is None else requester.move(what, destination)
        assert final(result).status == 0xA900
        assert (final(result).error_comment or "").startswith(comment)
        requester.release()


def test_a_requester_that_proposes_several_transfer_syntaxes_together_gets_one_for_everything(filled: Server) -> None:
    """What is stored uncompressed can't be sent as JPEG 2000; what is stored as JPEG 2000 can be sent uncompressed."""
    requester = Requester(
        filled.port, GET["study"], [(CT_IMAGE_STORAGE, f"{JPEG_2000}|{EXPLICIT}"), ("1.2.3.4", DEFLATED)]
    )
    assert [context.transfer_syntax for context in requester.accept.presentation_contexts[1:]] == [EXPLICIT, DEFLATED]


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, IMPLICIT])
def test_what_the_peer_does_not_take_as_stored_comes_transcoded(
    filled: Server, stored: Stored, transfer_syntax: str
) -> None:
    """
    The pixels are those that pydicom decodes of what is stored; what can't be decoded is a failed sub-operation with a
    reason, and the association serves on.
    """
    sop_classes = sorted({sop_class for sop_class, _ in stored.kind_of.values()})
    requester = Requester(filled.port, GET["composite"], [(uid, transfer_syntax) for uid in sop_classes])
    uids = {uid for uid, (_, syntax) in stored.kind_of.items() if syntax != transfer_syntax or uid.endswith("1")}
    if transfer_syntax == IMPLICIT:  # most files are explicit: some will do
        uids = {*sorted(uids)[::4], UNDECODABLE}
    result = requester.get(identifier("IMAGE", image=sorted(uids)))
    assert (final(result).status, result.counters) == (0xB000, (None, len(uids) - 1, 1, 0))
    assert result.failed_uids == [UNDECODABLE]
    assert final(result).error_comment
    assert set(result.data_sets) == uids - {UNDECODABLE}
    compared = 0
    for uid, data_set in result.data_sets.items():
        sop_class, stored_syntax = stored.kind_of[uid]
        if stored_syntax == transfer_syntax:
            assert data_set == stored.data_sets[uid]
            continue
        read = as_read(data_set, transfer_syntax)
        assert (read.SOPClassUID, read.SOPInstanceUID) == (sop_class, uid)
        expected = pixels_of(as_read(stored.data_sets[uid], stored_syntax))
        if expected is not None:
            assert np.array_equal(expected, pixels_of(read)), uid
            compared += 1
    assert compared > 10
    result = requester.get(identifier("IMAGE", image=sorted(result.data_sets)[0]))
    assert final(result).status == 0
    requester.release()


def pixels_of(data_set: pydicom.Dataset) -> Any:
    """Give the pixels as pydicom decodes them, or None where it can't."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pixel_array(data_set)
        except Exception:  # noqa: BLE001 - some files have no pixels, or none that pydicom reads
            return None


def test_relational_retrieval_needs_no_keys_above(filled: Server, stored: Stored) -> None:
    """PS3.4 C.4.2.2.2 and C.5.3.1, when both sides agreed to it."""
    (_, _, series), uids = max(stored.grouped(3).items(), key=lambda item: len(item[1]))
    requester = Requester(filled.port, GET["study"], stored.contexts(*uids), is_relational=True)
    (answer,) = requester.accept.user_information.extended_negotiations
    assert (answer.sop_class_uid, answer.information) == (GET["study"], b"\1")
    result = requester.get(identifier("SERIES", series=series))
    assert set(result.data_sets) == uids
    requester.release()


def test_an_object_of_more_than_one_piece_comes_whole(filled: Server) -> None:
    pixels = bytes(range(256)) * 12000
    data_set = ct_data_set("1.2.77.1", study="1.2.77", series="1.2.77.0", pixels=pixels)
    with Client(filled.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        assert client.store(data_set, "1.2.77.1").status == 0
    requester = Requester(filled.port, GET["study"], [(CT_IMAGE_STORAGE, EXPLICIT)])
    result = requester.get(identifier("STUDY", study="1.2.77"))
    assert result.data_sets == {"1.2.77.1": data_set}
