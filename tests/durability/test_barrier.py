"""
No success is sent before the sync of the object, of its directory and of the index's log has returned; a sync that
fails is answered A700. Shown by `strace`: a killed process proves little, the page cache survives it.
"""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from pacs.archive.objects.journal import HALF_BYTES
from tests.audit import wait_for_record
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)
MOST_TURNS = 20
SYNCS = "fsync,fdatasync,syncfs,sync_file_range,msync"
_CALL = re.compile(r"^(\d+) +([\d.]+) (?:<\.\.\. )?(\w+)")


def attach(server: Server, output: Path, *options: str) -> subprocess.Popen[bytes]:
    """Trace the running server."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-ttt", "-xx", "-y", "-s", "8192", "-o", str(output), *options, "-p", str(server.pid)],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    tracer.stderr.readline()  # "Process N attached"
    time.sleep(0.3)
    return tracer


def detach(tracer: subprocess.Popen[bytes]) -> None:
    tracer.terminate()
    tracer.wait(10)


def encoded(text: str) -> str:
    """Give text as strace -xx prints it."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def trace_stores(server: Server, trace: Path, uids: list[str], size: int) -> list[str]:
    """Give the lines of strace while objects with so many bytes of pixels are stored."""
    with Client(server.port, CT) as client:
        wait_for_journal(server)
        assert client.store(ct_data_set("1.2.76"), "1.2.76").status == 0
        tracer = attach(
            server, trace, "-e", f"trace={SYNCS},renameat2,rename,linkat,sendto,write,pwrite64,writev,pwritev,pwritev2"
        )
        for number, uid in enumerate(uids):
            assert client.store(ct_data_set(uid, pixels=bytes(size)), uid, message_id=number + 1).status == 0
        detach(tracer)
    return trace.read_text().splitlines()


def wait_for_journal(server: Server) -> None:
    """Wait until the journal's blocks exist: before, short objects need a barrier too."""
    deadline_s = time.monotonic() + 20
    while (server.root / "journal").stat().st_size < 2 * HALF_BYTES:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    time.sleep(0.3)


def synced_between(lines: list[str], call: str, begin: int, end: int, *, of: str = "") -> bool:
    """Whether a sync, of a file if one is named, has returned with success between two lines."""
    for index in range(begin + 1, end):
        line = lines[index]
        if call in line and encoded(of) in line:
            if line.endswith("<unfinished ...>"):
                thread = f"{line.split()[0]} "
                line = next(rest for rest in lines[index + 1 :] if rest.startswith(thread) and "resumed>" in rest)
                if lines.index(line) >= end:
                    continue
            if line.rstrip().endswith("= 0"):
                return True
    return False


def test_a_long_object_is_acknowledged_after_file_directory_and_log_are_synced(
    make_server: MakeServer, tmp_path: Path
) -> None:
    uids = [f"1.2.77.{number}" for number in range(1, 9)]
    server = make_server()
    lines = trace_stores(server, tmp_path / "trace", uids, 600_000)
    for uid in uids:
        named = first(lines, lambda line, uid=uid: "rename" in line and encoded(f"{uid}.dcm") in line)
        logged = first(lines, lambda line, uid=uid: "pwrite64" in line and encoded(uid) in line)
        answered = first(lines, lambda line, uid=uid: "sendto" in line and encoded(uid) in line)
        path = next(path for path in server.objects() if path.name == f"{uid}.dcm")
        syncs = (("fdatasync", path, named), ("fsync", path.parent, named), ("fdatasync", "index.db-wal", logged))
        for call, what, since in syncs:
            assert synced_between(lines, f"{call}(", since, answered, of=str(what)), (
                f"{uid}: no {call} of {what} in lines {since} to {answered}"
            )


