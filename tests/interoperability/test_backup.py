"""
`pacsctl verify`, `backup` and `restore`: the drill of RELIABILITY S9, on real files, beside a server that receives.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.audit import check_message, records
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.http import HTTP, fetch, new_token
from tests.samples import Sample, samples
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)
CHECKSUMS_S = 30.0


def some_samples() -> list[Sample]:
    """Give real files of many kinds, short ones, one of each UID."""
    short = {sample.sop_instance_uid: sample for sample in samples() if len(sample.data_set) < 200_000}
    return list(short.values())[:15]


def store_samples(server: Server) -> None:
    for sample in some_samples():
        with Client(server.port, (sample.sop_class_uid, sample.transfer_syntax_uid)) as client:
            answer = client.store(sample.data_set, sample.sop_instance_uid, sop_class_uid=sample.sop_class_uid)
            assert answer.status in (0, 0xC000), answer  # two samples are of one UID and two patients


def pacsctl(server: Server, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("pacsctl")), *arguments, "-c", str(server.config)]
    ended = subprocess.run(command, cwd=server.directory, capture_output=True, text=True, timeout=120, check=False)
    assert not check or ended.returncode == 0, ended.stderr
    return ended


def wait_for_checksums(server: Server) -> None:
    deadline_s = time.monotonic() + CHECKSUMS_S
    while True:
        with closing(sqlite3.connect(server.root / "index.db")) as index:
            if not index.execute("SELECT count(*) FROM instances WHERE sha256 IS NULL").fetchone()[0]:
                return
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def contents(root: Path) -> dict[str, bytes]:
    """Give the objects of an archive or a backup by their paths."""
    paths = (path for path in (root / "objects").rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture
def filling(make_server: MakeServer) -> Iterator[Server]:
    """Give a server with real files, that goes on receiving small ones, and replaces one now and then."""
    server = make_server(HTTP | {"security": {"access_control": {"default_role": "administrator"}}})
    store_samples(server)
    is_over = threading.Event()

    def fill() -> None:
        with Client(server.port, CT) as client:
            number = 0
            while not is_over.wait(0.01):
                number += 1
                uid = f"1.2.99.{number if number % 25 else number // 25}"
                pixels = number.to_bytes(4, "little") * 16
                data = ct_data_set(uid, study="1.2.99", series="1.2.99.1000", pixels=pixels)
                assert client.store(data, uid, message_id=number).status == 0

    thread = threading.Thread(target=fill)
    thread.start()
    yield server
    is_over.set()
    thread.join()


def test_a_backup_of_a_busy_server_is_whole_and_comes_back(
    filling: Server, make_server: MakeServer, tmp_path: Path
) -> None:
    destination = tmp_path / "backup"
    token = new_token(filling, "viewer")
    fetch(filling, "/api/v1/worklist", method="POST", json_body=_ITEM)
    made = json.loads(pacsctl(filling, "backup", str(destination), "--json").stdout)
    assert made["missing"] == []
    assert made["objects"] == made["linked"] == len(contents(destination)) > len(some_samples())
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=destination, check=True)
    (exported,) = records(filling, "110106")
    check_message(exported["message"])
    assert destination.as_uri() in exported["message"]
    assert 'ParticipantObjectID="1.2.99"' in exported["message"]

    other = make_server(HTTP, name="other")
    assert other.stop() == 0
    refused = pacsctl(other, "restore", str(destination), check=False)
    assert refused.returncode == 1
    assert "index.db is there already" in refused.stderr
    (other.root / "index.db").unlink()
    (other.root / "index.db-wal").write_bytes(b"of a server that was killed")
    for rest in ("index.db-wal", "journal"):  # either would be applied to what was restored
        refused = pacsctl(other, "restore", str(destination), check=False)
        assert refused.returncode == 1
        assert f"{rest} is there already" in refused.stderr
        (other.root / rest).unlink()
    for path in (other.root, other.directory / "pacs_data"):
        shutil.rmtree(path)
    restored = json.loads(pacsctl(other, "restore", str(destination), "--json").stdout)
    assert (restored["objects"], restored["faults"]) == (made["objects"], [])
    assert contents(other.root) == contents(destination)
    other.start()
    assert fetch(other, "/api/v1/studies", token=token).status == 200
    assert fetch(other, "/api/v1/worklist", token=token).json["data"][0]["patient_id"] == _ITEM["patient_id"]
    for sample in some_samples()[:3]:
        file = fetch(other, f"/api/v1/instances/{sample.sop_instance_uid}/file", token=token)
        assert file.body.endswith(sample.data_set)
    assert json.loads(pacsctl(other, "audit", "verify", "--json").stdout)["intact"] is True
    assert any("restored from a backup" in record["message"] for record in records(other, "110113"))
    assert records(other)[0] == records(filling)[0]


def test_a_backup_that_was_changed_is_not_taken_for_whole(
    server: Server, make_server: MakeServer, tmp_path: Path
) -> None:
    uid = "1.2.3.4"
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set(uid), uid).status == 0
    assert server.stop() == 0
    destination = tmp_path / "backup"
    pacsctl(server, "backup", str(destination), "--copy")
    assert len(records(server, "110106")) == 1
    (path,) = (destination / name for name in contents(destination))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    shutil.rmtree(server.root)
    refused = pacsctl(server, "restore", str(destination), check=False)
    assert refused.returncode == 1
    assert f"{path} is not what was backed up" in refused.stderr


def test_verify_names_what_is_missing_or_altered_and_changes_nothing(server: Server) -> None:
    uids = [f"1.2.3.{number}" for number in range(4)]
    with Client(server.port, CT) as client:
        for uid in uids:
            assert client.store(ct_data_set(uid), uid).status == 0
    wait_for_checksums(server)
    assert pacsctl(server, "verify").stdout.strip() == "4 objects, all as they were stored"
    altered, gone = (next(path for path in server.objects() if path.stem == uid) for uid in uids[:2])
    data = bytearray(altered.read_bytes())
    data[-1] ^= 1
    altered.write_bytes(data)
    gone.unlink()
    before = server.objects()
    found = pacsctl(server, "verify", "--json", check=False)
    assert found.returncode == 1
    assert json.loads(found.stdout)["faults"] == [
        {"sop_instance_uid": uids[0], "fault": "its file is not what was stored"},
        {"sop_instance_uid": uids[1], "fault": "its file is missing"},
    ]
    assert server.objects() == before


_ITEM = {
    "patient_id": "P1",
    "patient_name": "Doe^Jane",
    "modality": "CT",
    "station_ae_title": "CT1",
    "scheduled_datetime": "2026-11-25T10:30",
}
