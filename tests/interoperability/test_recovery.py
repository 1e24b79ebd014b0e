"""
What a crash can leave is put in order at the next start; what was acknowledged is never touched (RELIABILITY S3).
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.durability.test_kill import found_by_query
from tests.interoperability.test_operation import count_of
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)


def wait_until_swept(server: Server) -> None:
    deadline_s = time.monotonic() + 15
    while "storage is healthy" not in server.log() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert "storage is healthy" in server.log()


def crashed(make_server: MakeServer, *, pixels: bytes = bytes(64)) -> Server:
    server = make_server()
    with Client(server.port, CT) as client:
        for number in (1, 2):
            data_set = ct_data_set(f"1.2.60.{number}", name="Kept^One", pixels=pixels)
            assert client.store(data_set, f"1.2.60.{number}", message_id=number).status == 0
    server.kill()
    return server


def add_unknown(server: Server) -> Path:
    """Add the file of an object that the index does not know."""
    one = server.objects()[0]
    data = one.read_bytes()
    start = data.index(ct_data_set("1.2.60.1", name="Kept^One")[:16])
    new = data[:start].replace(b"1.2.60.1", b"1.2.60.3") + ct_data_set("1.2.60.3", name="New^One", patient_id="ID9")
    unknown = one.parent / "1.2.60.3.dcm"
    unknown.write_bytes(new)
    time.sleep(0.1)
    return unknown


def test_a_file_without_a_row_is_indexed(make_server: MakeServer) -> None:
    server = crashed(make_server)
    add_unknown(server)
    server.start()
    wait_until_swept(server)
    assert count_of(server, "PatientName=New^One") == 1


def test_a_file_without_a_row_stays_where_it_is_while_the_disk_fails(make_server: MakeServer, tmp_path: Path) -> None:
    """Nothing is wrong with the file: it is indexed at the next start, and until then it is said that it is not."""
    server = crashed(make_server, pixels=bytes(200_000))
    unknown = add_unknown(server)
    faults = ("-e", "trace=syncfs", "-e", "inject=syncfs:error=EIO")
    server.start("strace", "-D", "-f", "-o", str(tmp_path / "trace"), *faults)
    server.wait_for_log("storage is degraded: not every file could be indexed")
    assert "every file is known" not in server.log()
    assert unknown.exists()
    assert list((server.root / "quarantine").iterdir()) == []
    server.stop()
    server.start()
    wait_until_swept(server)
    assert count_of(server, "PatientName=New^One") == 1


def test_objects_whose_index_is_gone_are_indexed(make_server: MakeServer) -> None:
    """More than are taken in at a time, none of them known."""
    server = make_server()
    with Client(server.port, CT) as client:
        for number in range(1, 301):
            uid = f"1.2.61.{number}"
            data_set = ct_data_set(uid, series="1.2.3.0")
            assert client.store(data_set, uid, message_id=number).status == 0
    assert server.stop() == 0
    for path in server.root.glob("index.db*"):
        path.unlink()
    server.start()
    wait_until_swept(server)
    assert "the index is new and there are objects" in server.log()
    assert len(found_by_query(server, {"1.2.3"})) == 300
    assert list((server.root / "quarantine").iterdir()) == []


def test_a_broken_file_without_a_row_is_put_into_quarantine(make_server: MakeServer) -> None:
    server = crashed(make_server)
    broken = server.objects()[0].parent / "1.2.60.4.dcm"
    broken.write_bytes(server.objects()[0].read_bytes()[:-10])
    time.sleep(0.1)
    server.start()
    wait_until_swept(server)
    assert not broken.exists()
    assert len(list((server.root / "quarantine").iterdir())) == 1
    assert len(server.objects()) == 2


def test_a_leftover_of_a_replaced_object_replaces_nothing(make_server: MakeServer) -> None:
    server = crashed(make_server)
    kept = server.objects()[0]
    content = kept.read_bytes()
    leftover = kept.with_name("1.2.60.1~7.dcm")
    leftover.write_bytes(content[:-4] + b"\1\2\3\4")
    time.sleep(0.1)
    server.start()
    wait_until_swept(server)
    deadline_s = time.monotonic() + 5
    while leftover.exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not leftover.exists()
    assert kept.read_bytes() == content


def test_a_row_of_the_tail_without_its_file_is_removed(make_server: MakeServer) -> None:
    """Of a long object, which the journal does not hold."""
    server = crashed(make_server, pixels=bytes(200_000))
    server.objects()[0].unlink()
    server.start()
    wait_until_swept(server)
    assert "its row is removed" in server.log()
    assert count_of(server, "PatientName=Kept^One", "NumberOfPatientRelatedInstances") == 1


def test_unfinished_objects_are_removed(make_server: MakeServer) -> None:
    server = crashed(make_server)
    shutil.copy(server.objects()[0], server.root / "incoming" / "rest")
    server.start()
    assert list((server.root / "incoming").iterdir()) == []
    assert "1 unfinished objects" in server.log()
