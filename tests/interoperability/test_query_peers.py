"""
The same queries to us, to Orthanc and to DCMTK's dcmqrscp, on all real files; where one answers differently, the table
says which and by what the standard says (PS3.4 annex C).

What is right is computed here from the files by pydicom, apart from the server's code.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
import pytest
from pydicom.dataset import Dataset

from bench.peers import AE_TITLE as PEER_TITLE
from bench.peers import DcmQRSCP, Orthanc, Peer
from tests.dicom import Client
from tests.find import PATIENT_ROOT, STUDY_ROOT, find, keys
from tests.samples import Sample, samples
from tests.server import AE_TITLE, Server

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"


class FindingOrthanc(Orthanc):
    """Orthanc that answers C-FIND of everybody and takes any SOP class."""

    def command(self) -> list[str]:
        command = list(super().command())
        path = Path(command[-1])
        settings = json.loads(path.read_text())
        settings |= {"DicomAlwaysAllowFind": True, "UnknownSopClassAccepted": True, "OverwriteInstances": True}
        path.write_text(json.dumps(settings))
        return command


@dataclass(frozen=True)
class Case:
    """
    A query.

    Attributes:
        unique: the keyword whose values are compared.
        orthanc, dcmqrscp: why the peer differs, or "" when it must not.
    """

    model: str
    identifier: Dataset
    unique: str
    orthanc: str = ""
    dcmqrscp: str = ""


CASE_FOLDING: Final = "C.2.2.2.1.1: names may be matched with case"
CASES: Final = {
    "all studies": Case(STUDY_ROOT, keys("STUDY", StudyInstanceUID=""), "StudyInstanceUID"),
    "all patients": Case(PATIENT_ROOT, keys("PATIENT", PatientID="", PatientName=""), "PatientID"),
    "single value": Case(STUDY_ROOT, keys("STUDY", PatientID="77654033", StudyInstanceUID=""), "StudyInstanceUID"),
    "wild card": Case(STUDY_ROOT, keys("STUDY", PatientID="?765*", StudyInstanceUID=""), "StudyInstanceUID"),
    "name with case": Case(
        STUDY_ROOT, keys("STUDY", PatientName="CompressedSamples*", StudyInstanceUID=""), "StudyInstanceUID"
    ),
    "name without case": Case(
        STUDY_ROOT, keys("STUDY", PatientName="compressedsamples*", StudyInstanceUID=""), "StudyInstanceUID",
        dcmqrscp=CASE_FOLDING,
    ),
    "date": Case(STUDY_ROOT, keys("STUDY", StudyDate="20030505", StudyInstanceUID=""), "StudyInstanceUID"),
    "date range": Case(
        STUDY_ROOT, keys("STUDY", StudyDate="20040101-20041231", StudyInstanceUID=""), "StudyInstanceUID",
        orthanc="C.2.2.1.2: a date of zero length is unknown and matches",
        dcmqrscp="C.2.2.1.2: the same",
    ),
    "open range": Case(
        STUDY_ROOT, keys("STUDY", StudyDate="-19991231", StudyInstanceUID=""), "StudyInstanceUID",
        dcmqrscp="C.2.2.1.2: a date of zero length is unknown and matches",
    ),
    "modalities in study": Case(
        STUDY_ROOT, keys("STUDY", ModalitiesInStudy="MR", StudyInstanceUID=""), "StudyInstanceUID",
        dcmqrscp="C.3.4: an optional key that it does not have",
    ),
    "series of a study": Case(
        STUDY_ROOT,
        keys("SERIES", StudyInstanceUID="1.3.6.1.4.1.5962.1.2.4.20040826185059.5457", SeriesInstanceUID=""),
        "SeriesInstanceUID",
    ),
    "series without its study": Case(
        STUDY_ROOT, keys("SERIES", SeriesInstanceUID="", Modality="CT"), "SeriesInstanceUID",
        orthanc="C.4.1.3.1.1: relational, though that was not negotiated",
    ),
    "images of a series": Case(
        STUDY_ROOT,
        keys(
            "IMAGE", StudyInstanceUID="1.3.6.1.4.1.5962.1.2.4.20040826185059.5457",
            SeriesInstanceUID="1.3.6.1.4.1.5962.1.3.4.1.20040826185059.5457", SOPInstanceUID="",
        ),
        "SOPInstanceUID",
    ),
    "patient level in study root": Case(
        STUDY_ROOT, keys("PATIENT", PatientID=""), "PatientID",
        orthanc="C.3.2: it answers a level that the model does not have",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def sendable() -> list[tuple[Sample, Dataset]]:
    """Give the files in the transfer syntaxes that every peer takes, one for each SOP Instance UID."""
    found: dict[str, tuple[Sample, Dataset]] = {}
    for sample in samples():
        if sample.transfer_syntax_uid not in (IMPLICIT, EXPLICIT) or len(sample.data_set) > 4 << 20:
            continue
        head = pydicom.dcmread(sample.path, stop_before_pixels=True, force=True)
        uids = [str(head.get(name, "")) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        if all(uid and len(uid) <= 64 and uid.replace(".", "").isdigit() for uid in uids):
            found.setdefault(sample.sop_instance_uid, (sample, head))
    return list(found.values())


def store_all(port: int, called: str, files: list[tuple[Sample, Dataset]]) -> set[str]:
    """Store what the server takes; give the SOP Instance UIDs."""
    taken: set[str] = set()
    for sample, _ in files:
        try:
            with Client(port, (sample.sop_class_uid, sample.transfer_syntax_uid), called=called) as client:
                if not client.accept.presentation_contexts[0].result:
                    response = client.store(
                        sample.data_set, sample.sop_instance_uid, sop_class_uid=sample.sop_class_uid
                    )
                    if response.status == 0:
                        taken.add(sample.sop_instance_uid)
        except (AssertionError, OSError):
            continue
    return taken


@dataclass
class Archives:
    """
    The servers that are asked.

    Attributes:
        files: what we have taken, all of them.
        common: what every server has taken.
    """

    ports: dict[str, tuple[int, str]]
    files: list[Dataset]
    common: list[Dataset]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, sendable: list[tuple[Sample, Dataset]]) -> Iterator[Archives]:
    directory = tmp_path_factory.mktemp("peers")
    ours = Server(directory)
    ours.start()
    peers: dict[str, Peer] = {
        "orthanc": FindingOrthanc("orthanc", directory / "orthanc"),
        "dcmqrscp": DcmQRSCP("dcmqrscp", directory / "dcmqrscp"),
    }
    try:
        for peer in peers.values():
            peer.start()
        ports = {"ours": (ours.port, AE_TITLE)} | {name: (peer.port, PEER_TITLE) for name, peer in peers.items()}
        taken = [store_all(port, called, sendable) for port, called in ports.values()]
        common = set.intersection(*taken)
        assert len(common) > 60
        assert taken[0] == {sample.sop_instance_uid for sample, _ in sendable}, "we take them all"
        heads = {sample.sop_instance_uid: head for sample, head in sendable}
        yield Archives(ports, list(heads.values()), [head for uid, head in heads.items() if uid in common])
    finally:
        for peer in peers.values():
            peer.stop()
        assert ours.stop() == 0


def is_match(head: Dataset, identifier: Dataset) -> bool:
    """Whether an object has what the keys ask, by the standard, spelled out for the keys of the cases."""
    for element in identifier:
        key = str(element.value)
        if not key or element.keyword in ("QueryRetrieveLevel", "ModalitiesInStudy"):
            continue
        value = str(head.get(element.keyword, "") or "")
        if element.VR == "DA" and "-" in key:
            low, high = key.split("-")
            if value and not (low or "0") <= value.replace(".", "") <= (high or "9"):  # C.2.2.1.2: unknown matches
                return False
        elif element.VR == "PN":
            if not fnmatch.fnmatchcase(value.casefold(), key.casefold()):
                return False
        elif not fnmatch.fnmatchcase(value, key):
            return False
    return True


def expected(files: list[Dataset], case: Case) -> set[str]:
    matching = [head for head in files if is_match(head, case.identifier)]
    if "ModalitiesInStudy" in case.identifier:
        wanted = case.identifier.ModalitiesInStudy
        studies = {str(head.StudyInstanceUID) for head in files if head.get("Modality") == wanted}
        matching = [head for head in matching if str(head.StudyInstanceUID) in studies]
    return {str(head.get(case.unique, "") or "") for head in matching}


def answer(archives: Archives, name: str, case: Case) -> tuple[int, set[str]]:
    port, called = archives.ports[name]
    answers = find(port, case.identifier, case.model, called=called)
    return answers.statuses[-1], {value.strip() for value in answers.values(case.unique)}


REFUSED: Final = ("series without its study", "patient level in study root")


@pytest.mark.parametrize("name", CASES)
def test_we_answer_what_the_standard_says(archives: Archives, name: str) -> None:
    status, found = answer(archives, "ours", CASES[name])
    if name in REFUSED:
        assert (status, found) == (0xA900, set()), "C.4.1.3.1.1 and C.3.2"
        return
    assert status == 0
    assert found == expected(archives.files, CASES[name])
    assert found, "a query that finds nothing shows nothing"


@pytest.mark.parametrize("peer", ["orthanc", "dcmqrscp"])
@pytest.mark.parametrize("name", CASES)
def test_a_peer_answers_the_same_or_the_table_says_why(archives: Archives, name: str, peer: str) -> None:
    case = CASES[name]
    known = {str(head.get(case.unique, "") or "") for head in archives.common}
    ours, theirs = answer(archives, "ours", case), answer(archives, peer, case)
    is_same = (ours[0] == 0) == (theirs[0] == 0) and ours[1] & known == theirs[1] & known
    reason = getattr(case, peer)
    assert is_same != bool(reason), (
        f"{peer}: status {theirs[0]:04X}; {len(theirs[1] & known)} of {len(ours[1] & known)}"
    )
