"""
Webhooks and the durable jobs that they are: posted, signed, repeated over restarts, given up and taken up again.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from pacs.tasks.webhooks import WAITING_EVENTS
from tests.certificates import Authority
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.http import HTTP, fetch, metrics, new_token
from tests.server import Server, merged
from tests.webhooks import Subscriber

DEADLINE_S = 30.0
DAY_US = 86_400_000_000


@pytest.fixture
def subscriber(tmp_path: Path) -> Subscriber:
    return Subscriber(tmp_path)


def store(server: Server, *uids: str) -> None:
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        for uid in uids:
            assert client.store(ct_data_set(uid), uid).status == 0


def jobs(server: Server, query: str = "") -> list[dict[str, Any]]:
    reply = fetch(server, f"/api/v1/jobs?type=webhook{query}")
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json["data"]
    return found


def wait_for_job(server: Server, status: str) -> dict[str, Any]:
    """Wait until there is a job of this status; give the newest."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := jobs(server, f"&status={status}")):
        assert time.monotonic() < deadline_s, jobs(server)
        time.sleep(0.05)
    return found[0]


def post(server: Server, job: dict[str, Any], action: str) -> int:
    return fetch(server, f"/api/v1/jobs/{job['id']}/{action}", method="POST", body=b"").status


def test_a_stored_object_is_posted_with_signature_and_the_fields_of_the_contract(
    make_server: MakeServer, subscriber: Subscriber
) -> None:
    server = make_server(merged(HTTP, subscriber.configuration("image_received", "access_denied")))
    with subscriber.listening():
        store(server, "1.2.3.1")
        (posted,) = subscriber.wait_for(1)
        posted.check_signature()
        assert posted.headers["content-type"] == "application/json"
        assert posted.headers["x-pacs-event"] == posted.json["event"] == "image_received"
        assert posted.json["timestamp"].endswith("Z")
        assert set(posted.json) == {"event", "timestamp", "data"}
        assert posted.json["data"] == {
            "sop_instance_uid": "1.2.3.1",
            "sop_class_uid": CT_IMAGE_STORAGE,
            "patient_id": "ID1",
            "study_instance_uid": "1.2.3",
            "series_instance_uid": "1.2.3.4",
            "calling_ae": "TESTER",
            "size_bytes": server.objects()[0].stat().st_size,
            "anonymized": False,
        }
        fetch(server, "/api/v1/tokens", token=new_token(server, "viewer", name="curious"))  # told live only
        denied = subscriber.wait_for(2)[1]
        denied.check_signature()
        assert (denied.json["event"], denied.json["data"]["calling_ae"]) == ("access_denied", "curious")
        assert denied.delivery != posted.delivery
        assert wait_for_job(server, "done")["last_error"] is None
    assert "of-the-url" not in server.log()
    assert b"of-the-url" not in fetch(server, "/api/v1/jobs").body


def test_what_is_not_answered_with_success_is_repeated_under_the_same_delivery(
    make_server: MakeServer, subscriber: Subscriber
) -> None:
    server = make_server(merged(HTTP, subscriber.configuration("image_received")))
    subscriber.statuses = [500, 302]
    with subscriber.listening():
        store(server, "1.2.3.1")
        subscriber.wait_for(1)
        assert [posted.status for posted in subscriber.posted] == [500, 302, 204]
        assert len({(posted.delivery, posted.body) for posted in subscriber.posted}) == 1
        job = wait_for_job(server, "done")
    assert (job["attempts"], job["progress"], job["last_error"]) == (3, 100, "it answered 302")
    server.wait_for_log(f"webhook http://127.0.0.1:{subscriber.port} does not take events: it answered 500")
    server.wait_for_log(f"webhook http://127.0.0.1:{subscriber.port} takes events again")
    attempts = {
        dict(labels)["outcome"]: v for (n, labels), v in metrics(server).items() if n == "pacs_task_attempts_total"
    }
    assert attempts == {"waiting": 2.0, "done": 1.0}


