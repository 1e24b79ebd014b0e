"""
The audit log of a running server: what is recorded of what real peers do, and that it stays whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pacs.dimse import CFindRQ
from tests.audit import audit_log_path, check_message, messages, records, wait_for_record
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, Rejected, ct_data_set, element, pdv
from tests.server import Server, run_tool

CT = (CT_IMAGE_STORAGE, EXPLICIT)


def verify(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `pacsctl audit verify`."""
    pacsctl = Path(sys.executable).with_name("pacsctl")
    return subprocess.run(
        [str(pacsctl), "audit", "verify", "-c", str(server.config), *options],
        cwd=server.directory,
        capture_output=True,
        text=True,
        timeout=60,
    )


def store(server: Server, *uids: str, calling: str = "TESTER", study: str = "1.2.3", patient_id: str = "ID1") -> None:
    with Client(server.port, CT, calling=calling) as client:
        for number, uid in enumerate(uids):
            data_set = ct_data_set(uid, study=study, series=f"{study}.1", patient_id=patient_id)
            assert client.store(data_set, uid, message_id=number + 1).status == 0


def test_start_stop_store_query_and_rejection_are_recorded(make_server: MakeServer) -> None:
    server = make_server()
    store(server, *(f"1.2.3.{number}" for number in range(20)))
    run_tool(
        "findscu", "-S", "-aec", "PROD_PACS", "-aet", "ASKER", "-k", "QueryRetrieveLevel=STUDY",
        "-k", "PatientName=Doe*", "localhost", str(server.port),
    )  # fmt: skip
    with pytest.raises(Rejected):
        Client(server.port, called="WRONG", calling="STRANGER")
    wait_for_record(server, "110104")
    wait_for_record(server, "STRANGER")
    assert server.stop() == 0
    for record in records(server):
        check_message(record["message"])

    (transfer,) = messages(server, "110104")
    source, destination = transfer.findall("ActiveParticipant")
    assert source.get("AlternativeUserID") == "AETITLES=TESTER"
    assert source.get("NetworkAccessPointID") == "127.0.0.1"
    assert destination.get("AlternativeUserID") == "AETITLES=PROD_PACS"
    study, patient = transfer.findall("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == "1.2.3"
    (counted,) = study.iter("SOPClass")
    assert (counted.get("UID"), counted.get("NumberOfInstances")) == (CT_IMAGE_STORAGE, "20")
    assert patient.get("ParticipantObjectID") == "ID1"

    (query,) = messages(server, "110112")
    identifier = next(query.iter("ParticipantObjectQuery")).text or ""
    assert b"Doe*" in base64.b64decode(identifier)
    types = [code.get("csd-code") for m in messages(server, "110100") for code in m.iter("EventTypeCode")]
    assert types == ["110120", "110121"]
    assert "called AE title" in messages(server, "110113")[0][0][-1].text  # type: ignore[operator]
    assert verify(server).returncode == 0


def test_a_retrieval_is_recorded_when_it_begins_and_when_it_has_ended(server: Server, tmp_path: Path) -> None:
    store(server, "1.2.3.1", "1.2.3.2")
    run_tool(
        "getscu", "-S", "-aec", "PROD_PACS", "-aet", "GETTER", "-od", str(tmp_path),
        "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3", "localhost", str(server.port),
    )  # fmt: skip
    wait_for_record(server, "GETTER", number=2)
    (begin,) = messages(server, "110102")
    transfers = [m for m in messages(server, "110104") if m[0].get("EventActionCode") == "R"]
    for message in (begin, *transfers):
        check_message(ElementTree.tostring(message, encoding="unicode"))
        assert [p.get("AlternativeUserID") for p in message.findall("ActiveParticipant")] == [
            "AETITLES=PROD_PACS",
            "AETITLES=GETTER",
        ]
        objects = [o.get("ParticipantObjectID") for o in message.findall("ParticipantObjectIdentification")]
        assert objects == ["1.2.3", "ID1"]
    assert [c.get("NumberOfInstances") for c in transfers[0].iter("SOPClass")] == ["2"]


def test_an_object_under_another_patient_raises_a_security_alert(server: Server) -> None:
    store(server, "1.2.3.1")
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set("1.2.3.1", patient_id="ID2"), "1.2.3.1").status == 0xC000
    (alert,) = wait_for_record(server, "110113")
    assert "1.2.3.1" in alert["message"]
    assert "ID2" not in alert["message"]


