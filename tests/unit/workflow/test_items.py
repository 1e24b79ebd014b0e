"""
Worklist items: their fields, what they are kept as, and files of them.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.dataset.errors import DataSetError
from pacs.dataset.values import Value
from pacs.workflow import tags
from pacs.workflow.errors import InvalidValue, MissingValue, WorkflowError
from pacs.workflow.files import FilesRefused, items_of_wl, read_files
from pacs.workflow.item import ItemStatus, item_from_fields, items_of
from pacs.workflow.stored_form import from_stored, to_stored
from tests.dicom import element
from tests.worklist import scheduled, write_wl

FIELDS: dict[str, Any] = {
    "patient_id": "P1",
    "patient_name": "Yamada^Tarou=山田^太郎",
    "birth_date": "1970-02-28",
    "modality": "CT",
    "station_ae_title": "CT_SCANNER_1",
    "scheduled_datetime": "2026-11-25T10:30:00",
    "description": "Thorax",
}


def test_fields_come_back_as_they_were_given() -> None:
    fields = item_from_fields(FIELDS).as_dict()
    assert {name: fields[name] for name in FIELDS} == {**FIELDS, "birth_date": "19700228"}
    assert fields["status"] == "SCHEDULED"
    assert fields["study_instance_uid"].startswith("2.25.")
    assert fields["step_id"]
    assert fields["requested_procedure_id"]
    assert fields["accession_number"] == ""


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"patient_id": ""}, MissingValue, "patient_id"),
        ({"patient_name": None}, MissingValue, "patient_name"),
        ({"modality": ""}, MissingValue, "modality"),
        ({"scheduled_datetime": ""}, MissingValue, "scheduled_datetime"),
        ({"scheduled_datetime": "tomorrow"}, InvalidValue, "scheduled_datetime"),
        ({"scheduled_datetime": "0001-01-01T00:00:00+14:00"}, InvalidValue, "scheduled_datetime"),
        ({"scheduled_datetime": "9999-12-31T23:59:59-14:00"}, InvalidValue, "scheduled_datetime"),
        ({"birth_date": "19700231"}, InvalidValue, "birth_date"),
        ({"birth_date": "1.2.1970"}, InvalidValue, "birth_date"),
        ({"modality": "ct"}, InvalidValue, "modality"),
        ({"accession_number": "x" * 17}, InvalidValue, "accession_number"),
        ({"accession_number": "a\\b"}, InvalidValue, "accession_number"),
        ({"patient_name": "Doe\nJane"}, InvalidValue, "patient_name"),
        ({"patient_name": "Doe^J\udce4n"}, InvalidValue, "patient_name"),
        ({"study_instance_uid": "1.02"}, InvalidValue, "study_instance_uid"),
        ({"station_ae_title": "ÄE"}, InvalidValue, "station_ae_title"),
        ({"status": "DONE"}, InvalidValue, "status"),
        ({"patient_id": 7}, InvalidValue, "patient_id"),
        ({"patientid": "P1"}, InvalidValue, "patientid"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not(
    change: dict[str, Any], error: type[WorkflowError], named: str
) -> None:
    with pytest.raises(error, match=f"^{named}: ") as caught:
        item_from_fields({**FIELDS, **change})
    (value,) = change.values()
    assert not value or len(str(value)) < 2 or str(value) not in str(caught.value)


def test_what_replaces_an_item_keeps_its_identifiers_and_what_fields_do_not_reach() -> None:
    before = item_from_fields({**FIELDS, "accession_number": "A1"})
    with_more = type(before)(7, ItemStatus.STARTED, {**before.values, 0x00102000: Value("LO", "pacemaker")})
    after = item_from_fields({**FIELDS, "patient_id": "P2"}, before=with_more)
    assert (after.pk, after.status) == (7, ItemStatus.STARTED)
    assert after.text(tags.PATIENT_ID) == "P2"
    assert after.text(tags.ACCESSION_NUMBER) == ""
    assert after.text(0x00102000) == "pacemaker"
    for tag in (tags.STUDY_INSTANCE_UID, tags.STEP_ID, tags.REQUESTED_PROCEDURE_ID):
        assert after.text(tag) == before.text(tag)


def test_the_description_of_the_procedure_follows_that_of_the_step_it_was_made_of() -> None:
    made = item_from_fields(FIELDS)
    assert made.text(tags.REQUESTED_PROCEDURE_DESCRIPTION) == "Thorax"
    changed = item_from_fields({**FIELDS, "description": "Abdomen"}, before=made)
    assert changed.text(tags.REQUESTED_PROCEDURE_DESCRIPTION) == "Abdomen"
    (ordered,) = items_of({**made.values, tags.REQUESTED_PROCEDURE_DESCRIPTION: Value("LO", "CT of the thorax")})
    changed = item_from_fields({**FIELDS, "description": "Abdomen"}, before=ordered)
    assert changed.text(tags.REQUESTED_PROCEDURE_DESCRIPTION) == "CT of the thorax"


def test_days_of_long_ago_keep_their_zeros() -> None:
    then = "0931-05-06T10:30:00"
    fields = item_from_fields({**FIELDS, "birth_date": then[:10], "scheduled_datetime": then}).as_dict()
    assert (fields["birth_date"], fields["scheduled_datetime"]) == ("09310506", then)


def test_a_moment_with_an_offset_is_the_servers_time() -> None:
    zulu = item_from_fields({**FIELDS, "scheduled_datetime": "2026-11-25T10:30:00Z"}).as_dict()
    same = item_from_fields({**FIELDS, "scheduled_datetime": "2026-11-25T12:30:00+02:00"}).as_dict()
    assert zulu["scheduled_datetime"] == same["scheduled_datetime"]


def test_each_scheduled_step_of_a_data_set_is_an_item_of_one_study() -> None:
    values = {
        tags.PATIENT_ID: Value("LO", "P1"),
        tags.SCHEDULED_STEP_SEQUENCE: Value(
            "SQ", "", ({tags.STEP_ID: Value("SH", "S1")}, {tags.STEP_STATUS: Value("CS", "ARRIVED")})
        ),
    }
    first, second = items_of(values)
    assert first.text(tags.STEP_ID) == "S1"
    assert second.text(tags.STEP_ID) not in ("", "S1")
    assert second.status is ItemStatus.SCHEDULED
    assert first.text(tags.STUDY_INSTANCE_UID) == second.text(tags.STUDY_INSTANCE_UID) != ""
    with pytest.raises(MissingValue):
        items_of({tags.PATIENT_ID: Value("LO", "P1")})


_texts = st.builds(Value, st.sampled_from(["LO", "PN", "SH", "UI"]), st.text(max_size=20))
_values = st.recursive(
    st.dictionaries(st.integers(0x00080000, 0xFFFFFFFF), _texts, max_size=4),
    lambda inner: st.dictionaries(
        st.integers(0x00080000, 0xFFFFFFFF),
        st.one_of(_texts, st.lists(inner, max_size=3).map(lambda items: Value("SQ", "", tuple(items)))),
        max_size=4,
    ),
    max_leaves=12,
)


@given(_values)
def test_what_is_stored_comes_back(values: dict[int, Value]) -> None:
    assert from_stored(to_stored(values)) == values


def test_rows_of_tables_and_objects_are_items(tmp_path: Path) -> None:
    columns = [*FIELDS]
    for name, delimiter in (("comma.csv", ","), ("semicolon.csv", ";"), ("tab.csv", "\t")):
        rows = [columns, [FIELDS[column] for column in columns]]
        (tmp_path / name).write_text("\ufeff" + "\r\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
    (tmp_path / "list.json").write_text(json.dumps([FIELDS, FIELDS]), encoding="utf-8")
    (tmp_path / "answer.json").write_text(json.dumps({"data": [FIELDS]}), encoding="utf-8")
    (tmp_path / "one.json").write_text(json.dumps(FIELDS), encoding="utf-8")
    items = read_files(sorted(tmp_path.iterdir()))
    assert len(items) == 7
    assert {item.text(tags.PATIENT_NAME) for item in items} == {FIELDS["patient_name"]}


def test_every_fault_of_every_file_is_reported_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("patient_id,modality\nP1,CT\nP2,ct,more\n")
    (tmp_path / "b.json").write_text('[{"patient_id": "P1"},\n')
    (tmp_path / "c.json").write_text('["x"]')
    (tmp_path / "d.wl").write_bytes(b"no data set at all")
    (tmp_path / "e.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FilesRefused) as caught:
        read_files([*sorted(tmp_path.iterdir()), tmp_path / "missing.csv"])
    places = [fault.removeprefix(f"{tmp_path}/").split(" ")[0] for fault in caught.value.faults]
    assert places == ["a.csv:2:", "a.csv:3:", "b.json:", "c.json:", "d.wl:", "e.csv:", "missing.csv:"]


def test_a_file_that_is_nested_too_deeply_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(FilesRefused, match="nested too deeply"):
        read_files([tmp_path / "deep.json"])


def test_bare_data_sets_are_worklist_files_too(tmp_path: Path) -> None:
    """wlmscpfs reads them; the encoding is told by the first element."""
    write_wl(tmp_path, (scheduled(1),))
    whole = (tmp_path / "item1.wl").read_bytes()
    start = whole.index(b"\x08\x00\x50\x00SH")
    (item,) = items_of_wl(whole[start:])
    assert item.text(tags.ACCESSION_NUMBER) == "ACC1"
    assert item.step[0x00400008].items is not None


def test_group_lengths_are_not_kept() -> None:
    """Old systems write them; answered, they would be wrong, since what is answered is encoded anew."""
    step = element(0x00400000, "UL", bytes(4)) + element(tags.STEP_ID, "SH", b"S1")
    sequence = element(tags.SCHEDULED_STEP_SEQUENCE, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(step)) + step)
    patient = element(0x00100000, "UL", bytes(4)) + element(tags.PATIENT_ID, "LO", b"P1")
    (item,) = items_of_wl(patient + element(0x00400000, "UL", bytes(4)) + sequence)
    assert item.text(tags.PATIENT_ID) == "P1"
    assert [tag for tag in (*item.values, *item.step) if not tag & 0xFFFF] == []


@given(st.binary(max_size=300))
def test_garbage_is_refused_as_garbage(data: bytes) -> None:
    try:
        items_of_wl(data)
    except (DataSetError, WorkflowError):
        return