def test_nothing_is_missed_by_a_subscriber_that_was_away_while_the_server_was_killed(
    make_server: MakeServer, subscriber: Subscriber
) -> None:
    server = make_server(merged(HTTP, subscriber.configuration("image_received")))
    uids = [f"1.2.3.{i}" for i in range(1, 31)]
    store(server, *uids[:10])
    wait_for_job(server, "waiting")
    server.kill()
    server.start()
    store(server, *uids[10:20])
    with subscriber.listening():
        subscriber.wait_for(5)
        server.kill()
        server.start()
        store(server, *uids[20:])
        deadline_s = time.monotonic() + DEADLINE_S
        while len({posted.delivery for posted in subscriber.taken()}) < len(uids):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    told = {posted.delivery: posted.json["data"]["sop_instance_uid"] for posted in subscriber.taken()}
    assert sorted(told.values()) == sorted(uids)
    assert server.stop() == 0
    with closing(sqlite3.connect(server.root / "index.db")) as index:
        assert index.execute("SELECT count(*) FROM tasks").fetchone() == (len(uids),)


def test_an_event_that_is_too_old_is_a_dead_letter_until_somebody_has_it_tried_again(
    make_server: MakeServer, subscriber: Subscriber
) -> None:
    server = make_server(merged(HTTP, subscriber.configuration("image_received")))
    store(server, "1.2.3.1")
    waiting = wait_for_job(server, "waiting")
    assert server.stop() == 0
    with closing(sqlite3.connect(server.root / "index.db")) as index:
        index.execute("UPDATE tasks SET aged_from = aged_from - ?, not_before = 0", (4 * DAY_US,))
        index.commit()
    server.start()
    failed = wait_for_job(server, "failed")
    assert failed["id"] == waiting["id"]
    assert "refused" in failed["last_error"]
    assert failed["next_attempt_at"] is None
    with subscriber.listening():
        assert post(server, failed, "retry") == 200
        subscriber.wait_for(1)
        done = wait_for_job(server, "done")
    assert done["id"] == failed["id"]
    assert post(server, done, "retry") == 409


def test_jobs_are_paused_resumed_and_canceled(make_server: MakeServer, subscriber: Subscriber) -> None:
    server = make_server(merged(HTTP, subscriber.configuration("image_received")))
    store(server, "1.2.3.1", "1.2.3.2")
    deadline_s = time.monotonic() + DEADLINE_S
    while len(found := jobs(server)) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    second, first = found
    assert post(server, first, "cancel") == 200
    assert post(server, second, "pause") == 200
    assert post(server, first, "pause") == 409
    path = f"/api/v1/jobs/{second['id']}"
    reply = fetch(server, path)
    assert reply.json["status"] == "paused"
    assert fetch(server, path, headers={"If-None-Match": reply.headers["etag"]}).status == 304
    with subscriber.listening():
        assert post(server, second, "resume") == 200
        (posted,) = subscriber.wait_for(1)
    assert posted.json["data"]["sop_instance_uid"] == "1.2.3.2"
    assert [job["id"] for job in jobs(server, "&status=cancelled")] == [first["id"]]
    assert post(server, {"id": 4711}, "cancel") == 404
    assert fetch(server, "/api/v1/jobs/4711").status == 404
    assert fetch(server, "/api/v1/jobs?status=dead").status == 400
    for role, status in (("technologist", 403), ("administrator", 200)):
        assert fetch(server, "/api/v1/jobs", token=new_token(server, role)).status == status


def test_events_of_a_webhook_that_is_gone_are_dropped_and_it_begins_anew(
    make_server: MakeServer, subscriber: Subscriber
) -> None:
    server = make_server(merged(HTTP, subscriber.configuration("image_received")))
    store(server, "1.2.3.1")
    wait_for_job(server, "waiting")
    assert server.stop() == 0
    configured = server.config.read_text()
    server.config.write_text(configured.replace(f":{subscriber.port}/hook", f":{subscriber.port}/other"))
    server.start()
    server.wait_for_log("1 events for webhooks that are no longer configured are dropped")
    assert [job["status"] for job in jobs(server)] == ["cancelled"]
    store(server, "1.2.3.2")
    with subscriber.listening():
        (posted,) = subscriber.wait_for(1)
    assert posted.json["data"]["sop_instance_uid"] == "1.2.3.2"


