"""
De-identification on the way in: the real server, and what is on its disk afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pydicom
import pytest

from pacs.dataset.part10 import encode_file_meta
from tests.audit import records, wait_for_record
from tests.conftest import MakeServer
from tests.deidentification import encode, minimal
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.http import fetch
from tests.server import Server, run_tool

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PATIENT: dict[str, Any] = {"patient_id": "KENNUNG-4711", "name": "Mustermann^Erika", "birth_date": "19530417"}
ORIGINAL_WORDS = (b"KENNUNG-4711", b"mustermann", b"erika", b"19530417", b"1.3.9.77")


def anonymizing(**keys: Any) -> dict[str, Any]:
    """Give a configuration."""
    return {
        "security": {
            "access_control": {"enabled": False},
            "anonymization": {"auto_anonymize": True, "ae_titles": ["TRIAL_*"], **keys},
        }
    }


def store(
    server: Server, data_set: bytes, uid: str, *, calling: str = "TRIAL_CT", sop_class: str = CT_IMAGE_STORAGE
) -> Any:
    """Store one object; give the response."""
    with Client(server.port, (sop_class, EXPLICIT), calling=calling) as client:
        return client.store(data_set, uid, sop_class_uid=sop_class)


def everything_on_disk(server: Server) -> dict[Path, bytes]:
    """Give all that the server has written, its log included."""
    files = [path for path in server.directory.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files}


def test_nothing_of_the_original_is_left(make_server: MakeServer) -> None:
    server = make_server(anonymizing())
    for number in range(3):
        uid = f"1.3.9.77.{number}"
        data = ct_data_set(uid, study="1.3.9.77.100", series="1.3.9.77.101", **PATIENT)
        assert store(server, data, uid).status == 0
    long_uid = "1.3.9.77.9"
    long = ct_data_set(long_uid, study="1.3.9.77.100", series="1.3.9.77.101", pixels=bytes(6 << 20), **PATIENT)
    assert store(server, long, long_uid).status == 0
    assert len(server.objects()) == 4
    for path in server.objects():
        data_set = pydicom.dcmread(path)
        assert data_set.PatientIdentityRemoved == "YES"
        assert "SourceApplicationEntityTitle" not in data_set.file_meta
    assert len({pydicom.dcmread(path).PatientID for path in server.objects()}) == 1
    server.stop()
    for path, content in everything_on_disk(server).items():
        for word in ORIGINAL_WORDS:
            assert word.lower() not in content.lower(), (path, word)


def test_other_senders_are_stored_as_sent(make_server: MakeServer) -> None:
    server = make_server(anonymizing())
    data = ct_data_set("1.3.9.77.1", **PATIENT)
    assert store(server, data, "1.3.9.77.1", calling="CLINIC").status == 0
    (path,) = server.objects()
    assert path.read_bytes().endswith(data)


def capture(*more: Any, uid: str = "1.3.9.77.1") -> bytes:
    """Give a secondary capture of 8 by 4 pixels, each 7."""
    return encode(
        [
            *minimal(sop_class=SECONDARY_CAPTURE, instance=uid),
            (0x00280002, "US", b"\1\0"),
            (0x00280004, "CS", b"MONOCHROME2"),
            (0x00280010, "US", b"\4\0"),
            (0x00280011, "US", b"\x08\0"),
            (0x00280100, "US", b"\x08\0"),
            (0x7FE00010, "OB", b"\7" * 32),
            *more,
        ]
    )


def test_what_may_bear_text_is_refused_and_the_audit_log_says_by_which_rule(make_server: MakeServer) -> None:
    server = make_server(anonymizing())
    response = store(server, capture(), "1.3.9.77.1", sop_class=SECONDARY_CAPTURE)
    assert response.status == 0xC000
    assert "burned_in" in response.error_comment
    assert store(server, capture((0x00280301, "CS", b"NO")), "1.3.9.77.1", sop_class=SECONDARY_CAPTURE).status == 0
    assert len(server.objects()) == 1
    server.stop()
    texts = [record["message"] for record in records(server)]
    assert any("not kept: burned_in" in text for text in texts)
    assert not any("1.3.9.77" in text for text in texts)


def test_what_can_not_be_read_is_refused(make_server: MakeServer) -> None:
    server = make_server(anonymizing())
    response = store(server, ct_data_set("1.3.9.77.1", **PATIENT)[:-7], "1.3.9.77.1")
    assert response.status == 0xC000
    assert "Mustermann" not in response.error_comment
    assert store(server, ct_data_set("1.3.9.77.2", **PATIENT), "1.3.9.77.1").status == 0xA900
    assert not server.objects()


def test_regions_of_a_device_are_blanked(make_server: MakeServer, tmp_path: Path) -> None:
    rules = tmp_path / "regions.yaml"
    rules.write_text("rules:\n  - {manufacturer: 'ACME*', rows: 4, columns: 8, blank: [[2, 1, 3, 2]]}\n")
    server = make_server(anonymizing(burned_in="clean", region_rules=str(rules)))
    other = store(server, capture((0x00080070, "LO", b"OTHER")), "1.3.9.77.1", sop_class=SECONDARY_CAPTURE)
    assert other.status == 0xC000
    ours = store(server, capture((0x00080070, "LO", b"ACME 9")), "1.3.9.77.1", sop_class=SECONDARY_CAPTURE)
    assert ours.status == 0
    data_set = pydicom.dcmread(server.objects()[0])
    rows = [data_set.PixelData[start : start + 8] for start in range(0, 32, 8)]
    blanked = b"\7\7\0\0\0\7\7\7"
    assert rows == [b"\7" * 8, blanked, blanked, b"\7" * 8]
    assert data_set.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in data_set.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize("fault", ["missing", "foreign", "unreadable"])
def test_without_its_vault_nothing_is_stored(make_server: MakeServer, fault: str) -> None:
    server = make_server(anonymizing())
    assert store(server, ct_data_set("1.3.9.77.1", **PATIENT), "1.3.9.77.1").status == 0
    assert server.stop() == 0
    vault = server.root / "vault.db"
    if fault == "missing":
        vault.unlink()
    elif fault == "foreign":
        with sqlite3.connect(vault) as connection:
            connection.execute("UPDATE site SET key = randomblob(32)")
        connection.close()
    else:
        vault.write_bytes(b"nothing that SQLite knows")
    server.start()
    response = store(server, ct_data_set("1.3.9.77.2", **PATIENT), "1.3.9.77.2")
    assert response.status == 0xC000
    assert "vault" in response.error_comment
    assert len(server.objects()) == 1
    assert vault.exists() == (fault != "missing")
    assert store(server, ct_data_set("1.3.9.77.3", patient_id="X"), "1.3.9.77.3", calling="CLINIC").status == 0


def test_a_vault_that_can_not_be_made_is_told_as_what_it_is(make_server: MakeServer) -> None:
    server = make_server(anonymizing(vault_path="/proc/nowhere/vault.db"))
    assert "nothing is de-identified, and nothing stored that is to be: the vault can't be made" in server.log()
    response = store(server, ct_data_set("1.3.9.77.1", **PATIENT), "1.3.9.77.1")
    assert (response.status, response.error_comment) == (0xC000, "not de-identified: the vault can't be made")


def component(server: Server) -> str:
    """Give the health of de-identification."""
    components: dict[str, str] = fetch(server, "/api/v1/system/status").json["components"]
    return components["deidentification"]


def test_a_vault_that_is_put_back_is_used_again_and_health_tells(make_server: MakeServer) -> None:
    """While the server runs: a patient that it knows is refused too, since the vault may come back without him."""
    server = make_server(
        {
            **anonymizing(),
            "rest_api": {"enabled": True},
            "monitoring": {"health_check_interval_seconds": 1},
        }
    )
    assert store(server, ct_data_set("1.3.9.77.1", **PATIENT), "1.3.9.77.1").status == 0
    assert component(server) == "healthy"
    vault, elsewhere = server.root / "vault.db", server.directory / "elsewhere.db"
    vault.rename(elsewhere)
    for number, patient in ((2, PATIENT), (3, {"patient_id": "KENNUNG-4712", "name": "Beispiel^Otto"})):
        response = store(server, ct_data_set(f"1.3.9.77.{number}", **patient), f"1.3.9.77.{number}")
        assert response.status == 0xC000
        assert "vault" in response.error_comment
    assert component(server) == "unhealthy"
    shutil.copy(elsewhere, vault)
    server.wait_for_log("deidentification is healthy")
    for number in (2, 3):
        assert store(server, ct_data_set(f"1.3.9.77.{number}", **PATIENT), f"1.3.9.77.{number}").status == 0
    assert len({pydicom.dcmread(path).PatientID for path in server.objects()}) == 1


def test_a_study_in_two_halves_is_one_study(make_server: MakeServer) -> None:
    """A year and a restart apart: references are intact, and intervals between dates are equal."""
    server = make_server(anonymizing(profile="retain_longitudinal", uids="map"))
    first = ct_data_set("1.3.9.77.1", study="1.3.9.77.100", series="1.3.9.77.101", study_date="20230301", **PATIENT)
    assert store(server, first, "1.3.9.77.1").status == 0
    assert server.stop() == 0
    server.start()
    reference = [(0x00081150, "UI", CT_IMAGE_STORAGE.encode()), (0x00081155, "UI", b"1.3.9.77.1")]
    second = encode(
        [
            (0x00080016, "UI", CT_IMAGE_STORAGE.encode()),
            (0x00080018, "UI", b"1.3.9.77.2"),
            (0x00080020, "DA", b"20230301"),
            (0x00080022, "DA", b"20240229"),
            (0x00081115, "SQ", [[(0x00081199, "SQ", [reference])]]),
            (0x00100010, "PN", b"Mustermann^Erika"),
            (0x00100020, "LO", b"KENNUNG-4711"),
            (0x0020000D, "UI", b"1.3.9.77.100"),
            (0x0020000E, "UI", b"1.3.9.77.102"),
        ]
    )
    assert store(server, second, "1.3.9.77.2").status == 0
    one, other = sorted(map(pydicom.dcmread, server.objects()), key=lambda data_set: "AcquisitionDate" in data_set)
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert one.PatientID == other.PatientID
    assert one.StudyDate == other.StudyDate != "20230301"
    referenced = other.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert referenced == one.SOPInstanceUID
    days = [date(int(text[:4]), int(text[4:6]), int(text[6:])) for text in (other.StudyDate, other.AcquisitionDate)]
    assert (days[1] - days[0]).days == (date(2024, 2, 29) - date(2023, 3, 1)).days


def pacsctl(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pacsctl on a server's configuration."""
    tool = Path(sys.executable).with_name("pacsctl")
    return subprocess.run(
        [str(tool), *arguments, "-c", str(server.config)],
        cwd=server.directory, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_pseudonym_leads_back_until_it_is_forgotten(make_server: MakeServer) -> None:
    server = make_server(anonymizing())
    data = ct_data_set("1.3.9.77.1", study="1.3.9.77.100", **PATIENT)
    assert store(server, data, "1.3.9.77.1").status == 0
    kept = pydicom.dcmread(server.objects()[0])
    found = pacsctl(server, "reidentify", kept.PatientID)
    assert found.stdout.split() == ["KENNUNG-4711"]
    wait_for_record(server, f"reidentify {kept.PatientID}: done")
    forgotten = pacsctl(server, "forget", "--patient-id", "KENNUNG-4711")
    assert forgotten.returncode == 0, forgotten.stderr
    assert kept.PatientID in forgotten.stdout
    assert kept.StudyInstanceUID in forgotten.stdout
    wait_for_record(server, f"forget {kept.PatientID}: done")
    lost = pacsctl(server, "reidentify", kept.PatientID)
    assert lost.returncode == 1
    assert "does not know" in lost.stderr
    assert not any("KENNUNG" in record["message"] for record in records(server))


def test_a_patient_whose_issuer_has_qualifiers_is_forgotten_by_the_patient_id(make_server: MakeServer) -> None:
    server = make_server(anonymizing())
    qualifiers = [(0x00400032, "UT", b"1.2.276.0.99"), (0x00400033, "CS", b"ISO")]
    for number, sequence in ((1, [qualifiers]), (2, [])):
        issued = (0x00100021, "LO", b"HOSPITAL"), (0x00100024, "SQ", sequence)
        uid = f"1.3.9.77.{number}"
        data = encode([*minimal(instance=uid, patient_id="KENNUNG-4711"), *issued])
        assert store(server, data, uid).status == 0
    pseudonyms = {str(pydicom.dcmread(path).PatientID) for path in server.objects()}
    assert len(pseudonyms) == 2
    by_number = ("forget", "--patient-id", "KENNUNG-4711", "--issuer", "HOSPITAL")
    both = pacsctl(server, *by_number)
    assert both.returncode == 1
    assert all(pseudonym in both.stderr for pseudonym in pseudonyms)
    assert pacsctl(server, "forget", pseudonyms.pop()).returncode == 0
    assert pacsctl(server, *by_number).returncode == 0
    last = pacsctl(server, *by_number)
    assert last.returncode == 1
    assert "does not know" in last.stderr


def test_what_is_kept_of_a_forgotten_patient_is_erased_with_and_without_a_server(make_server: MakeServer) -> None:
    """Under the pseudonym and originals; whoever was sent something is named; each step is in the audit log."""
    server = make_server(anonymizing())
    other = {"patient_id": "KENNUNG-4712", "name": "Beispiel^Otto"}
    for number, (patient, calling) in enumerate(((PATIENT, "TRIAL_CT"), (PATIENT, "CLINIC"), (other, "TRIAL_CT")), 1):
        data = ct_data_set(f"1.3.9.77.{number}", study=f"1.3.9.77.10{number}", **patient)
        assert store(server, data, f"1.3.9.77.{number}", calling=calling).status == 0
    copies = [pydicom.dcmread(path) for path in server.objects() if "1.3.9.77" not in path.name]
    mapped = json.loads(pacsctl(server, "reidentify", copies[0].PatientID, "--json").stdout)["identity"][0]
    ours, others = copies if mapped == "KENNUNG-4711" else copies[::-1]
    run_tool(
        "getscu", "-aet", "WARD_7", "-aec", "PROD_PACS", "-S", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={ours.StudyInstanceUID}", "--ignore", "127.0.0.1", str(server.port),
    )  # fmt: skip
    wait_for_record(server, "WARD_7")
    erased = pacsctl(server, "forget", ours.PatientID, "--erase", "--json")
    assert erased.returncode == 0, erased.stderr
    result = json.loads(erased.stdout)
    assert result["erased"]["instances"] == 2
    assert result["copies"] == [ours.StudyInstanceUID]
    assert [(copy["study_instance_uid"], copy["receiver"]) for copy in result["sent"]] == [
        (ours.StudyInstanceUID, "WARD_7 (127.0.0.1)")
    ]
    assert [path.stem for path in server.objects()] == [others.SOPInstanceUID]
    assert server.stop() == 0
    index = (server.root / "index.db").read_bytes()
    assert b"KENNUNG-4711" not in index.replace(b'"patient_id":"KENNUNG-4711"', b"")  # but for the change feed
    assert pacsctl(server, "reidentify", others.PatientID).stdout.split() == ["KENNUNG-4712"]
    alone = pacsctl(server, "forget", "--patient-id", "KENNUNG-4712", "--erase")
    assert alone.returncode == 0, alone.stderr
    assert not server.objects()
    assert len(wait_for_record(server, ": done")) == 4
    verdict = pacsctl(server, "audit", "verify")
    assert verdict.returncode == 0, verdict.stderr


@pytest.mark.parametrize("fault", ["locked vault", "no place for the report"])
def test_what_ends_a_run_over_a_folder_is_told_in_one_line(make_server: MakeServer, tmp_path: Path, fault: str) -> None:
    server = make_server(anonymizing())
    assert store(server, ct_data_set("1.3.9.77.1", **PATIENT), "1.3.9.77.1").status == 0
    source, report = tmp_path / "from", tmp_path / "report.csv"
    source.mkdir()
    meta = encode_file_meta(
        sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid="1.3.9.77.2", transfer_syntax_uid=EXPLICIT,
        source_ae_title="CT", implementation_class_uid="2.25.1", implementation_version_name="T",
    )  # fmt: skip
    (source / "a.dcm").write_bytes(meta + ct_data_set("1.3.9.77.2", patient_id="KENNUNG-4712"))
    vault = sqlite3.connect(server.root / "vault.db", isolation_level=None)
    if fault == "locked vault":
        vault.execute("BEGIN IMMEDIATE")
    else:
        report = tmp_path / "nowhere" / "report.csv"
    run = pacsctl(server, "deidentify", str(source), str(tmp_path / "to"), "--report", str(report), "--json")
    vault.close()
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1, run.stderr
    assert "begin again to go on" in run.stderr
    assert not any(path.is_file() for path in (tmp_path / "to").rglob("*"))


def test_a_folder_is_de_identified_and_a_second_run_goes_on(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(anonymizing())
    source, target = tmp_path / "from", tmp_path / "to"
    (source / "Mustermann").mkdir(parents=True)
    for number in range(5):
        meta = encode_file_meta(
            sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=f"1.3.9.77.{number}", transfer_syntax_uid=EXPLICIT,
            source_ae_title="CT", implementation_class_uid="2.25.1", implementation_version_name="T",
        )  # fmt: skip
        (source / "Mustermann" / f"{number}.dcm").write_bytes(meta + ct_data_set(f"1.3.9.77.{number}", **PATIENT))
    (source / "notes.txt").write_text("no DICOM")
    report = tmp_path / "report.csv"
    options = ("deidentify", str(source), str(target), "--profile", "gdpr", "--report", str(report), "--json")
    first = pacsctl(server, *options)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["deidentified"] == 5
    outputs = sorted(path for path in target.rglob("*") if path.is_file())
    assert len(outputs) == 5
    for path in outputs:
        assert "Mustermann" not in str(path)
        assert hashlib.sha256(b"Mustermann").hexdigest()[:12] not in path.parts, "found out by trying all names"
        assert b"mustermann" not in path.read_bytes().lower()
        assert pydicom.dcmread(path).PatientIdentityRemoved == "YES"
    outputs[0].unlink()
    second = json.loads(pacsctl(server, *options).stdout)
    assert (second["deidentified"], second["present"], second["skipped"]) == (1, 4, 1)
    assert "skipped" in report.read_text()


def test_a_pipe_among_the_files_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    source, report = tmp_path / "from", tmp_path / "report.csv"
    source.mkdir()
    os.mkfifo(source / "pipe.dcm")
    (source / "notes.txt").write_text("no DICOM")
    run = pacsctl(
        Server(tmp_path), "deidentify", str(source), str(tmp_path / "to"), "--report", str(report), "--processes", "1"
    )
    assert run.returncode == 1
    assert run.stderr == "deidentify: 1 files were not de-identified; the report tells why\n"
    assert "pipe.dcm,,failed,file,,no regular file" in report.read_text()
