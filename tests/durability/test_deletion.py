"""
A deletion that is interrupted is completed: the server is killed by a signal between index and files, in the middle of
the files, and at the sync of the index; a disk that does not let files go keeps nobody from deleting.
"""

from __future__ import annotations

import http.client
import shutil
import sqlite3
import time
import urllib.error
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.durability.test_barrier import attach, detach, wait_for_journal
from tests.http import HTTP, Reply, fetch
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)
STUDY = "/api/v1/studies/1.2.3"
DOOMED = 6
LONG = bytes(200_000)  # the journal does not hold it
SHORT = bytes(64)


def store(server: Server, *, pixels: bytes = LONG) -> None:
    """Store a study that is to be deleted, and one that stays."""
    with Client(server.port, CT) as client:
        for number in range(1, DOOMED + 1):
            uid = f"1.2.3.1.{number}"
            assert client.store(ct_data_set(uid, study="1.2.3", series="1.2.3.1", pixels=pixels), uid).status == 0
        kept = ct_data_set("1.2.4.1.1", study="1.2.4", series="1.2.4.1", pixels=pixels)
        assert client.store(kept, "1.2.4.1.1").status == 0


def delete_and_die(server: Server) -> None:
    """Ask for the deletion of the study, of a server that will be killed before it has answered."""
    with pytest.raises((ConnectionError, http.client.HTTPException, urllib.error.URLError)):
        fetch(server, STUDY, method="DELETE")
    assert server.process is not None
    assert server.process.wait(20) == -9
    server.process = None


def names(server: Server) -> list[str]:
    return [path.name for path in server.objects()]


def number_in_index(server: Server) -> int:
    with closing(sqlite3.connect(server.root / "index.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM instances").fetchone()[0])


def wait_until_gone(server: Server) -> None:
    """Wait until no file waits to be removed, and no unknown file to be looked at."""
    deadline_s = time.monotonic() + 20
    with closing(sqlite3.connect(server.root / "index.db")) as connection:
        while connection.execute("SELECT count(*) FROM deletions").fetchone() != (0,):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
    server.wait_for_log("every file is known", times=server.log().count("starting up.") - 1)


def check_that_the_study_is_gone(server: Server, *, pixels: bytes = LONG) -> None:
    """And that it is taken again."""
    wait_until_gone(server)
    assert names(server) == ["1.2.4.1.1.dcm"]
    assert number_in_index(server) == 1
    assert not (server.root / "objects" / "1.2.3").exists()
    assert not list((server.root / "quarantine").iterdir())
    assert fetch(server, STUDY).status == 404
    assert fetch(server, "/api/v1/studies/1.2.4").status == 200
    store(server, pixels=pixels)
    assert len(names(server)) == DOOMED + 1
    assert fetch(server, STUDY).json["num_instances"] == DOOMED


def test_a_kill_at_any_moment_leaves_all_or_nothing(make_server: MakeServer, tmp_path: Path) -> None:
    """At the syncs of journal and index, in the middle of the files, after the answer; a start does the rest."""
    server = make_server(HTTP)
    wait_for_journal(server)
    for call, when in (("fdatasync", 1), ("fdatasync", 2), ("unlink,unlinkat", 4), ("", 0)):
        store(server, pixels=SHORT)
        if call:
            tracer = attach(server, tmp_path / "trace", "-e", f"inject={call}:signal=SIGKILL:when={when}")
            delete_and_die(server)
            tracer.wait(10)
        else:
            assert fetch(server, STUDY, method="DELETE").status == 204
            server.kill()
        left = len(names(server)) - 1
        if call == "fdatasync":
            assert left == DOOMED
        elif call:
            assert DOOMED - when <= left <= DOOMED - when + 1
            assert number_in_index(server) == 1
        server.start()
        wait_until_gone(server)
        if call == "fdatasync" and number_in_index(server) > 1:  # the index did not know yet
            assert number_in_index(server) == DOOMED + 1
            assert len(names(server)) == DOOMED + 1
            assert fetch(server, STUDY).json["num_instances"] == DOOMED
        else:
            check_that_the_study_is_gone(server, pixels=SHORT)


def test_files_whose_removal_a_power_cut_undid_are_removed_again(make_server: MakeServer, tmp_path: Path) -> None:
    """They are forgotten after a barrier only: until then they may come back."""
    server = make_server(HTTP)
    store(server)
    objects = server.root / "objects"
    shutil.copytree(objects, tmp_path / "copy")
    tracer = attach(server, tmp_path / "trace", "-e", "inject=rmdir:signal=SIGKILL:when=1")
    delete_and_die(server)
    tracer.wait(10)
    assert names(server) == ["1.2.4.1.1.dcm"]
    shutil.copytree(tmp_path / "copy", objects, dirs_exist_ok=True)
    time.sleep(0.1)
    server.start()
    check_that_the_study_is_gone(server)


def test_files_that_the_disk_does_not_let_go_are_removed_later(make_server: MakeServer, tmp_path: Path) -> None:
    """The objects are gone for everybody; the storage is degraded until their files are gone too."""
    server = make_server(HTTP)
    store(server)
    tracer = attach(server, tmp_path / "trace", "-e", "inject=unlink,unlinkat:error=EROFS:when=1..3")
    reply = fetch(server, STUDY, method="DELETE")
    detach(tracer)
    assert reply.status == 204
    assert fetch(server, STUDY).status == 404
    assert len(names(server)) == 4
    assert fetch(server, "/api/v1/system/status", token=None).json["components"]["storage"] == "degraded"
    store(server)  # the names that are still taken do no harm
    assert fetch(server, STUDY).json["num_instances"] == DOOMED
    assert fetch(server, "/api/v1/studies/1.2.4", method="DELETE").status == 204
    assert len(names(server)) == DOOMED
    assert fetch(server, "/api/v1/system/status", token=None).json["components"]["storage"] == "healthy"


def test_deletions_and_stores_at_once_leave_index_and_files_in_step(make_server: MakeServer) -> None:
    """Four associations store the same study again and again while it is deleted."""
    server = make_server(HTTP)
    replies: list[Reply] = []
    statuses: list[int] = []

    def send(number: int) -> None:
        with Client(server.port, CT, calling=f"SENDER{number}") as client:
            for count in range(20):
                uid = f"1.2.3.1.{count % 5}"
                pixels = LONG if number % 2 else SHORT
                data_set = ct_data_set(uid, study="1.2.3", series="1.2.3.1", pixels=pixels)
                statuses.append(client.store(data_set, uid).status)

    senders = [Thread(target=send, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        replies.append(fetch(server, STUDY, method="DELETE"))
    assert set(statuses) == {0}
    assert {reply.status for reply in replies} <= {204, 404}
    shown = fetch(server, "/api/v1/studies/1.2.3/instances").json.get("data", [])
    assert len(names(server)) == len(shown) == number_in_index(server)
    for item in shown:
        assert fetch(server, f"/api/v1/instances/{item['sop_instance_uid']}/file").status == 200
    server.kill()
    server.start()
    wait_until_gone(server)
    assert len(names(server)) == len(shown) == number_in_index(server)
