"""
Matching on a real index, PS3.4 C.2.2.2: the index holds pydicom's files and a few studies of known values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacs.archive.attributes import ATTRIBUTES, INDEX_TAGS, Level, index_values
from pacs.archive.headers import HeaderReader
from pacs.archive.index.finding import Finding
from pacs.archive.index.search import select_for, statement_for
from pacs.archive.index.sql import compile_select
from pacs.archive.objects.files import FileStore
from pacs.archive.query import Query, condition_for
from pacs.dataset.scanner import DataSetScanner
from tests.samples import samples

TAGS = {attribute.keyword: attribute.tag for attribute in ATTRIBUTES} | {
    "ModalitiesInStudy": 0x00080061,
    "SOPClassesInStudy": 0x00080062,
    "NumberOfPatientRelatedStudies": 0x00201200,
    "NumberOfPatientRelatedSeries": 0x00201202,
    "NumberOfPatientRelatedInstances": 0x00201204,
    "NumberOfStudyRelatedSeries": 0x00201206,
    "NumberOfStudyRelatedInstances": 0x00201208,
    "NumberOfSeriesRelatedInstances": 0x00201209,
}

Find = Callable[..., list[tuple[Any, ...]]]


def query(level: Level, wanted: tuple[str, ...], keys: dict[str, str]) -> Query:
    conditions = [condition_for(TAGS[keyword], value) for keyword, value in keys.items()]
    found = tuple(condition for condition in conditions if condition is not None)
    return Query(level, found, tuple(TAGS[keyword] for keyword in wanted))


@pytest.fixture
def find(connection: sqlite3.Connection, tmp_path: Path) -> Find:
    headers = HeaderReader(store=FileStore(tmp_path, index_directory=tmp_path))

    def find(level: Level, *wanted: str, **keys: str) -> list[tuple[Any, ...]]:
        finding = Finding(query(level, wanted, keys), headers=headers)
        statement = finding.statement
        rows = connection.execute(statement.text, statement.parameters).fetchall()
        return finding.complete(connection, rows)

    return find


def studies(find: Find, **keys: str) -> list[str]:
    """Give the last component of the known studies that are found."""
    rows = find(Level.STUDY, "StudyInstanceUID", **keys)
    return sorted(uid[2:] for (uid,) in rows if uid in {"9.1", "9.2", "9.3"})


def test_universal_matching_gives_every_study_of_the_files_once(find: Find) -> None:
    expected = set()
    for sample in samples():
        scanner = DataSetScanner(sample.transfer_syntax_uid, wanted=INDEX_TAGS)
        scanner.feed(sample.data_set)
        values = index_values(scanner.finish())
        expected.add((values.study[0], values.patient[0]))
    found = find(Level.STUDY, "StudyInstanceUID", "PatientID", StudyDescription="*")
    assert {row for row in found if not row[0].startswith("9.")} == expected


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Known^Anna", ["1"]),
        ("KNOWN^ANNA", ["1"]),
        ("Known^Anna^^", ["1"]),
        ("Known", []),
        ("Known*", ["1"]),
        ("?nown^a*", ["1"]),
        ("*^anna", ["1"]),
        ("Kn_wn^Anna", []),
        ("Mono^*", ["3"]),
        ("Mono*^*", ["3"]),
        ("Yamada^Tarou", ["2"]),
        ("yamada*", ["2"]),
        ("山田^太郎", ["2"]),
        ("山*", ["2"]),
        ("*太郎", ["2"]),
        ("やまだ^たろう", ["2"]),
        ("Yamada^Tarou=山田^太郎", ["2"]),
        ("Yamada^Tarou=田山^太郎", []),
        ("=山田^太郎", ["2"]),
    ],
)
def test_names_match_whole_without_case_and_in_any_component_group(find: Find, name: str, found: list[str]) -> None:
    assert studies(find, PatientName=name) == found


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"StudyDescription": "head"}, ["2"]),
        ({"StudyDescription": "*ead"}, ["1", "2"]),
        ({"StudyDescription": "50% Head"}, ["1"]),
        ({"StudyDescription": "5?% *"}, ["1"]),
        ({"StudyDescription": "%*"}, []),
        ({"StudyDescription": "Head!"}, ["3"]),
        ({"StudyDescription": "H*!"}, ["3"]),
        ({"AccessionNumber": "A_1"}, ["1"]),
        ({"AccessionNumber": "A_*"}, ["1"]),
        ({"AccessionNumber": "A?1"}, ["1", "2"]),
        ({"PatientID": "k1"}, []),
        ({"PatientID": "K1\\K3"}, ["1", "3"]),
        ({"PatientID": "K[12]"}, []),
    ],
)
def test_other_text_matches_with_case_and_literally(find: Find, keys: dict[str, str], found: list[str]) -> None:
    assert studies(find, **keys) == found


@pytest.mark.parametrize(
    ("date", "found"),
    [
        ("20300115", ["1"]),
        ("2030.01.15", ["1"]),
        ("20300220", ["2"]),
        ("20300101-20300131", ["1"]),
        ("20300115-20300220", ["1", "2"]),
        ("20300116-", ["2"]),
        ("-20300219", ["1"]),
        ("20300201-20310101", ["2"]),
        ("20310101-", []),
        ("2030.02.01-2030.02.28", ["2"]),
    ],
)
def test_dates_match_in_ranges_whatever_their_form(find: Find, date: str, found: list[str]) -> None:
    """Old objects have dates with points (PS3.5 6.2); a value that is no date is in no range."""
    assert studies(find, StudyDate=date) == found


@pytest.mark.parametrize(
    ("time", "found"),
    [
        ("10", ["1", "2", "3"]),
        ("1030", ["2", "3"]),
        ("103059", ["3"]),
        ("103059.75", ["3"]),
        ("10:30", ["2", "3"]),
        ("1000-1100", ["1", "2", "3"]),
        ("100000-1029", ["1"]),
        ("-1030", ["1", "2", "3"]),
        ("103001-", ["3"]),
        ("103059.8-", []),
        ("11-", []),
    ],
)
def test_times_match_by_the_precision_of_key_and_value(find: Find, time: str, found: list[str]) -> None:
    assert studies(find, StudyTime=time, PatientID="K1\\K2\\K3") == found


def test_a_key_of_several_values_matches_each(find: Find) -> None:
    assert studies(find, StudyInstanceUID="9.1\\9.3\\9.4") == ["1", "3"]
    assert studies(find, ModalitiesInStudy="SR\\US") == ["1", "3"]
    assert studies(find, ModalitiesInStudy="M?") == ["2"]
    assert studies(find, SOPClassesInStudy="1.2.4") == ["1"]
    series = find(Level.SERIES, "SeriesInstanceUID", StudyInstanceUID="9.1", Modality="SR\\MR")
    assert series == [("9.1.2",)]


def test_one_of_several_values_of_an_attribute_is_enough(find: Find) -> None:
    for operator in ("Kurie^M", "smith^jo", "kurie*", "smith*"):
        assert find(Level.SERIES, "SeriesInstanceUID", OperatorsName=operator) == [("9.1.1",)], operator
    assert find(Level.SERIES, "SeriesInstanceUID", OperatorsName="Kurie") == []
    for value in ("PRIMARY", "PRIM*"):
        assert find(Level.IMAGE, "SOPInstanceUID", SeriesInstanceUID="9.1.1", ImageType=value) == [("9.1.1.1",)]


def test_a_number_matches_whatever_its_leading_zeros(find: Find) -> None:
    """Integer strings are compared as numbers: 7, 07 and 007 are one (PS3.5 6.2, IS)."""
    for number in ("7", "007", "07"):
        assert find(Level.SERIES, "SeriesInstanceUID", StudyInstanceUID="9.1", SeriesNumber=number) == [("9.1.1",)]
    assert find(Level.SERIES, "SeriesInstanceUID", StudyInstanceUID="9.3", SeriesNumber="0") == []


def test_counts_are_those_of_what_is_kept(find: Find) -> None:
    wanted = (
        "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries", "NumberOfPatientRelatedInstances",
        "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances",
        "ModalitiesInStudy",
    )  # fmt: skip
    found = find(Level.SERIES, *wanted, SeriesInstanceUID="9.1.1")
    assert [tuple(map(str, row)) for row in found] == [("1", "2", "2", "2", "2", "1", "CT\\SR")]


def test_the_statement_that_may_be_changed_further_gives_the_same_rows(connection: sqlite3.Connection) -> None:
    asked = query(Level.SERIES, ("SeriesInstanceUID",), {"StudyInstanceUID": "9.1\\9.2", "Modality": "M*"})
    found = statement_for(asked)
    expected = connection.execute(found.text, found.parameters).fetchall()
    assert connection.execute(*compile_select(select_for(asked))).fetchall() == expected == [("9.2.1",)]


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        (Level.PATIENT, {"PatientID": "K1"}),
        (Level.STUDY, {"StudyInstanceUID": "9.1"}),
        (Level.STUDY, {"StudyDate": "20300101-20300131"}),
        (Level.STUDY, {"AccessionNumber": "A_1"}),
        (Level.STUDY, {"AccessionNumber": "A_*"}),
        (Level.STUDY, {"AccessionNumber": "A_?1*"}),
        (Level.STUDY, {"PatientName": "Known^Anna"}),
        (Level.STUDY, {"PatientName": "Known*"}),
        (Level.PATIENT, {"PatientName": "山*"}),
        (Level.PATIENT, {"PatientName": "=山田^太郎"}),
        (Level.PATIENT, {"PatientID": "K*"}),
        (Level.STUDY, {"PatientID": "K*", "StudyDate": "20300101-20300131"}),
        (Level.SERIES, {"StudyInstanceUID": "9.1"}),
        (Level.IMAGE, {"StudyInstanceUID": "9.1", "SeriesInstanceUID": "9.1.1"}),
        (Level.IMAGE, {"SOPInstanceUID": "9.1.1.1"}),
    ],
)
def test_what_people_ask_for_is_found_by_an_index(
    connection: sqlite3.Connection, level: Level, keys: dict[str, str]
) -> None:
    statement = statement_for(query(level, ("PatientID",), keys))
    text, parameters = statement.text, statement.parameters
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]
    assert not [step for step in plan if step.startswith("SCAN")], plan