def test_objects_that_wait_together_are_acknowledged_after_the_barrier_has_returned(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """One barrier is for the files, directories and the index's log of them all; when it fails, none is kept."""
    server = make_server()
    wait_for_journal(server)
    answered: dict[str, int] = {}
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port, CT)) for _ in range(8)]
        assert clients[0].store(ct_data_set("1.2.86", pixels=bytes(600_000)), "1.2.86").status == 0
        tracer = attach(server, tmp_path / "trace", "-e", f"trace={SYNCS}", "-e", "inject=syncfs:error=EIO")
        with ThreadPoolExecutor(len(clients)) as pool:
            for turn in range(MOST_TURNS):  # until some did wait together
                objects = {
                    uid: ct_data_set(uid, pixels=bytes(600_000)) for uid in (f"1.2.85.{turn}.{i}" for i in range(8))
                }
                statuses = pool.map(
                    lambda client, uid, data_set, turn=turn: client.store(data_set, uid, message_id=turn + 2).status,
                    clients,
                    objects,
                    objects.values(),
                )
                answered |= dict(zip(objects, statuses, strict=True))
                if "syncfs(" in (tmp_path / "trace").read_text():
                    break
        detach(tracer)
    assert "syncfs(" in (tmp_path / "trace").read_text()
    assert set(answered.values()) <= {0, 0xA700}
    assert 0xA700 in answered.values()
    kept = {path.name.removesuffix(".dcm") for path in server.objects()}
    assert kept == {"1.2.86", *(uid for uid, status in answered.items() if status == 0)}


def test_of_short_objects_that_wait_together_none_is_kept_when_their_sync_fails(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    wait_for_journal(server)
    uids = [f"1.2.87.{number}" for number in range(16)]
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port, CT)) for _ in uids]
        for number, client in enumerate(clients):  # the disk has shown that it is fast
            assert client.store(ct_data_set(f"1.2.88.{number}"), f"1.2.88.{number}").status == 0
        wait_for_record(server, "110124")
        tracer = attach(server, tmp_path / "trace", "-e", f"trace={SYNCS}", "-e", "inject=fdatasync,syncfs:error=EIO")
        with ThreadPoolExecutor(len(clients)) as pool:
            stored = pool.map(
                lambda client, uid: client.store(ct_data_set(uid), uid, message_id=2).status, clients, uids
            )
            assert set(stored) == {0xA700}
        detach(tracer)
        assert "fdatasync(" in (tmp_path / "trace").read_text()
        assert {path.name for path in server.objects()} == {f"1.2.88.{number}.dcm" for number in range(16)}
        deadline_s = time.monotonic() + 10
        while (status := clients[0].store(ct_data_set(uids[0]), uids[0], message_id=3).status) == 0xA700:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        assert status == 0
        with ThreadPoolExecutor(len(clients)) as pool:
            stored = pool.map(
                lambda client, uid: client.store(ct_data_set(uid), uid, message_id=4).status, clients, uids
            )
            assert set(stored) == {0}
    assert len(server.objects()) == 32


def test_a_short_object_is_acknowledged_after_the_journal_is_synced(make_server: MakeServer, tmp_path: Path) -> None:
    """The journal's record holds what file, directory and the index's log would lose."""
    uids = [f"1.2.77.{number}" for number in range(1, 9)]
    lines = trace_stores(make_server(), tmp_path / "trace", uids, 64)
    for uid in uids:
        recorded = first(lines, lambda line, uid=uid: "pwritev" in line and encoded(f"{uid}.dcm") in line)
        answered = first(lines, lambda line, uid=uid: "sendto" in line and encoded(uid) in line)
        assert synced_between(lines, "fdatasync(", recorded, answered), f"{uid}: lines {recorded}, {answered}"
        named = first(lines, lambda line, uid=uid: "rename" in line and encoded(f"{uid}.dcm") in line)
        logged = first(lines, lambda line, uid=uid: "pwrite64" in line and encoded(uid) in line)
        assert max(named, logged) < answered  # and it is there for whoever looks


def first(lines: list[str], matches: object) -> int:
    """Give the number of the first line that matches."""
    assert callable(matches)
    return next(index for index, line in enumerate(lines) if matches(line))