@pytest.mark.parametrize("body", [b"", bytes(200_000)], ids=["none", "long"])
def test_an_answer_counts_by_its_status_however_its_body_ends(
    make_server: MakeServer, subscriber: Subscriber, body: bytes
) -> None:
    server = make_server(merged(HTTP, subscriber.configuration("image_received")))
    with socket.create_server(("127.0.0.1", subscriber.port)) as listening:
        store(server, "1.2.3.1")
        listening.settimeout(DEADLINE_S)
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(DEADLINE_S)
            assert connection.recv(65536).startswith(b"POST ")
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + body)  # and no more
            assert wait_for_job(server, "done")["attempts"] == 1
            with suppress(ConnectionResetError):  # it is closed with some of that unread
                while connection.recv(65536):
                    pass  # the rest of the request, if it came in pieces
    assert "Traceback" not in server.log()


def test_what_is_told_live_alone_does_not_pile_up_for_a_subscriber_that_is_away(
    make_server: MakeServer, subscriber: Subscriber
) -> None:
    server = make_server(merged(HTTP, subscriber.configuration("association_opened")))
    store(server, "1.2.3.1")
    kind = wait_for_job(server, "waiting")["type"]
    assert server.stop() == 0
    later = time.time_ns() // 1000 + DAY_US
    with closing(sqlite3.connect(server.root / "index.db")) as index, index:
        index.executemany(
            "INSERT INTO tasks (kind, key, payload, state, not_before, created_at, updated_at, aged_from)"
            " VALUES (?, ?, '{}', 'waiting', ?, ?, ?, ?)",
            ((kind, str(number), later, later, later, later) for number in range(WAITING_EVENTS - 2)),
        )
    server.start()
    store(server, "1.2.3.2")
    store(server, "1.2.3.3")
    server.wait_for_log("are dropped")
    total = fetch(server, "/api/v1/jobs?type=webhook").json["pagination"]["total"]
    assert total == WAITING_EVENTS
    assert server.log().count("are dropped") == 1


def test_https_is_verified(
    make_server: MakeServer, subscriber: Subscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    certificate = authority.issue("subscriber", "localhost")
    configuration = merged(HTTP, subscriber.configuration("image_received", scheme="https", host="localhost"))
    distrusting = make_server(configuration, name="distrusting")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
    trusting = make_server(configuration, name="trusting")
    with subscriber.listening(certificate):
        store(distrusting, "1.2.3.1")
        distrusting.wait_for_log("does not take events: ")
        store(trusting, "1.2.3.2")
        (posted,) = subscriber.wait_for(1)
    assert posted.json["data"]["sop_instance_uid"] == "1.2.3.2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://host/x"}, "give an http:// or https:// URL"),
        ({"events": ["image_sent"]}, "no event; there are image_received, "),
        ({"secret_file": "/nowhere/secret"}, "events.webhooks.secret_file: '/nowhere/secret'"),
    ],
)
def test_a_webhook_that_is_wrong_is_refused_at_the_start(
    tmp_path: Path, subscriber: Subscriber, change: dict[str, Any], message: str
) -> None:
    configuration = subscriber.configuration()
    configuration["events"]["webhooks"][0].update(change)
    with pytest.raises(RuntimeError) as refused:
        Server(tmp_path, configuration).start()
    assert message in str(refused.value)


def test_a_new_secret_is_used_from_the_next_sighup_on(make_server: MakeServer, subscriber: Subscriber) -> None:
    """For what waits already, too; a file that can't be used leaves everything as it was."""
    server = make_server(merged(HTTP, subscriber.configuration("image_received")))
    with subscriber.listening():
        store(server, "1.2.8.1")
        subscriber.wait_for(1)[0].check_signature()
    store(server, "1.2.8.2")  # nobody listens
    subscriber.secret_file.write_bytes(b"another secret\n")
    os.kill(server.pid, signal.SIGHUP)
    server.wait_for_log("the secrets of webhooks are read again")
    with subscriber.listening():
        subscriber.wait_for(2)[1].check_signature(b"another secret")
        subscriber.secret_file.write_bytes(b"a third one\n")
        subscriber.secret_file.chmod(0o644)
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_log(
            f"the secrets of webhooks stay as they were: '{subscriber.secret_file}' can be read by everybody"
        )
        store(server, "1.2.8.3")
        subscriber.wait_for(3)[2].check_signature(b"another secret")
