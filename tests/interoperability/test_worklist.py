"""
Modality Worklist: the same items here and in DCMTK's wlmscpfs are found by the same keys, sequences and ranges, with
the same values (PS3.4 K.6).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.dicom import Client
from tests.server import AE_TITLE, Server, run_tool
from tests.worklist import ITEMS, accession_numbers, find, keys, pacsctl, plain, scheduled, wlmscpfs, write_wl


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    """Give our server and the port of wlmscpfs, with the same items."""
    directory = tmp_path_factory.mktemp("worklist")
    write_wl(directory / "wl" / AE_TITLE)
    server = Server(directory)
    server.start()
    imported = pacsctl(server, "import", str(directory / "wl"), "--json")
    assert imported.stdout.strip() == f'{{"added": {len(ITEMS)}, "replaced": 0}}'
    with wlmscpfs(directory / "wl") as port:
        yield server, port
    assert server.stop() == 0


STEP_KEYS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 4, 5, 6]),
    ({"ScheduledStationAETitle": "CT_SCANNER_1"}, [1, 6]),
    ({"ScheduledStationAETitle": "NOBODY"}, []),
    ({"Modality": "MR"}, [3, 4]),
    ({"ScheduledPerformingPhysicianName": "Chase^Robert"}, [4]),
    ({"ScheduledPerformingPhysicianName": "Ch*"}, [4]),
    ({"ScheduledProcedureStepStartDate": "20261126"}, [3, 4]),
    ({"ScheduledProcedureStepStartDate": "20261126-20261127"}, [3, 4, 5]),
    ({"ScheduledProcedureStepStartDate": "-20261126"}, [1, 2, 3, 4]),
    ({"ScheduledProcedureStepStartDate": "20261127-"}, [5, 6]),
    ({"ScheduledProcedureStepStartTime": "080000-100000"}, [1, 3, 5]),
    ({"ScheduledProcedureStepStartTime": "143000"}, [2]),
    ({"ScheduledProcedureStepStartTime": "-093015"}, [3, 5]),
    (
        {"ScheduledProcedureStepStartDate": "20261125-20261126", "ScheduledProcedureStepStartTime": "120000-120000"},
        [2, 3],
    ),
    (
        {"ScheduledProcedureStepStartDate": "20261126-20261127", "ScheduledProcedureStepStartTime": "170000-093015"},
        [4, 5],
    ),
    ({"Modality": "CT", "ScheduledStationAETitle": "CT_SCANNER_2"}, [2]),
    ({"Modality": "CT", "ScheduledStationAETitle": "MR_SCANNER_1"}, []),
]


@pytest.mark.parametrize(("step", "expected"), STEP_KEYS, ids=[repr(step) for step, _ in STEP_KEYS])
def test_keys_of_the_scheduled_step_find_what_wlmscpfs_finds(
    servers: tuple[Server, int], step: dict[str, Any], expected: list[int]
) -> None:
    server, port = servers
    ours = accession_numbers(find(server.port, keys(**step)))
    assert ours == [f"ACC{number}" for number in expected]
    assert ours == accession_numbers(find(port, keys(**step)))


ITEM_KEYS: list[tuple[dict[str, Any], list[int]]] = [
    ({"PatientName": "Doe^Jane"}, [1, 4]),
    ({"PatientName": "Doe*"}, [1, 2, 4, 6]),
    ({"PatientName": "?oe^*"}, [1, 2, 3, 4]),
    ({"PatientID": "PID5"}, [5]),
    ({"AccessionNumber": "ACC3"}, [3]),
    ({"RequestedProcedureID": "RP4"}, [4]),
    ({"PatientID": "PID5", "QueryRetrieveLevel": "PATIENT"}, [5]),  # it is no attribute of this model
]


@pytest.mark.parametrize(("item", "expected"), ITEM_KEYS, ids=[repr(item) for item, _ in ITEM_KEYS])
def test_keys_of_patient_and_procedure_find_what_wlmscpfs_finds(
    servers: tuple[Server, int], item: dict[str, Any], expected: list[int]
) -> None:
    server, port = servers
    identifier = keys()
    for keyword, value in item.items():
        setattr(identifier, keyword, value)
    ours = accession_numbers(find(server.port, identifier))
    assert ours == [f"ACC{number}" for number in expected]
    assert ours == accession_numbers(find(port, identifier))


def found_by_findscu(port: int, item: dict[str, Any], step: dict[str, Any]) -> list[str]:
    """Give the accession numbers that DCMTK's findscu shows."""
    keys_of_step = {"ScheduledStationAETitle": "", "Modality": "", "ScheduledProcedureStepStartDate": ""} | step
    wanted = {"AccessionNumber": "", "PatientName": ""} | item
    wanted |= {f"(0040,0100)[0].{keyword}": value for keyword, value in keys_of_step.items()}
    options = [option for keyword, value in wanted.items() for option in ("-k", f"{keyword}={value}")]
    shown = run_tool("findscu", "-v", "-W", "-aec", AE_TITLE, *options, "127.0.0.1", str(port)).stdout
    responses = shown.partition("Find Response")[2]
    return sorted(re.findall(r"\(0008,0050\) SH \[(\w+) *\]", responses))


