"""
The stream of events: what is durable is told once and in order, over kills and restarts; the rest as it happens.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import pytest

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.http import HTTP, admin_token, fetch, metrics, new_token
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)


class Told(NamedTuple):
    """One event of a stream."""

    kind: str
    id: int | None
    data: dict[str, Any]


class Stream:
    """A client that reads server-sent events."""

    def __init__(self, server: Server, *, types: str = "", last_id: int | None = None, token: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
        headers = {"Authorization": f"Bearer {token or admin_token(server)}"}
        if last_id is not None:
            headers["Last-Event-ID"] = str(last_id)
        self._connection.request("GET", "/api/v1/events" + (f"?types={types}" if types else ""), headers=headers)
        self.reply = self._connection.getresponse()
        assert self.reply.status == 200
        assert self.reply.headers["Content-Type"] == "text/event-stream"
        assert self.reply.readline().startswith(b":")  # it listens from here on

    def next(self) -> Told:
        """Wait for the next event."""
        fields: dict[str, str] = {}
        while True:
            line = self.reply.readline().decode().rstrip("\n")
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                number = int(fields["id"]) if "id" in fields else None
                return Told(fields["event"], number, json.loads(fields["data"]))
            elif not line and self.reply.isclosed():
                raise EOFError

    def close(self) -> None:
        """Go away without a word."""
        self.reply.close()
        self._connection.close()


@contextmanager
def stream(server: Server, **arguments: Any) -> Iterator[Stream]:
    found = Stream(server, **arguments)
    try:
        yield found
    finally:
        found.close()


def store(server: Server, *uids: str) -> None:
    with Client(server.port, CT) as client:
        for uid in uids:
            assert client.store(ct_data_set(uid, patient_id='P"1\\'), uid).status == 0


def test_a_stored_object_is_told_with_the_fields_of_the_contract(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    with stream(server, types="image_received") as events:
        store(server, "1.2.3.1")
        told = events.next()
    assert (told.kind, told.id) == ("image_received", 1)
    assert told.data.pop("timestamp").endswith("Z")
    assert told.data.pop("size_bytes") == server.objects()[0].stat().st_size
    assert told.data == {
        "sop_instance_uid": "1.2.3.1",
        "sop_class_uid": CT_IMAGE_STORAGE,
        "patient_id": 'P"1\\',
        "study_instance_uid": "1.2.3",
        "series_instance_uid": "1.2.3.4",
        "calling_ae": "TESTER",
        "anonymized": False,
    }


def test_a_client_that_goes_away_is_no_fault_of_ours(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    with stream(server):
        pass
    served = ("pacs_http_requests_total", (("code", "200"), ("method", "GET"), ("route", "/api/v1/events")))
    deadline_s = time.monotonic() + 20
    while served not in metrics(server):
        assert time.monotonic() < deadline_s, metrics(server)
        time.sleep(0.05)
    assert "critical" not in server.log(), server.log()


def test_live_events_come_without_an_id_and_types_are_filtered(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    viewer = new_token(server, "viewer", name="curious")
    with stream(server, types="access_denied,association_opened") as events:
        store(server, "1.2.3.2")
        assert fetch(server, "/api/v1/tokens", token=viewer).status == 403
        opened, denied = events.next(), events.next()
    assert (opened.kind, opened.id, opened.data["calling_ae"]) == ("association_opened", None, "TESTER")
    assert (denied.kind, denied.id, denied.data["calling_ae"]) == ("access_denied", None, "curious")
    assert fetch(server, "/api/v1/events?types=everything").status == 400
    assert fetch(server, "/api/v1/events", token=None).status == 401
    assert fetch(server, "/api/v1/events", token=new_token(server, "none")).status == 403


def test_a_stream_ends_with_the_token_that_it_was_opened_with(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    made = fetch(server, "/api/v1/tokens", method="POST", json_body={"name": "gone", "role": "viewer"}).json
    with stream(server, types="image_received", token=made["token"]) as events:
        store(server, "1.2.3.1")
        assert events.next().data["sop_instance_uid"] == "1.2.3.1"
        assert fetch(server, f"/api/v1/tokens/{made['id']}", method="DELETE").status == 204
        store(server, "1.2.3.2")
        with pytest.raises(EOFError):
            events.next()


def test_a_subscriber_that_is_killed_misses_nothing_and_sees_nothing_twice(make_server: MakeServer) -> None:
    """It goes away at any moment and resumes, four senders store meanwhile, and the server is killed in between."""
    server = make_server(HTTP)
    acknowledged: list[str] = []

    def send(number: int, begin: int) -> None:
        with Client(server.port, CT, calling=f"SENDER{number}") as client:
            for i in range(begin, begin + 25):
                uid = f"1.2.{number}.{i}"
                assert client.store(ct_data_set(uid, study=f"1.2.{number}"), uid).status == 0
                acknowledged.append(uid)

    seen: list[Told] = []
    for begin in (1, 101):
        senders = [threading.Thread(target=send, args=(number, begin)) for number in range(1, 5)]
        for sender in senders:
            sender.start()
        while len(seen) < len(acknowledged) or any(sender.is_alive() for sender in senders):
            with stream(server, types="image_received", last_id=seen[-1].id if seen else 0) as events:
                for _ in range(min(7, len(acknowledged) - len(seen))):
                    seen.append(events.next())
        for sender in senders:
            sender.join()
        server.kill()
        server.start()
    with stream(server, types="image_received", last_id=seen[-1].id) as events:
        store(server, "1.2.9.9")
        seen.append(events.next())
    ids = [told.id for told in seen]
    assert ids == sorted(set(ids))  # type: ignore[type-var]
    assert [told.data["sop_instance_uid"] for told in seen][-1] == "1.2.9.9"
    assert sorted(told.data["sop_instance_uid"] for told in seen[:-1]) == sorted(acknowledged)


@pytest.mark.parametrize("reason", ["removed", "of another index"])
def test_a_resume_from_where_nothing_is_known_any_more_gets_a_reset(make_server: MakeServer, reason: str) -> None:
    server = make_server(HTTP)
    store(server, *(f"1.2.4.{i}" for i in range(1, 6)))
    last_id = 1_000_000
    if reason == "removed":
        assert server.stop() == 0
        with closing(sqlite3.connect(server.root / "index.db")) as connection:
            connection.execute("UPDATE changes SET happened_at = 0 WHERE id <= 3")
            connection.commit()
        server.start()
        last_id = 1
        deadline_s = time.monotonic() + 20
        with closing(sqlite3.connect(server.root / "index.db")) as connection:
            while connection.execute("SELECT min(id) FROM changes").fetchone() != (4,):
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
    with stream(server, types="image_received", last_id=last_id) as events:
        assert events.next().kind == "reset"
        if reason == "removed":
            assert [events.next().id, events.next().id] == [4, 5]
        store(server, "1.2.4.9")
        assert events.next().data["sop_instance_uid"] == "1.2.4.9"


def test_an_open_stream_does_not_hold_up_the_stop(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    with stream(server):
        started_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_s < 10
