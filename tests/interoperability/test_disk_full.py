"""
A disk that is full (RELIABILITY S7): A700 and nothing half-written, reads go on, nothing acknowledged is lost, and
objects are taken again when there is room.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacs.dataset.part10 import read_file_meta
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.durability.test_barrier import attach, detach
from tests.durability.test_kill import found_by_query
from tests.filesystems import MIB, fill, small_file_system
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)
STUDY = "1.2.90"
OUT_OF_RESOURCES = 0xA700
WAIT_S = 15.0


def store(server: Server, numbers: range, *, pixels: int = 64) -> tuple[dict[str, str], bool]:
    """Store objects until one is refused; give SHA-256 of the data set by UID of the others, and whether one was."""
    acknowledged: dict[str, str] = {}
    with Client(server.port, CT) as client:
        for number in numbers:
            uid = f"{STUDY}.{number}"
            data_set = ct_data_set(uid, study=STUDY, series=f"{STUDY}.0", pixels=bytes([number % 251]) * pixels)
            status = client.store(data_set, uid, message_id=number % 65535).status
            if status != 0:
                assert status == OUT_OF_RESOURCES
                return acknowledged, True
            acknowledged[uid] = hashlib.sha256(data_set).hexdigest()
    return acknowledged, False


def on_disk(server: Server) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in server.objects():
        with path.open("rb") as file:
            meta = read_file_meta(file)
            file.seek(meta.data_set_offset)
            found[meta.sop_instance_uid] = hashlib.sha256(file.read()).hexdigest()
    return found


def check_nothing_is_lost(server: Server, acknowledged: dict[str, str]) -> None:
    assert on_disk(server) == acknowledged
    assert list((server.root / "incoming").iterdir()) == []
    assert found_by_query(server, {STUDY}) == set(acknowledged)


def store_when_taken(server: Server, number: int) -> dict[str, str]:
    """Store an object as soon as it is taken."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        acknowledged, is_full = store(server, range(number, number + 1))
        if not is_full:
            return acknowledged
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def start(directory: Path, **storage: object) -> Server:
    configuration = {"storage": storage, "monitoring": {"health_check_interval_seconds": 0.2}}
    server = Server(directory, configuration)
    server.start()
    return server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a directory for a server whose archive has 100 MiB."""
    with small_file_system(tmp_path / "small" / "data", size_bytes=100 * MIB):
        yield tmp_path / "small"


def test_a_disk_that_fills_up_in_mid_object_loses_nothing(small_disk: Path) -> None:
    filler = fill(small_disk / "data", leave_bytes=50 * MIB)
    server = start(small_disk, warn_free_percent=10)
    try:
        acknowledged, is_full = store(server, range(1, 100), pixels=4 * MIB)
        assert is_full
        assert len(acknowledged) >= 4
        assert "storage full" in server.log()
        check_nothing_is_lost(server, acknowledged)
        server.wait_for_log("storage is degraded")
        filler.unlink()
        acknowledged |= store_when_taken(server, 5001)
        server.wait_for_log("storage is healthy")
        check_nothing_is_lost(server, acknowledged)
        server.kill()
        server.start()
        check_nothing_is_lost(server, acknowledged)
    finally:
        assert server.stop() == 0, server.log()


def test_a_disk_that_becomes_read_only_in_mid_object_is_told_as_such(make_server: MakeServer, tmp_path: Path) -> None:
    """The file can't be removed either; that is no other answer, and the next start removes it."""
    server = make_server()
    faults = ("-e", "trace=writev,unlink", "-e", "inject=writev,unlink:error=EROFS")
    tracer = attach(server, tmp_path / "trace", *faults)
    assert store(server, range(1, 2), pixels=4 * MIB) == ({}, True)
    detach(tracer)
    acknowledged, is_full = store(server, range(1, 2), pixels=4 * MIB)
    assert not is_full
    assert on_disk(server) == acknowledged
    assert server.stop() == 0
    server.start()
    check_nothing_is_lost(server, acknowledged)


def test_the_reserve_is_not_touched_and_reads_go_on(small_disk: Path) -> None:
    server = start(small_disk, min_free_bytes=20 * MIB, warn_free_percent=0)
    try:
        server.wait_for_log("is ready on")
        assert "storage is degraded" not in server.log()
        acknowledged, is_full = store(server, range(1, 4))
        assert not is_full
        filler = fill(small_disk / "data", leave_bytes=19 * MIB)
        server.wait_for_log("storage is degraded: objects are refused: the reserve of free bytes is reached")
        assert store(server, range(4, 5)) == ({}, True)
        assert "the reserve of free space is reached" in server.log()
        check_nothing_is_lost(server, acknowledged)
        filler.unlink()
        server.wait_for_log("storage is healthy")
        acknowledged |= store_when_taken(server, 5002)
        check_nothing_is_lost(server, acknowledged)
    finally:
        assert server.stop() == 0, server.log()


def test_an_index_without_room_loses_nothing(tmp_path: Path) -> None:
    """SQLITE_FULL: the index alone lies on a small file system."""
    with small_file_system(tmp_path / "index", size_bytes=8 * MIB):
        directory = tmp_path / "server"
        directory.mkdir()
        server = start(directory, database={"path": str(tmp_path / "index" / "index.db")})
        try:
            first, is_full = store(server, range(1, 6))
            assert not is_full
            filler = fill(tmp_path / "index", leave_bytes=100_000)
            acknowledged, is_full = store(server, range(6, 2000))
            assert is_full
            acknowledged |= first
            assert "no room for the index" in server.log()
            check_nothing_is_lost(server, acknowledged)
            filler.unlink()
            acknowledged |= store_when_taken(server, 5003)
            check_nothing_is_lost(server, acknowledged)
            server.kill()
            server.start()
            assert acknowledged.items() <= on_disk(server).items(), "what was refused may be whole or absent"
            assert set(acknowledged) <= found_by_query(server, {STUDY})
        finally:
            assert server.stop() == 0, server.log()


def test_a_write_that_the_system_refuses_is_answered_out_of_resources(make_server: MakeServer) -> None:
    """RLIMIT_FSIZE: no file may become longer than 8 MiB; works without rights."""
    server = make_server(None, "prlimit", f"--fsize={8 * MIB}")
    with Client(server.port, CT) as client:
        status = client.store(ct_data_set("1.2.91.1", pixels=bytes(16 * MIB)), "1.2.91.1").status
        assert status == OUT_OF_RESOURCES
        assert client.store(ct_data_set("1.2.91.2"), "1.2.91.2", message_id=2).status == 0
    assert [path.name for path in server.objects()] == ["1.2.91.2.dcm"]
    assert list((server.root / "incoming").iterdir()) == []