def test_findscu_finds_the_same_with_every_key_here_and_in_wlmscpfs(servers: tuple[Server, int]) -> None:
    server, port = servers
    for item, step, expected in (
        *(({}, step, expected) for step, expected in STEP_KEYS),
        *((item, {}, expected) for item, expected in ITEM_KEYS),
        ({"PatientName": "Doe*"}, {"Modality": "CT", "ScheduledProcedureStepStartDate": "-20261130"}, [1, 2]),
    ):
        ours = found_by_findscu(server.port, item, step)
        assert ours == [f"ACC{number}" for number in expected], (item, step)
        assert ours == found_by_findscu(port, item, step), (item, step)


def test_names_are_fuzzy_only_when_that_was_negotiated(servers: tuple[Server, int]) -> None:
    identifier = keys()
    identifier.PatientName = "mary stone"
    assert accession_numbers(find(servers[0].port, identifier)) == []
    assert accession_numbers(find(servers[0].port, identifier, extended=b"\1\1\1")) == ["ACC5"]


FURTHER_KEYS: list[tuple[dict[str, Any], dict[str, Any], list[int]]] = [
    ({"StudyInstanceUID": ["1.2.826.0.1.2", "1.2.826.0.1.5"]}, {}, [2, 5]),
    ({"PatientBirthDate": "19610101-19631231"}, {}, [1, 2, 3]),
    ({"PatientSex": "M"}, {}, [2, 4, 6]),
    ({"PatientID": "PID*"}, {}, [1, 2, 3, 4, 5, 6]),
    ({"ReferringPhysicianName": "cuddy*"}, {}, [1, 2, 3, 4, 5, 6]),
    ({"PregnancyStatus": 3}, {}, []),
    ({}, {"ScheduledProcedureStepDescription": "step 6"}, [6]),
    ({}, {"ScheduledProcedureStepStatus": "SCHEDULED"}, [1, 2, 3, 4, 5, 6]),
    ({}, {"ScheduledProcedureStepStatus": "COMPLETED"}, []),
]


@pytest.mark.parametrize(("item", "step", "expected"), FURTHER_KEYS, ids=[repr(key[:2]) for key in FURTHER_KEYS])
def test_every_other_attribute_is_a_key_too(
    servers: tuple[Server, int], item: dict[str, Any], step: dict[str, Any], expected: list[int]
) -> None:
    """wlmscpfs does not match these: PS3.4 K.6 leaves them to the SCP."""
    identifier = keys(**step)
    for keyword, value in item.items():
        setattr(identifier, keyword, value)
    assert accession_numbers(find(servers[0].port, identifier)) == [f"ACC{number}" for number in expected]


def test_keys_within_nested_sequences_are_matched(servers: tuple[Server, int]) -> None:
    wanted = Dataset()
    wanted.CodeValue, wanted.CodeMeaning = "S2", ""
    (answer,) = find(servers[0].port, keys(ScheduledProtocolCodeSequence=[wanted]))
    assert answer.AccessionNumber == "ACC2"
    (item,) = answer.ScheduledProcedureStepSequence[0].ScheduledProtocolCodeSequence
    assert (item.CodeValue, item.CodeMeaning) == ("S2", "a protocol")
    assert "CodingSchemeDesignator" not in item


def emptied(item: Dataset) -> Dataset:
    """Give an identifier that wants every attribute of an item."""
    identifier = Dataset()
    for element in item:
        if element.VR == "SQ":
            identifier.add_new(element.tag, "SQ", [emptied(inner) for inner in element.value[:1]])
        else:
            identifier.add_new(element.tag, element.VR, None)
    return identifier


def test_every_return_key_has_the_value_that_wlmscpfs_gives(servers: tuple[Server, int]) -> None:
    server, port = servers
    identifier = emptied(ITEMS[0])
    ours = {answer.AccessionNumber: plain(answer) for answer in find(server.port, identifier)}
    theirs = {answer.AccessionNumber: plain(answer) for answer in find(port, identifier)}
    assert set(ours) == set(theirs) == {f"ACC{number}" for number in range(1, 7)}
    for number, answer in theirs.items():
        unknown_to_them = {tag for tag in ours[number] if tag not in answer}
        assert {tag: value for tag, value in ours[number].items() if tag not in unknown_to_them} == answer


def test_every_return_key_comes_back_as_it_was_given(servers: tuple[Server, int]) -> None:
    answers = {answer.AccessionNumber: answer for answer in find(servers[0].port, emptied(ITEMS[0]))}
    for item in ITEMS:
        assert plain(answers[item.AccessionNumber]) == plain(item)