def test_verify_works_beside_a_server_and_names_the_first_bad_record(make_server: MakeServer) -> None:
    server = make_server()
    for number in range(5):
        store(server, f"1.2.9.{number}", study=f"1.2.9.{number}")
        wait_for_record(server, f"1.2.9.{number}")
    result = json.loads(verify(server, "--json").stdout)
    assert result["intact"] is True
    wait_for_record(server, "Security Audit Log")
    assert server.stop() == 0
    assert json.loads(verify(server, "--json").stdout)["intact"] is True
    assert json.loads(verify(server, "--json").stdout)["records"] == result["records"] + 4
    used = [check_message(record["message"]) for record in records(server, "110101")]
    assert len(used) == 3
    path = audit_log_path(server)
    path.write_bytes(path.read_bytes().replace(b"1.2.9.2", b"1.2.9.7", 1))
    bad = next(r["sequence"] for r in records(server) if "1.2.9.7" in r["message"])
    result_of_bad = verify(server)
    assert result_of_bad.returncode == 1
    assert f"record {bad} " in result_of_bad.stderr


def test_the_servers_log_says_how_far_the_audit_log_goes(make_server: MakeServer) -> None:
    """RELIABILITY G3: whoever cuts the end off does not reach that log."""
    server = make_server()
    assert server.stop() == 0
    last = audit_log_path(server).read_bytes().split(b"\n")[-2]
    number, digest = records(server)[-1]["sequence"], hashlib.sha256(last).hexdigest()
    assert f"the audit log goes to record {number}, SHA-256 {digest}" in server.log()


def test_the_chain_goes_on_after_a_kill(make_server: MakeServer) -> None:
    """What was written before is there, the chain is whole, and the start says what it found."""
    server = make_server()
    for round_ in range(3):
        store(server, f"1.2.4.{round_}", study=f"1.2.4.{round_}")
        wait_for_record(server, f"1.2.4.{round_}")
        server.kill()
        server.start()
    assert json.loads(verify(server, "--json").stdout)["intact"] is True
    assert len(records(server, "110104")) == 3
    wait_for_record(server, "110120", number=4)


def test_a_server_does_not_start_without_the_key_of_its_log(make_server: MakeServer) -> None:
    server = make_server()
    wait_for_record(server, "110120")
    server.stop()
    (server.root / "audit.key").unlink()
    with pytest.raises(RuntimeError, match="restore it"):
        server.start()


def test_patient_data_is_not_served_while_the_audit_log_cannot_be_written(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """A small file system of its own becomes full (RELIABILITY S7); C-ECHO goes on; all is well when there is room."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        server = make_server({"logging": {"audit_log_path": str(place / "audit.log"), "audit_reserve_bytes": 65536}})
        filler = place / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass
        refused = fill_by_queries(server)
        assert refused == 0xA700
        with Client(server.port) as client:
            assert client.echo() == 0
        with Client(server.port, CT) as client:
            response = client.store(ct_data_set("1.2.5.1"), "1.2.5.1")
        assert (response.status, response.error_comment) == (0xA700, "the audit log cannot be written")
        assert "audit is unhealthy" in server.log()
        filler.unlink()
        wait_for_service(server)
        assert verify(server).returncode == 0
        assert server.stop(signal.SIGTERM) == 0
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_by_queries(server: Server) -> int:
    """Ask until the audit log is full; give the status of the refusal."""
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    identifier = element(0x00080052, "CS", b"STUDY") + element(0x00100010, "PN", b"x" * 10_000)
    with Client(server.port, (find, EXPLICIT)) as client:
        for number in range(1, 2000):
            client.send_command(CFindRQ(message_id=number, affected_sop_class_uid=find, has_data_set=True))
            client.socket.sendall(pdv(identifier))
            response = client.response()
            if response.status:
                return response.status
    return 0


def wait_for_service(server: Server) -> None:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        with Client(server.port, CT) as client:
            if client.store(ct_data_set("1.2.5.2"), "1.2.5.2").status == 0:
                return
        time.sleep(0.1)
    raise AssertionError(server.log())
