"""
A performed step is acknowledged when the index's log was synced, and not at all when that fails.
"""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import generate_uid

from tests.audit import wait_for_record
from tests.conftest import MakeServer
from tests.durability.test_barrier import SYNCS, attach, detach, encoded, first
from tests.interoperability.test_mpps import SUCCESS, change, create, ended, get, in_progress, modality

RESOURCE_LIMITATION = 0x0213
NO_SUCH_INSTANCE = 0x0112


def test_a_step_is_acknowledged_after_the_log_was_synced(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    wait_for_record(server, "110124")
    uids = [generate_uid() for _ in range(3)]
    with modality(server) as association:
        trace = tmp_path / "trace"
        tracer = attach(server, trace, "-e", f"trace={SYNCS},sendto,write,pwrite64,writev")
        for uid in uids:
            assert create(association, in_progress(), uid).Status == SUCCESS
        detach(tracer)
    lines = trace.read_text().splitlines()
    for uid in uids:
        logged = first(lines, lambda line, uid=uid: "pwrite64" in line and encoded(uid) in line)
        answered = first(lines, lambda line, uid=uid: "sendto" in line and encoded(uid) in line)
        synced = [
            index
            for index, line in enumerate(lines)
            if logged < index < answered and ("fdatasync" in line or "fsync" in line) and line.rstrip().endswith("= 0")
        ]
        assert synced, f"no sync between the log ({logged}) and the answer ({answered})"


def test_a_step_whose_sync_fails_is_refused_and_not_there(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    wait_for_record(server, "110124")
    uid, refused = generate_uid(), generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(), uid).Status == SUCCESS
        log = server.root / "index.db-wal"  # alone: the audit log may go on
        faults = ("-P", str(log), "-e", f"trace={SYNCS}", "-e", "inject=fsync,fdatasync:error=EIO")
        tracer = attach(server, tmp_path / "trace", *faults)
        assert create(association, in_progress(), refused).Status == RESOURCE_LIMITATION
        detach(tracer)
        assert get(association, uid)[0] == SUCCESS
        assert get(association, refused)[0] == NO_SUCH_INSTANCE
        assert create(association, in_progress(), refused).Status == SUCCESS
        assert change(association, ended(), uid).Status == SUCCESS