def test_keys_that_an_item_lacks_are_answered_empty(servers: tuple[Server, int]) -> None:
    identifier = keys(CommentsOnTheScheduledProcedureStep="", ScheduledSpecimenSequence=[])
    identifier.AccessionNumber = "ACC1"
    identifier.VisitComments = ""
    identifier.ReferencedPatientSequence = [Dataset()]
    identifier.OrderEnteredBy = ""
    (answer,) = find(servers[0].port, identifier)
    assert answer.VisitComments == ""
    assert answer.OrderEnteredBy == ""
    assert list(answer.ReferencedPatientSequence) == []
    assert answer.ScheduledProcedureStepSequence[0].CommentsOnTheScheduledProcedureStep == ""
    assert list(answer.ScheduledProcedureStepSequence[0].ScheduledSpecimenSequence) == []


def test_a_sequence_without_keys_is_answered_whole(servers: tuple[Server, int]) -> None:
    identifier = Dataset()
    identifier.AccessionNumber = "ACC1"
    identifier.ScheduledProcedureStepSequence = []
    (answer,) = find(servers[0].port, identifier)
    (step,) = answer.ScheduledProcedureStepSequence
    assert step.ScheduledStationName == "ROOM1"
    assert step.ScheduledProcedureStepStatus == "SCHEDULED"


def test_findscu_of_a_new_user_works(servers: tuple[Server, int]) -> None:
    result = run_tool(
        "findscu", "-v", "-W", "-aec", AE_TITLE, "-k", "PatientName", "-k", "AccessionNumber",
        "-k", "(0040,0100)[0].Modality=MR", "-k", "(0040,0100)[0].ScheduledProcedureStepStartDate=20261126",
        "-k", "(0040,0100)[0].ScheduledProcedureStepStartTime", "127.0.0.1", str(servers[0].port),
    ).stdout  # fmt: skip
    assert result.count("(Pending)") == 2
    assert "Roe^Richard" in result
    assert "[180000]" in result


def test_wrong_keys_are_answered_with_a_status_and_harm_nobody(servers: tuple[Server, int]) -> None:
    result = run_tool(
        "findscu", "-v", "-W", "-aec", AE_TITLE, "-k", "(0040,0100)[0].ScheduledProcedureStepStartDate=tomorrow",
        "127.0.0.1", str(servers[0].port), check=False,
    ).stdout  # fmt: skip
    assert "Identifier" in result or "0xa900" in result.lower()
    with Client(servers[0].port) as client:
        assert client.echo() == 0


def test_names_of_any_script_are_found_in_the_querys_character_set(tmp_path: Path) -> None:
    items = (
        scheduled(1, name="Buc^J\u00e9r\u00f4me", SpecificCharacterSet="ISO_IR 100"),
        scheduled(2, name="Люкceмбypг", SpecificCharacterSet="ISO_IR 144"),  # noqa: RUF001
        scheduled(3, name="Yamada^Tarou=山田^太郎=やまだ^たろう", SpecificCharacterSet=["", "ISO 2022 IR 87"]),
        scheduled(4, name="Wang^XiaoDong=王^小东", SpecificCharacterSet="GB18030"),
    )
    write_wl(tmp_path / "wl", items)
    server = Server(tmp_path)
    pacsctl(server, "import", str(tmp_path / "wl"))
    server.start()
    try:
        for character_set, name, number in (
            ("ISO_IR 100", "Buc^J\u00e9r*", 1),
            ("ISO_IR 192", "Buc^J\u00e9r*", 1),
            ("ISO_IR 144", "Люкce*", 2),
            ("ISO_IR 192", "=山田*", 3),
            ("ISO_IR 192", "王*", 4),
            ("", "wang*", 4),
        ):
            identifier = keys()
            identifier.SpecificCharacterSet = character_set
            identifier.PatientName = name
            (answer,) = find(server.port, identifier)
            assert answer.AccessionNumber == f"ACC{number}"
            assert str(answer.PatientName) == str(items[number - 1].PatientName)
    finally:
        assert server.stop() == 0


def test_many_items_are_answered_in_the_order_of_schedule(tmp_path: Path) -> None:
    """More than one page of the index, and a cancel in the middle."""
    lines = ["patient_id,patient_name,modality,scheduled_datetime,accession_number"]
    lines += [f"P{n},Name^{n},CT,2026-11-25T{n % 24:02d}:{n % 60:02d},A{n:04d}" for n in range(1000)]
    (tmp_path / "many.csv").write_text("\n".join(lines))
    server = Server(tmp_path)
    pacsctl(server, "import", str(tmp_path / "many.csv"))
    server.start()
    try:
        answers = find(server.port, keys(ScheduledProcedureStepStartTime=""))
        assert len(answers) == 1000
        times = [answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime for answer in answers]
        assert times == sorted(times)
        assert len({answer.AccessionNumber for answer in answers}) == 1000
        canceled = run_tool(
            "findscu", "-v", "-W", "--cancel", "5", "-aec", AE_TITLE, "-k", "AccessionNumber", "127.0.0.1",
            str(server.port), check=False,
        ).stdout  # fmt: skip
        assert "Cancel" in canceled
    finally:
        assert server.stop() == 0
