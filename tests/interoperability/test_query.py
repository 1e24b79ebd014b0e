"""
The queries of a new user, with DCMTK's findscu, on real files (PS3.4 annex C).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dicom import Client, ct_data_set
from tests.samples import samples
from tests.server import AE_TITLE, Server, run_tool

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server with all real files and one series of known values."""
    server = Server(tmp_path_factory.mktemp("query"))
    server.start()
    for sample in samples():
        with Client(server.port, (sample.sop_class_uid, sample.transfer_syntax_uid)) as client:
            client.store(sample.data_set, sample.sop_instance_uid, sop_class_uid=sample.sop_class_uid)
    with Client(server.port, (CT, EXPLICIT)) as client:
        for number in range(1, 6):
            data_set = ct_data_set(
                f"1.2.9.{number}", study="1.2.9", series="1.2.9.0", patient_id="QUERY1", name="Query^Anna",
                study_date="20300115",
            )  # fmt: skip
            assert client.store(data_set, f"1.2.9.{number}", message_id=number).status == 0
    yield server
    assert server.stop() == 0


def find(server: Server, model: str, level: str, *keys: str) -> list[dict[str, str]]:
    """Give the matches of a findscu call as keyword and value."""
    arguments = [argument for key in (f"QueryRetrieveLevel={level}", *keys) for argument in ("-k", key)]
    output = run_tool(
        "findscu", "-v", model, "-aec", AE_TITLE, *arguments, "127.0.0.1", str(server.port), check=False
    ).stdout
    assert "Received Final Find Response (Success)" in output, output
    answers = output.split("Find Response:")[1:]
    return [
        {keyword: value.strip("\0 ") for value, keyword in re.findall(r"\[(.*?)\]\s+#.*? (\w+)\n", answer)}
        for answer in answers
    ]


def test_patients_by_name(filled: Server) -> None:
    matches = find(filled, "-P", "PATIENT", "PatientName=QUERY*", "PatientID", "NumberOfPatientRelatedInstances")
    assert [(m["PatientName"], m["PatientID"], m["NumberOfPatientRelatedInstances"]) for m in matches] == [
        ("Query^Anna", "QUERY1", "5")
    ]


def test_names_match_without_case_and_whole(filled: Server) -> None:
    assert len(find(filled, "-P", "PATIENT", "PatientName=query^anna", "PatientID")) == 1
    assert find(filled, "-P", "PATIENT", "PatientName=Query", "PatientID") == []
    assert len(find(filled, "-P", "PATIENT", "PatientName=?uery^A*", "PatientID")) == 1


@pytest.mark.parametrize(
    ("date", "count"),
    [("20300115", 1), ("20300101-20300131", 1), ("20300115-", 1), ("20300116-", 0), ("20290101-20300114", 0)],
)
def test_studies_by_date(filled: Server, date: str, count: int) -> None:
    found = find(filled, "-S", "STUDY", f"StudyDate={date}", "StudyInstanceUID", "ModalitiesInStudy")
    matches = [match for match in found if match.get("StudyDate")]
    assert len(matches) == count
    assert (len(found) > count) == ("-" in date), "an unknown date is in every range (PS3.4 C.2.2.1.2)"
    if count:
        assert (matches[0]["StudyInstanceUID"], matches[0]["ModalitiesInStudy"]) == ("1.2.9", "CT")


def test_series_of_a_study(filled: Server) -> None:
    matches = find(
        filled, "-S", "SERIES", "StudyInstanceUID=1.2.9", "SeriesInstanceUID", "Modality",
        "NumberOfSeriesRelatedInstances",
    )  # fmt: skip
    assert [(m["SeriesInstanceUID"], m["Modality"], m["NumberOfSeriesRelatedInstances"]) for m in matches] == [
        ("1.2.9.0", "CT", "5")
    ]


def test_images_of_a_series(filled: Server) -> None:
    matches = find(
        filled, "-S", "IMAGE", "StudyInstanceUID=1.2.9", "SeriesInstanceUID=1.2.9.0", "SOPInstanceUID",
        "InstanceNumber",
    )  # fmt: skip
    assert {m["SOPInstanceUID"] for m in matches} == {f"1.2.9.{n}" for n in range(1, 6)}


def test_a_list_of_uids_matches_each(filled: Server) -> None:
    matches = find(
        filled, "-S", "IMAGE", "StudyInstanceUID=1.2.9", "SeriesInstanceUID=1.2.9.0",
        "SOPInstanceUID=1.2.9.1\\1.2.9.4\\1.2.9.99",
    )  # fmt: skip
    assert {m["SOPInstanceUID"] for m in matches} == {"1.2.9.1", "1.2.9.4"}


def test_every_stored_patient_is_found_by_universal_matching(filled: Server) -> None:
    studies = find(filled, "-S", "STUDY", "StudyInstanceUID")
    expected = {path.parent.parent.name for path in filled.objects()}
    assert len({m["StudyInstanceUID"] for m in studies if m.get("StudyInstanceUID")}) >= len(expected) - 2


def test_characters_that_sql_would_take_for_its_own_are_literal(filled: Server) -> None:
    assert find(filled, "-P", "PATIENT", "PatientName=Query%*", "PatientID") == []
    assert find(filled, "-P", "PATIENT", "PatientID=QUERY_*", "PatientName") == []


def test_a_wrong_level_is_refused_with_a_comment(filled: Server) -> None:
    output = run_tool(
        "findscu", "-v", "-S", "-aec", AE_TITLE, "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID",
        "127.0.0.1", str(filled.port), check=False,
    ).stdout  # fmt: skip
    assert "Error: DataSetDoesNotMatchSOPClass" in output, output


def test_a_name_stored_in_another_character_set_is_found(filled: Server, tmp_path: Path) -> None:
    """The Japanese and German names of pydicom's files answer a query in UTF-8."""
    query = tmp_path / "query.dump"
    query.write_text(
        "(0008,0005) CS [ISO_IR 192]\n(0008,0052) CS [PATIENT]\n(0010,0010) PN [Äneas^*]\n(0010,0020) LO []\n",
        encoding="utf-8",
    )
    run_tool("dump2dcm", str(query), str(tmp_path / "query.dcm"))
    output = run_tool(
        "findscu", "-v", "-P", "-aec", AE_TITLE, "127.0.0.1", str(filled.port), str(tmp_path / "query.dcm"),
        check=False,
    ).stdout  # fmt: skip
    assert "Find Response: 1" in output, output
