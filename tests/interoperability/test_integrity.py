"""
What was stored and has changed, or is gone, is found, noted and reported; it is never removed (RELIABILITY S3, S6).
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.audit import wait_for_record
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)
OFTEN = {"storage": {"scrub_days": 1e-6}}
UIDS = ("1.2.95.1", "1.2.95.2", "1.2.95.3")


def filled(make_server: MakeServer) -> Server:
    """Give a server that was stopped in order, with three objects whose checksums are noted."""
    server = make_server(OFTEN)
    with Client(server.port, CT) as client:
        for number, uid in enumerate(UIDS):
            assert client.store(ct_data_set(uid, pixels=bytes(2000)), uid, message_id=number + 1).status == 0
    deadline_s = time.monotonic() + 15
    while rows(server, "SELECT count(*) FROM instances WHERE sha256 IS NULL") != [(0,)]:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert server.stop() == 0
    return server


def rows(server: Server, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(server.root / "index.db")) as connection:
        return connection.execute(statement).fetchall()


def path_of(server: Server, uid: str) -> Path:
    return next(path for path in server.objects() if path.name == f"{uid}.dcm")


def flip_a_bit(path: Path) -> bytes:
    """Change the last byte but one, as a bad disk would: size and times stay as they were."""
    status = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return content


def test_a_flipped_bit_is_found_by_the_scrub_and_reported(make_server: MakeServer) -> None:
    server = filled(make_server)
    original = flip_a_bit(path_of(server, UIDS[1]))
    server.start()
    server.wait_for_log("storage is degraded: 1 objects are missing, altered or unreadable")
    assert f"instance {UIDS[1]}: its file is not what was stored" in server.log()
    wait_for_record(server, "110113")
    assert server.stop() == 0
    assert rows(server, "SELECT path, reason FROM quarantine") == [
        (str(path_of(server, UIDS[1]).relative_to(server.root)), "its file is not what was stored")
    ]
    assert len(server.objects()) == 3

    path_of(server, UIDS[1]).write_bytes(original)
    server.start()
    server.wait_for_log("is ready on", times=3)
    wait_until_noted(server, 0)
    assert server.log().count("storage is degraded") == 1


def wait_until_noted(server: Server, number: int) -> None:
    """Wait until so many objects are in quarantine."""
    deadline_s = time.monotonic() + 15
    while rows(server, "SELECT count(*) FROM quarantine") != [(number,)]:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_file_that_is_gone_is_noticed_after_the_start(make_server: MakeServer) -> None:
    server = filled(make_server)
    path = path_of(server, UIDS[0])
    content = path.read_bytes()
    path.unlink()
    server.start()
    server.wait_for_log(f"instance {UIDS[0]}: its file is missing")
    server.wait_for_log("storage is degraded")
    wait_until_noted(server, 1)
    assert rows(server, "SELECT count(*) FROM instances") == [(3,)], "the row stays: only a person removes it"

    path.write_bytes(content)
    assert server.stop() == 0
    server.start()
    wait_until_noted(server, 0)


def test_a_damaged_index_is_noticed(make_server: MakeServer) -> None:
    """An index entry that disagrees with its table: `quick_check` sees the missing entry by its number of rows."""
    server = filled(make_server)
    with closing(sqlite3.connect(server.root / "index.db")) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'studies_by_date'").fetchone()[0]
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    with (server.root / "index.db").open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xff" * 64)
    server.start()
    server.wait_for_log("finds the index damaged")
    server.wait_for_log("database is degraded: the index is damaged")


def test_an_archive_that_is_right_stays_healthy(make_server: MakeServer) -> None:
    server = filled(make_server)
    server.start()
    deadline_s = time.monotonic() + 15
    began = "SELECT value FROM archive_state WHERE name = 'scrub_began'"
    first = rows(server, began)
    while rows(server, began) == first:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert rows(server, "SELECT count(*) FROM quarantine") == [(0,)]
    assert rows(server, "SELECT count(*) FROM archive_state WHERE name = 'index_checked'") == [(1,)]
    assert "degraded" not in server.log()
