"""
Storage commitment as modalities ask for it: what is said is true, it is said at last, and never twice of another thing
(PS3.4 annex J).
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from pacs.dimse import NActionRQ, NActionRSP, NEventReportRQ
from tests.audit import wait_for_record
from tests.commitment import (
    PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    Reference,
    Report,
    Reports,
    listening,
    request,
    requesting,
    stored,
    tasks,
    wait_for_task,
    wait_until_taken,
    wanted,
)
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set, element, pdv
from tests.http import fetch
from tests.server import AE_TITLE, Server, free_port, merged

WITHOUT_ADDRESS = "CT_SCANNER_1"
WITH_ADDRESS = "MR_SCANNER_1"
MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
SUCCESSFUL, FAILURES_EXIST = 1, 2
SUCCESS, FAILURE, NO_SUCH_INSTANCE, INVALID_ARGUMENT = 0x0000, 0x0110, 0x0112, 0x0115
NO_SUCH_CLASS, CONFLICT, NOT_SUPPORTED, NO_SUCH_ACTION, NOT_AUTHORIZED = 0x0118, 0x0119, 0x0122, 0x0123, 0x0124
DUPLICATE_TRANSACTION, RESOURCE_LIMITATION = 0x0131, 0x0213


def configuration(port: int, **more: Any) -> dict[str, Any]:
    """Give a configuration in which one AE title has an address."""
    node = {"ae_title": WITH_ADDRESS, "host": "127.0.0.1", "port": port}
    return merged({"server": {"remote_nodes": [node]}, "rest_api": {"enabled": True}}, more)


@pytest.fixture(scope="module")
def node_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, node_port: int) -> Iterator[Server]:
    """Give a server for all tests that leave it as it is."""
    server = Server(tmp_path_factory.mktemp("commitment"), configuration(node_port))
    server.start()
    yield server
    assert server.stop() == 0, server.log()


def commit(server: Server, *references: Reference, transaction: str = "") -> Report:
    """Ask, and take the report on the same association."""
    reports, action = Reports(), wanted(*references, transaction=transaction)
    with requesting(server, calling=WITHOUT_ADDRESS, reports=reports) as association:
        assert request(association, action) == SUCCESS
        report = reports.wait(action.TransactionUID)
        wait_until_taken(server, action.TransactionUID, WITHOUT_ADDRESS)
    return report


def file_of(server: Server, uid: str) -> Path:
    with closing(sqlite3.connect(server.root / "index.db")) as index:
        (path,) = index.execute("SELECT path FROM instances WHERE sop_instance_uid = ?", (uid,)).fetchone()
    return server.root / str(path)


def test_what_is_kept_is_committed_on_the_same_association(server: Server) -> None:
    references = stored(server, 5)
    transaction = generate_uid()
    report = commit(server, *references, transaction=transaction)
    assert (report.event_type, report.transaction_uid) == (SUCCESSFUL, transaction)
    assert report.committed == references
    assert report.failed == {}
    assert report.retrieve_ae_title == AE_TITLE
    assert wait_for_task(server, transaction, "done")["attempts"] == 1


def test_a_modality_that_leaves_is_told_on_a_new_association_by_an_scp(server: Server, node_port: int) -> None:
    references = stored(server, 2)
    reports, action = Reports(), wanted(*references)
    with listening(reports, ae_title=WITH_ADDRESS, port=node_port):
        with requesting(server, calling=WITH_ADDRESS) as association:
            assert request(association, action) == SUCCESS
        report = reports.wait(action.TransactionUID)
    assert (report.event_type, report.committed) == (SUCCESSFUL, references)
    as_scu, as_scp = report.roles
    assert as_scp
    assert not as_scu


def test_a_peer_that_knows_no_roles_is_told_all_the_same(server: Server, node_port: int) -> None:
    references = stored(server)
    reports, action = Reports(), wanted(*references)
    with listening(reports, ae_title=WITH_ADDRESS, port=node_port, role=None):
        with requesting(server, calling=WITH_ADDRESS) as association:
            assert request(association, action) == SUCCESS
        assert reports.wait(action.TransactionUID).committed == references


def test_a_peer_that_refuses_the_role_is_asked_again_later(server: Server, node_port: int) -> None:
    (reference,) = stored(server)
    transaction = generate_uid()
    reports = Reports()
    with listening(reports, ae_title=WITH_ADDRESS, port=node_port, role=False):
        with requesting(server, calling=WITH_ADDRESS) as association:
            assert request(association, wanted(reference, transaction=transaction)) == SUCCESS
        waiting = wait_for_task(server, transaction, "waiting", has_failed=True)
    assert f"AE '{WITH_ADDRESS}' does not accept" in waiting["last_error"]
    assert reports.received == []


def test_a_report_that_the_association_refuses_comes_on_a_new_one(server: Server, node_port: int) -> None:
    references = stored(server)
    refusing, reports, action = Reports(status=FAILURE), Reports(), wanted(*references)
    with (
        listening(reports, ae_title=WITH_ADDRESS, port=node_port),
        requesting(server, calling=WITH_ADDRESS, reports=refusing) as association,
    ):
        assert request(association, action) == SUCCESS
        assert reports.wait(action.TransactionUID).committed == references
    assert refusing.refused == 1


def test_each_object_that_is_not_kept_as_claimed_fails_with_its_reason(server: Server) -> None:
    kept, altered, removed, other = stored(server, 4)
    commit(server, kept, altered, removed, other)  # by now their checksums are known
    path = file_of(server, altered[1])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    os.chmod(path, 0o600)
    path.write_bytes(data)
    file_of(server, removed[1]).unlink()
    absent, nonsense = generate_uid(), generate_uid()
    report = commit(
        server,
        kept,
        altered,
        removed,
        (MR_IMAGE_STORAGE, other[1]),
        (CT_IMAGE_STORAGE, absent),
        ("1.2.840.10008.1.1", nonsense),
    )
    assert report.event_type == FAILURES_EXIST
    assert report.committed == [kept]
    assert report.failed == {
        altered[1]: FAILURE,
        removed[1]: FAILURE,
        other[1]: CONFLICT,
        absent: NO_SUCH_INSTANCE,
        nonsense: NOT_SUPPORTED,
    }
    assert "5 of 6 objects are not committed (0110, 0112, 0119, 0122)" in server.log()


def test_what_a_full_server_refused_fails_for_want_of_resources(make_server: MakeServer) -> None:
    server = make_server(configuration(free_port(), storage={"min_free_bytes": 1 << 60}))
    assert commit(server, (CT_IMAGE_STORAGE, "1.2.3")).failed == {"1.2.3": RESOURCE_LIMITATION}


def ask(client: Client, message_id: int, reference: Reference, transaction: str) -> None:
    """Send an N-ACTION, and wait for nothing."""
    item = element(0x00081150, "UI", reference[0].encode()) + element(0x00081155, "UI", reference[1].encode())
    sequence = element(0x00081199, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item)
    client.send_command(
        NActionRQ(
            message_id=message_id,
            requested_sop_class_uid=PUSH_MODEL,
            requested_sop_instance_uid=WELL_KNOWN_INSTANCE,
            action_type_id=1,
            has_data_set=True,
        )
    )
    client.socket.sendall(pdv(element(0x00081195, "UI", transaction.encode()) + sequence))


def test_the_next_report_comes_when_the_last_was_answered(server: Server) -> None:
    """Asynchronous operations are not negotiated: one request at a time goes either way (PS3.7 D.3.3.3)."""
    with Client(server.port, (PUSH_MODEL, EXPLICIT), calling=WITHOUT_ADDRESS) as client:
        for number, reference in enumerate(stored(server, 3)):
            ask(client, number, reference, generate_uid())
        reported = 0
        while reported < 3:
            message = client.request()
            if isinstance(message, NEventReportRQ):
                reported += 1
                assert client.request(within_s=0.3) is None
                client.send_command(message.response(SUCCESS))
            else:
                assert isinstance(message, NActionRSP)
                assert message.status == SUCCESS


def test_who_asks_again_over_another_association_is_told_there(server: Server) -> None:
    """It gives the first one up while a report is on its way there."""
    (reference,) = stored(server)
    transaction = generate_uid()
    first, second = (Client(server.port, (PUSH_MODEL, EXPLICIT), calling=WITHOUT_ADDRESS) for _ in range(2))
    ask(first, 1, reference, transaction)
    assert isinstance(first.request(), NActionRSP)
    assert isinstance(first.request(), NEventReportRQ)
    ask(second, 1, reference, transaction)
    assert isinstance(second.request(), NActionRSP)
    first.socket.close()
    report = second.request(within_s=15)
    assert isinstance(report, NEventReportRQ)
    second.send_command(report.response(SUCCESS))
    wait_for_task(server, transaction, "done")
    second.socket.close()


def test_many_objects_are_answered_in_one_report(server: Server) -> None:
    references = stored(server, 3)
    absent = [(CT_IMAGE_STORAGE, f"1.2.9.{number}") for number in range(5000)]
    report = commit(server, *absent, *references)
    assert report.committed == references
    assert len(report.failed) == 5000


def test_a_transaction_uid_in_use_for_something_else_fails_as_duplicate(server: Server) -> None:
    """Nobody listens at the address, so the first transaction is not ended."""
    first, second = stored(server, 2)
    transaction = generate_uid()
    with requesting(server, calling=WITH_ADDRESS) as association:
        assert request(association, wanted(first, transaction=transaction)) == SUCCESS
    report = commit(server, second, transaction=transaction)
    assert report.event_type == FAILURES_EXIST
    assert (report.transaction_uid, report.failed) == (transaction, {second[1]: DUPLICATE_TRANSACTION})
    assert wait_for_task(server, transaction, "waiting")["payload"]["references"] == [list(first)]


def test_a_request_that_is_sent_again_is_reported_where_its_sender_is_now(server: Server) -> None:
    (reference,) = stored(server)
    transaction = generate_uid()
    with requesting(server, calling=WITH_ADDRESS) as association:
        assert request(association, wanted(reference, transaction=transaction)) == SUCCESS
    wait_for_task(server, transaction, "waiting")
    reports = Reports()
    with requesting(server, calling=WITH_ADDRESS, reports=reports) as association:
        assert request(association, wanted(reference, transaction=transaction)) == SUCCESS
        assert reports.wait(transaction).committed == [reference]
        wait_until_taken(server, transaction, WITH_ADDRESS)
    wait_for_task(server, transaction, "done")
    assert [task["key"] for task in tasks(server)].count(transaction) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"action_type": 2}, NO_SUCH_ACTION),
        ({"instance": "1.2.3"}, NO_SUCH_INSTANCE),
        ({"action": None}, INVALID_ARGUMENT),
        ({"action": wanted(), "transaction": None}, INVALID_ARGUMENT),
        ({"action": wanted((CT_IMAGE_STORAGE, "1.2.3")), "transaction": None}, INVALID_ARGUMENT),
        ({"action": wanted((CT_IMAGE_STORAGE, ""))}, INVALID_ARGUMENT),
        ({"action": wanted(("", "1.2.3"))}, INVALID_ARGUMENT),
    ],
)
def test_what_is_no_request_is_refused_at_once(server: Server, change: dict[str, Any], status: int) -> None:
    before = len(tasks(server))
    action: Dataset | None = change.pop("action", wanted((CT_IMAGE_STORAGE, "1.2.3")))
    if action is not None and change.pop("transaction", "") is None:
        del action.TransactionUID
    with requesting(server, calling=WITHOUT_ADDRESS) as association:
        assert request(association, action, **change) == status
    assert len(tasks(server)) == before


def test_an_ae_without_address_that_leaves_is_an_error_that_people_see(server: Server) -> None:
    references = stored(server)
    transaction = generate_uid()
    with requesting(server, calling=WITHOUT_ADDRESS) as association:
        server_log = server.log()
        action = wanted(*references, transaction=transaction)
        assert request(association, action) == SUCCESS
    failed = wait_for_task(server, transaction, "failed", "done")
    assert failed["state"] == "failed", "the association was closed before its report could be sent"
    assert "server.remote_nodes" in failed["last_error"]
    assert "storage_commitment" in server.log()[len(server_log) :]
    record = wait_for_record(server, encoded(transaction))[0]
    assert 'EventOutcomeIndicator="8"' in record["message"]
    (event,) = [event for event in feed(server) if event["transaction_uid"] == transaction]
    assert (event["outcome"], event["failed"]) == ("unreported", 1)
    (job,) = [job for job in fetch(server, "/api/v1/jobs?status=failed").json["data"] if job["subject"] == transaction]
    assert (job["type"], job["last_error"]) == ("storage_commitment", failed["last_error"])
    assert fetch(server, f"/api/v1/jobs/{job['id']}/retry", method="POST").status == 200
    assert wait_for_task(server, transaction, "failed")["attempts"] >= job["attempts"]


def numbers(server: Server) -> dict[str, float]:
    """Give the samples of the metrics, by their names with labels."""
    lines = fetch(server, "/metrics", token=None).body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def feed(server: Server) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(server.root / "index.db")) as index:
        rows = index.execute("SELECT data FROM changes WHERE kind = 'commitment_completed' ORDER BY id").fetchall()
    return [json.loads(data) for (data,) in rows]


def test_a_commitment_is_an_event_an_audit_record_and_a_number(server: Server) -> None:
    references = stored(server, 2, patient_id="COMMIT-1")
    before = numbers(server)
    transaction = generate_uid()
    commit(server, *references, (CT_IMAGE_STORAGE, "1.2.4711"), transaction=transaction)
    wait_for_task(server, transaction, "done")
    (event,) = [event for event in feed(server) if event["transaction_uid"] == transaction]
    assert event["calling_ae"] == WITHOUT_ADDRESS
    assert (event["committed"], event["failed"], event["outcome"]) == (2, 1, "failures")
    after = numbers(server)
    for name, number in (
        ('pacs_commitments_total{outcome="failures"}', 1),
        ("pacs_committed_instances_total", 2),
        ('pacs_dimse_requests_total{operation="N-ACTION",status="0000"}', 1),
        ('pacs_task_attempts_total{kind="storage_commitment",outcome="done"}', 1),
    ):
        assert after[name] - before.get(name, 0) == number, name
    record = wait_for_record(server, encoded(transaction))[0]
    assert record["event"] == "110103"
    assert "COMMIT-1" in record["message"]
    assert "storage commitment: 2 committed, 1 not" in record["message"]
    assert "COMMIT-1" not in server.log()


def test_a_killed_server_reports_after_its_next_start(make_server: MakeServer) -> None:
    port = free_port()
    server = make_server(configuration(port))
    references = stored(server, 2)
    transaction = generate_uid()
    with requesting(server, calling=WITH_ADDRESS) as association:
        assert request(association, wanted(*references, transaction=transaction)) == SUCCESS
        server.kill()
    reports = Reports()
    with listening(reports, ae_title=WITH_ADDRESS, port=port):
        server.start()
        assert reports.wait(transaction).committed == references
        wait_for_task(server, transaction, "done")
    assert len([event for event in feed(server) if event["transaction_uid"] == transaction]) == 1


def test_a_report_that_comes_late_says_what_is_kept_by_then(server: Server, node_port: int) -> None:
    """A modality deletes what is committed: an object that was deleted here meanwhile must not be among that."""
    kept, deleted = stored(server, 2)
    later = (CT_IMAGE_STORAGE, generate_uid())
    reports, action = Reports(), wanted(kept, deleted, later)
    with requesting(server, calling=WITH_ADDRESS) as association:
        assert request(association, action) == SUCCESS
    wait_for_task(server, action.TransactionUID, "waiting", has_failed=True)
    assert fetch(server, f"/api/v1/instances/{deleted[1]}", method="DELETE").status == 204
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        assert client.store(ct_data_set(later[1]), later[1]).status == SUCCESS
    with listening(reports, ae_title=WITH_ADDRESS, port=node_port):
        report = reports.wait(action.TransactionUID)
        wait_for_task(server, action.TransactionUID, "done")
    assert report.committed == [kept, later]
    assert report.failed == {deleted[1]: NO_SUCH_INSTANCE}


def test_of_a_de_identified_object_the_original_must_be_kept_and_of_several_copies_each(
    make_server: MakeServer,
) -> None:
    """Whoever asks: where the UID is the same, the only identified object is the sender's."""
    anonymization = {"auto_anonymize": True, "ae_titles": ["TRIAL_*"], "uids": "keep"}
    server = make_server(
        configuration(free_port(), security={"anonymization": anonymization}, storage={"duplicate_policy": "rename"})
    )
    (copied,) = stored(server, calling="TRIAL_CT")
    (original,) = stored(server, calling=WITHOUT_ADDRESS)
    for calling in ("TRIAL_CT", WITHOUT_ADDRESS):
        reports, action = Reports(), wanted(copied, original)
        with requesting(server, calling=calling, reports=reports) as association:
            assert request(association, action) == SUCCESS
            report = reports.wait(action.TransactionUID)
            wait_until_taken(server, action.TransactionUID, calling)
        assert report.committed == [original]
        assert report.failed == {copied[1]: NO_SUCH_INSTANCE}
    assert "a de-identified copy alone is kept" in server.log()

    renamed = (CT_IMAGE_STORAGE, "1.2.50")
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        for pixel in (b"\1", b"\2"):
            assert client.store(ct_data_set("1.2.50", pixels=pixel * 64), "1.2.50").status == SUCCESS
    assert commit(server, renamed).committed == [renamed]
    max(server.objects(), key=lambda path: path.stat().st_mtime_ns).unlink()
    assert commit(server, renamed).failed == {"1.2.50": FAILURE}
