"""
What a power cut takes away is put back: the page cache is lost, what was synced is not.

The server is killed, then everything that no sync has covered is destroyed by hand: the files of short objects, their
names, the index's log. The journal alone is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.durability.test_barrier import wait_for_journal
from tests.server import Server, run_tool

CT = (CT_IMAGE_STORAGE, EXPLICIT)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def store(client: Client, uid: str, message_id: int, pixels: bytes = bytes(64)) -> None:
    data_set = ct_data_set(uid, study="1.2.3", series="1.2.3.1", pixels=pixels)
    assert client.store(data_set, uid, message_id=message_id).status == 0


def found(server: Server) -> int:
    """Give how many images C-FIND knows."""
    return run_tool(
        "findscu", "-S", "-aec", "PROD_PACS", "-k", "QueryRetrieveLevel=IMAGE", "-k", "StudyInstanceUID=1.2.3",
        "-k", "SeriesInstanceUID=1.2.3.1", "-k", "SOPInstanceUID", "127.0.0.1", str(server.port),
    ).stdout.count("(Pending)")  # fmt: skip


@pytest.mark.parametrize("harm", [empty, halve, Path.unlink])
@pytest.mark.parametrize("keeps_log", [True, False])
def test_acknowledged_short_objects_survive(
    make_server: MakeServer, harm: Callable[[Path], None], keeps_log: bool
) -> None:
    server = make_server()
    wait_for_journal(server)
    uids = [f"1.2.90.{number}" for number in range(1, 21)]
    with Client(server.port, CT) as client:
        for number, uid in enumerate(uids, 1):
            store(client, uid, number)
    before = {path.name: path.read_bytes() for path in server.objects()}
    assert sorted(before) == sorted(f"{uid}.dcm" for uid in uids)
    server.kill()
    for path in server.objects():
        harm(path)
    if not keeps_log:
        empty(server.root / "index.db-wal")
    server.start()
    assert {path.name: path.read_bytes() for path in server.objects()} == before
    assert found(server) == len(uids)
    assert "objects of an earlier run are restored from the journal" in server.log()


def test_a_torn_record_brings_nothing_back(make_server: MakeServer) -> None:
    """The last object was not acknowledged: its record is not whole, it is gone."""
    server = make_server()
    wait_for_journal(server)
    with Client(server.port, CT) as client:
        store(client, "1.2.91.1", 1)
        store(client, "1.2.91.2", 2)
    server.kill()
    journal = server.root / "journal"
    place = journal.read_bytes().index(b"1.2.91.2.dcm") + 500
    with journal.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 100)
    for path in server.objects():
        empty(path)
    server.start()
    assert found(server) == 1
    assert [path.name for path in server.objects() if path.stat().st_size] == ["1.2.91.1.dcm"]


def test_a_replaced_object_does_not_come_back(make_server: MakeServer) -> None:
    server = make_server()
    wait_for_journal(server)
    with Client(server.port, CT) as client:
        store(client, "1.2.92", 1, b"\1" * 64)
        store(client, "1.2.92", 2, b"\2" * 64)
    server.kill()
    server.start()
    assert found(server) == 1
    (path,) = server.objects()
    assert path.read_bytes().endswith(b"\2" * 64)