@pytest.mark.parametrize("size", [64, 600_000])
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "syncfs"])
def test_an_error_of_a_sync_is_never_answered_with_success(
    make_server: MakeServer, tmp_path: Path, call: str, size: int
) -> None:
    """One that is used gives A700; the object is gone, and objects are taken again when the disk works."""
    server = make_server()
    wait_for_journal(server)
    wait_for_record(server, "110124")  # the audit log of the start is written: what syncs now is the archive
    with Client(server.port, CT) as client:
        tracer = attach(server, tmp_path / "trace", "-e", f"trace={SYNCS}", "-e", f"inject={call}:error=EIO")
        status = client.store(ct_data_set("1.2.78", pixels=bytes(size)), "1.2.78").status
        used = f"{call}(" in (tmp_path / "trace").read_text()
        assert status == (0xA700 if used else 0)
        if used:
            assert server.objects() == []
            short = client.store(ct_data_set("1.2.79"), "1.2.79").status
            assert short == (0 if call == "fsync" else 0xA700)  # the journal's sync and the barrier are others
        detach(tracer)
        deadline_s = time.monotonic() + 10  # the audit log may have failed too, and tries again each second
        while (status := client.store(ct_data_set("1.2.80"), "1.2.80", message_id=3).status) == 0xA700:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        assert status == 0
        assert client.store(ct_data_set("1.2.78", pixels=bytes(size)), "1.2.78", message_id=4).status == 0
    names = {path.name for path in server.objects()}
    assert names - {"1.2.79.dcm"} == {"1.2.78.dcm", "1.2.80.dcm"}
    assert ("1.2.79.dcm" in names) == (used and call == "fsync")


@pytest.mark.parametrize(("size", "call"), [(64, "fdatasync("), (600_000, "fsync(")])
def test_each_length_has_its_sync(make_server: MakeServer, tmp_path: Path, size: int, call: str) -> None:
    """So that the test above means something: at least one of its calls is the one that is used."""
    server = make_server()
    wait_for_journal(server)
    with Client(server.port, CT) as client:
        tracer = attach(server, tmp_path / "trace", "-e", f"trace={SYNCS}")
        assert client.store(ct_data_set("1.2.81", pixels=bytes(size)), "1.2.81").status == 0
        detach(tracer)
    assert call in (tmp_path / "trace").read_text()


def test_what_a_failed_sync_may_have_lost_is_written_again(make_server: MakeServer, tmp_path: Path) -> None:
    """The failure is told to one sync alone: the next would succeed, and a short object acknowledged before be lost."""
    server = make_server()
    wait_for_journal(server)
    trace = tmp_path / "trace"
    with Client(server.port, CT) as client:
        number = 0
        while f"1.2.82.{number}.dcm".encode() not in (server.root / "journal").read_bytes():
            number += 1
            assert client.store(ct_data_set(f"1.2.82.{number}"), f"1.2.82.{number}").status == 0
        held = f"1.2.82.{number}"
        # of the object's directory; the audit log, which would refuse objects as well, does without
        tracer = attach(server, trace, "-e", f"trace={SYNCS}", "-e", "inject=fsync:error=EIO")
        assert client.store(ct_data_set("1.2.83", pixels=bytes(600_000)), "1.2.83", message_id=2).status == 0xA700
        detach(tracer)
        tracer = attach(server, trace, "-e", f"trace={SYNCS},openat,sendto,write,writev")
        deadline_s = time.monotonic() + 10  # the audit log may have failed too, and tries again each second
        while (status := client.store(ct_data_set("1.2.84"), "1.2.84", message_id=3).status) == 0xA700:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        assert status == 0
        detach(tracer)
    lines = trace.read_text().splitlines()
    opened = first(lines, lambda line: "openat" in line and encoded(f"{held}.dcm") in line)
    written = first(lines[opened:], lambda line: "write" in line and encoded(held) in line) + opened
    answered = max(i for i, line in enumerate(lines) if "sendto" in line and encoded("1.2.84") in line)
    assert synced_between(lines, "syncfs(", written, answered)


def test_a_log_that_cannot_be_looked_at_keeps_nobody_waiting(make_server: MakeServer, tmp_path: Path) -> None:
    """Who commits looks at its length after each batch; objects are taken again when the disk works."""
    server = make_server()
    wait_for_journal(server)
    log = server.root / "index.db-wal"
    calls = "stat,newfstatat,statx"
    with Client(server.port, CT) as client:
        tracer = attach(
            server, tmp_path / "trace", "-P", str(log), "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO"
        )
        for number, pixels in enumerate((b"\1" * 64, b"\2" * 64), 1):  # the second replaces: in the commit thread
            client.store(ct_data_set("1.2.85", pixels=pixels), "1.2.85", message_id=number)
        deadline_s = time.monotonic() + 10
        while "INJECTED" not in (tmp_path / "trace").read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        detach(tracer)
        assert client.store(ct_data_set("1.2.86"), "1.2.86", message_id=3).status == 0
        assert client.store(ct_data_set("1.2.85", pixels=b"\3" * 64), "1.2.85", message_id=4).status == 0
