"""
What is kept, over HTTP: lists with filters, totals and pages, single resources, files; beside DIMSE, on one server.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import jsonschema
import pydicom
import pytest

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.http import HTTP, Reply, admin_token, fetch, metrics, new_token
from tests.server import Server, free_port, merged, run_tool

STUDIES = 30
NODE_PORT = free_port()


def store(server: Server, *data_sets: tuple[str, bytes]) -> None:
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        for uid, data_set in data_sets:
            assert client.store(data_set, uid).status == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server with 30 studies of 10 patients, each of two series of two objects."""
    nodes = {
        "server": {
            "remote_nodes": [
                {"ae_title": "NOBODY", "host": "127.0.0.1", "port": free_port()},
                {"ae_title": "ECHO", "host": "127.0.0.1", "port": NODE_PORT},
            ]
        }
    }
    server = Server(tmp_path_factory.mktemp("archive"), merged(HTTP, nodes))
    server.start()
    store(
        server,
        *(
            (
                f"1.2.3.{n}.{series}.{i}",
                ct_data_set(
                    f"1.2.3.{n}.{series}.{i}",
                    study=f"1.2.3.{n}",
                    series=f"1.2.3.{n}.{series}",
                    patient_id=f"P{n % 10}",
                    name=f"Doe{n % 10}^Jane",
                    birth_date=f"19{50 + n % 10}0102",
                    study_date=f"202401{n % 28 + 1:02}",
                ),
            )
            for n in range(STUDIES)
            for series in (1, 2)
            for i in (1, 2)
        ),
    )
    yield server
    assert server.stop() == 0


def get(server: Server, path: str) -> Reply:
    return fetch(server, f"/api/v1{path}")


def listed(server: Server, path: str, field: str) -> list[str]:
    reply = get(server, path)
    assert reply.status == 200, reply.body
    assert reply.json["pagination"]["count"] == len(reply.json["data"])
    return [item[field] for item in reply.json["data"]]


def total(server: Server, path: str) -> int:
    return int(get(server, path).json["pagination"]["total"])


def test_lists_need_a_token(server: Server) -> None:
    for path in ("/patients", "/studies", "/series", "/instances/1.2.3.1.1.1", "/instances/1.2.3.1.1.1/file"):
        reply = fetch(server, f"/api/v1{path}", token=None)
        assert (reply.status, reply.error) == (401, "UNAUTHENTICATED")


def test_patients_are_listed_with_their_counts(server: Server) -> None:
    reply = get(server, "/patients?patient_id=P3").json
    assert reply["pagination"] == {"total": 1, "count": 1, "limit": 100, "offset": 0}
    assert reply["data"][0] == {
        "patient_id": "P3",
        "issuer": "",
        "patient_name": "Doe3^Jane",
        "birth_date": "19530102",
        "sex": "",
        "num_studies": 3,
        "num_instances": 12,
    }


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 10),
        ("?patient_name=doe3*", 1),
        ("?patient_name=DOE%3F%5EJANE", 10),
        ("?patient_name=nobody*", 0),
        ("?birth_date=1953-01-02", 1),
        ("?birth_date_from=19550101", 5),
        ("?birth_date_from=19550101&birth_date_to=1956-12-31", 2),
        ("?sex=M", 0),
        ("?patient_name=%E5%B1%B1%E7%94%B0%E3%80%80%E5%A4%AA%E9%83%8E", 0),  # with an ideographic space
    ],
)
def test_patients_are_filtered(server: Server, query: str, count: int) -> None:
    assert total(server, f"/patients{query}") == count


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 30),
        ("?study_instance_uid=1.2.3.7", 1),
        ("?patient_id=P3", 3),
        ("?patient_id=P*", 30),
        ("?patient_name=doe4*", 3),
        ("?study_date=20240105", 1),
        ("?study_date_from=20240110&study_date_to=20240112", 3),
        ("?modality=CT", 30),
        ("?modality=MR", 0),
        ("?accession_number=none", 0),
    ],
)
def test_studies_are_filtered(server: Server, query: str, count: int) -> None:
    assert total(server, f"/studies{query}") == count


def test_pages_and_sorting_give_each_study_once(server: Server) -> None:
    found: list[str] = []
    for offset in range(0, STUDIES + 7, 7):
        reply = get(server, f"/studies?limit=7&offset={offset}&sort=-study_date").json
        assert reply["pagination"]["total"] == STUDIES
        found += [item["study_instance_uid"] for item in reply["data"]]
    assert sorted(found) == sorted(f"1.2.3.{n}" for n in range(STUDIES))
    dates = listed(server, "/studies?sort=-study_date", "study_date")
    assert dates == sorted(dates, reverse=True)
    names = listed(server, "/patients?sort=patient_name", "patient_name")
    assert names == sorted(names)
    assert get(server, "/studies?sort=pk").status == 400


@pytest.mark.parametrize(
    ("query", "count"),
    [("num_series=2", STUDIES), ("num_series=1", 0), ("num_instances=4&patient_id=P3", 3), ("size_bytes=0", 0)],
)
def test_studies_are_filtered_by_what_is_counted(server: Server, query: str, count: int) -> None:
    assert total(server, f"/studies?{query}") == count
    assert total(server, f"/studies?{query}&sort=-study_date&limit=1") == count


def test_children_are_listed_below_their_parents(server: Server) -> None:
    assert listed(server, "/patients/P3/studies?sort=study_instance_uid", "study_instance_uid") == [
        "1.2.3.13",
        "1.2.3.23",
        "1.2.3.3",
    ]
    assert total(server, "/studies/1.2.3.7/series") == 2
    assert total(server, "/studies/1.2.3.7/instances") == 4
    assert total(server, "/series/1.2.3.7.1/instances") == 2
    assert total(server, "/series?modality=CT") == 60
    for path in (
        "/patients/X",
        "/patients/X/studies",
        "/studies/9.9",
        "/studies/9.9/series",
        "/series/9.9",
        "/instances/9.9",
    ):
        reply = get(server, path)
        assert (reply.status, reply.error) == (404, "NOT_FOUND"), path


def test_one_study_is_a_bare_object_with_an_etag(server: Server) -> None:
    reply = get(server, "/studies/1.2.3.7")
    assert reply.json["modalities_in_study"] == ["CT"]
    assert (reply.json["num_series"], reply.json["num_instances"]) == (2, 4)
    assert fetch(server, "/api/v1/studies/1.2.3.7", headers={"If-None-Match": reply.headers["etag"]}).status == 304


def test_an_objects_file_is_what_is_stored_and_has_its_sha256(server: Server) -> None:
    reply = get(server, "/instances/1.2.3.7.1.2/file")
    assert reply.headers["content-type"] == "application/dicom"
    assert pydicom.dcmread(BytesIO(reply.body)).SOPInstanceUID == "1.2.3.7.1.2"
    deadline_s = time.monotonic() + 20
    while not (item := get(server, "/instances/1.2.3.7.1.2").json)["sha256"]:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert item["sha256"] == hashlib.sha256(reply.body).hexdigest()
    assert item["size_bytes"] == len(reply.body)
    assert (item["source_ae_title"], item["instance_number"], item["others"]) == ("TESTER", 1, [])
    head = fetch(server, "/api/v1/instances/1.2.3.7.1.2/file", method="HEAD")
    assert int(head.headers["content-length"]) == len(reply.body)


def test_a_large_file_is_sent_as_the_client_takes_it(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    pixels = bytes(range(256)) * (160 << 12)  # 160 MiB
    store(server, ("1.9.1", ct_data_set("1.9.1", pixels=pixels)))
    before = server.resident_kib()
    url = f"http://127.0.0.1:{server.http_port}/api/v1/instances/1.9.1/file"
    header = f"Authorization: Bearer {(server.root / 'admin.token').read_text().strip()}"
    slow = run_tool("curl", "-s", "--limit-rate", "20M", "-m", "1.5", "-H", header, url, "-o", "/dev/null", check=False)
    assert slow.returncode == 28  # its time was over, in the middle
    assert server.resident_kib() - before < 24 << 10
    assert fetch(server, "/api/v1/instances/1.9.1/file").body[-len(pixels) :] == pixels


@pytest.fixture
def impatient(make_server: MakeServer) -> Server:
    """Give a server that has a large object and waits for two seconds only until a client reads."""
    server = make_server(merged(HTTP, {"server": {"limits": {"unread_response_seconds": 2}}}))
    store(server, ("1.9.5", ct_data_set("1.9.5", pixels=bytes(range(256)) * (32 << 12))))  # 32 MiB
    return server


def asking(server: Server, path: str, *more: str) -> socket.socket:
    """Ask, and read nothing yet; what both systems hold meanwhile is little."""
    lines = (f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {admin_token(server)}", *more, "", "")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.http_port))
    connection.sendall("\r\n".join(lines).encode())
    return connection


UNREAD = "of 127.0.0.1 is ended: it has read nothing of an answer for "


def test_a_client_that_reads_nothing_of_a_file_is_ended(impatient: Server) -> None:
    connections = [asking(impatient, "/api/v1/instances/1.9.5/file") for _ in range(3)]
    impatient.wait_for_log(UNREAD)
    deadline_s = time.monotonic() + 10
    while any(name.endswith(".dcm") for name in open_files(impatient)):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    for connection in connections:
        with connection, pytest.raises(ConnectionResetError):
            while connection.recv(1 << 20):
                pass
    assert impatient.log().count(UNREAD) == 1  # a minute
    assert fetch(impatient, "/livez").status == 200


def test_a_client_that_reads_nothing_of_its_events_is_ended(impatient: Server) -> None:
    uids = [f"1.9.6.{number}" for number in range(1500)]
    store(impatient, *((uid, ct_data_set(uid)) for uid in uids))
    with asking(impatient, "/api/v1/events", "Last-Event-ID: 0"):
        impatient.wait_for_log(UNREAD)


@pytest.mark.parametrize("more", [(), ("Connection: close",)])
def test_a_client_that_reads_a_little_is_not_ended(impatient: Server, more: tuple[str, ...]) -> None:
    with asking(impatient, "/api/v1/instances/1.9.5/file", *more) as connection:
        found = 0
        for _ in range(12):
            time.sleep(0.5)
            found += len(connection.recv(8192))
        while found < 32 << 20:
            found += len(connection.recv(1 << 20))
    assert UNREAD not in impatient.log()


def test_a_file_is_closed_however_early_its_client_goes_away(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    store(server, ("1.9.2", ct_data_set("1.9.2")))
    path = "/api/v1/instances/1.9.2/file"
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {admin_token(server)}\r\n\r\n".encode()
    for number in range(600):
        with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends with a RST
            connection.sendall(asked)
            time.sleep(number % 30 * 0.00005)
    deadline_s = time.monotonic() + 10
    while any(name.endswith(".dcm") for name in open_files(server)):
        assert time.monotonic() < deadline_s, open_files(server)
        time.sleep(0.05)
    assert fetch(server, path).status == 200


FILE = "/api/v1/instances/1.2.3.7.1.2/file"


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("BYTES=100-199", 100, 200),
        ("bytes=300-", 300, None),
        ("bytes=0-", 0, None),
        ("bytes=10-9999999999", 10, None),
        ("bytes=-7", -7, None),
        ("bytes=-9999999", 0, None),
    ],
)
def test_one_range_of_a_file_is_given(server: Server, asked: str, first: int, end: int | None) -> None:
    whole = fetch(server, FILE)
    assert (whole.status, whole.headers["accept-ranges"]) == (200, "bytes")
    part = fetch(server, FILE, headers={"Range": asked})
    assert (part.status, part.body) == (206, whole.body[first:end])
    start, stop, size = range(len(whole.body))[first:end].start, range(len(whole.body))[first:end].stop, len(whole.body)
    assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    assert int(part.headers["content-length"]) == len(part.body)
    assert part.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,5-6", "bytes=5-4", "bytes=-", "bytes=a-b", "bytes=", "items=0-1", "bytes=0-1,", "bytes=" + "9" * 99],
)
def test_a_range_that_is_none_is_passed_over(server: Server, asked: str) -> None:
    whole = fetch(server, FILE, headers={"Range": asked})
    assert (whole.status, whole.body) == (200, fetch(server, FILE).body)
    assert "content-range" not in whole.headers


def test_a_range_behind_the_end_is_refused_with_the_size(server: Server) -> None:
    size = len(fetch(server, FILE).body)
    for asked in (f"bytes={size}-", f"bytes={size + 5}-{size + 6}", "bytes=-0"):
        reply = fetch(server, FILE, headers={"Range": asked})
        assert (reply.status, reply.error) == (416, "RANGE_NOT_SATISFIABLE")
        assert reply.headers["content-range"] == f"bytes */{size}"
    head = fetch(server, FILE, method="HEAD", headers={"Range": "bytes=0-1"})  # RFC 9110 14.2: of GET alone
    assert (head.status, head.headers["content-length"]) == (200, str(size))


def test_a_range_counts_only_for_the_tag_that_it_is_of(server: Server) -> None:
    etag = fetch(server, FILE, method="HEAD").headers["etag"]
    for condition, status in (
        (etag, 206),
        (f"W/{etag}", 200),
        ('"other"', 200),
        ("Mon, 30 Nov 2026 09:00:00 GMT", 200),
    ):
        reply = fetch(server, FILE, headers={"Range": "bytes=1-2", "If-Range": condition})
        assert reply.status == status, condition
    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        reply = fetch(server, FILE, headers={"If-None-Match": condition, "Range": "bytes=999999-"})
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", etag)
    assert fetch(server, FILE, headers={"If-None-Match": '"other"'}).status == 200


def test_another_object_under_the_same_uid_has_another_tag(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    path, tags = "/api/v1/instances/1.9.3/file", []
    for number in range(6):
        store(server, ("1.9.3", ct_data_set("1.9.3", pixels=bytes([number]) * 64)))
        tags.append(fetch(server, path).headers["etag"])
    assert len(set(tags)) == 6
    store(server, ("1.9.3", ct_data_set("1.9.3", pixels=b"\x05" * 64)))  # identical: nothing is written
    deadline_s = time.monotonic() + 20
    while not fetch(server, "/api/v1/instances/1.9.3").json["sha256"]:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert fetch(server, path).headers["etag"] == tags[-1]
    server.stop()
    server.start()
    assert fetch(server, path).headers["etag"] == tags[-1]


def test_curl_resumes_a_download(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(HTTP)
    store(server, ("1.9.4", ct_data_set("1.9.4", pixels=bytes(range(256)) * 60_000)))
    url = f"http://127.0.0.1:{server.http_port}/api/v1/instances/1.9.4/file"
    target = tmp_path / "file"
    command = (
        "curl",
        "-sS",
        "-f",
        "-H",
        f"Authorization: Bearer {admin_token(server)}",
        "-C",
        "-",
        "-o",
        str(target),
        url,
    )
    broken_off = run_tool(*command, "--limit-rate", "5M", "-m", "1", check=False)
    assert broken_off.returncode == 28  # its time was over
    whole = fetch(server, "/api/v1/instances/1.9.4/file").body
    assert 0 < target.stat().st_size < len(whole)
    run_tool(*command)
    assert target.read_bytes() == whole
    run_tool(*command, check=False)  # there is nothing left
    assert target.read_bytes() == whole


def open_files(server: Server) -> list[str]:
    names = []
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            names.append(str(descriptor.readlink()))
    return names


def test_patients_that_share_an_id_are_told_apart_by_their_issuer(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    for n, name in enumerate(("One^A", "Two^B")):
        store(server, (f"1.5.{n}", ct_data_set(f"1.5.{n}", study=f"1.5.{n}.1", patient_id="A/B", name=name)))
    reply = fetch(server, "/api/v1/patients/A%2FB")
    assert (reply.status, reply.error) == (409, "CONFLICT")
    assert {item["patient_name"] for item in reply.json["error"]["candidates"]} == {"One^A", "Two^B"}
    assert fetch(server, "/api/v1/patients/A%2FB/studies").status == 409
    assert fetch(server, "/api/v1/patients/A%2FB/studies?issuer=").json["pagination"]["total"] == 2


def test_any_patient_id_has_a_path(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    for n, patient_id in enumerate(("A", "/A", "A/studies", "A/", "A%2FB")):
        store(server, (f"1.8.{n}", ct_data_set(f"1.8.{n}", study=f"1.8.{n}.1", patient_id=patient_id)))
        path = f"/patients/{quote(patient_id, safe='')}"
        assert get(server, path).json["patient_id"] == patient_id
        assert listed(server, f"{path}/studies", "study_instance_uid") == [f"1.8.{n}.1"]
        assert fetch(server, f"/api/v1{path}", method="DELETE").status == 204
        assert get(server, path).status == 404


def test_nothing_of_a_query_is_left_out_unnoticed(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    for n, patient_id in enumerate(("A", "A;B")):
        store(server, (f"1.7.{n}", ct_data_set(f"1.7.{n}", study=f"1.7.{n}.1", patient_id=patient_id)))
    assert listed(server, "/patients?patient_id=A;B", "patient_id") == ["A;B"]
    for query in ("nothing", "patient_id=A&nothing", "limit=1&limit", "patient_id=A;B&limit;offset=1"):
        reply = get(server, f"/patients?{query}")
        assert (reply.status, reply.error) == (400, "BAD_REQUEST"), query


def test_the_counters_move_by_exactly_what_was_done(make_server: MakeServer) -> None:
    server = make_server(HTTP)
    before = metrics(server)
    store(
        server,
        *((f"1.7.{i}", ct_data_set(f"1.7.{i}", study="1.7.100", series=f"1.7.200.{i % 2}")) for i in range(5)),
    )
    with Client(server.port) as client:
        assert client.echo() == 0
    fetch(server, "/api/v1/instances/1.7.1/file")
    fetch(server, "/api/v1/series")
    after = metrics(server)

    def moved(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after.get(key, 0.0) - before.get(key, 0.0)

    size = sum(path.stat().st_size for path in server.objects())
    assert moved("pacs_stored_instances_total") == 5
    assert moved("pacs_stored_bytes_total") == size
    assert moved("pacs_dimse_requests_total", operation="C-STORE", status="0000") == 5
    assert moved("pacs_dimse_requests_total", operation="C-ECHO", status="0000") == 1
    assert moved("pacs_dimse_request_seconds_count", operation="C-STORE") == 5
    assert moved("pacs_ingest_batch_instances_sum") == 5
    assert moved("pacs_associations_total", result="accepted") == 2
    assert moved("pacs_retrieved_instances_total") == 1
    assert moved("pacs_query_results_total") == 2
    assert moved("pacs_http_requests_total", method="GET", route="/api/v1/series", code="200") == 1
    kept = {name: after[f"pacs_archive_{name}", ()] for name in ("patients", "studies", "series", "instances", "bytes")}
    assert kept == {"patients": 1, "studies": 1, "series": 2, "instances": 5, "bytes": size}


def test_a_live_association_is_shown_and_aborted(server: Server) -> None:
    client = Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT), calling="MODALITY_1")
    found = [a for a in get(server, "/associations/active").json["data"] if a["calling_ae_title"] == "MODALITY_1"]
    assert len(found) == 1
    assert (found[0]["tls"], found[0]["role"], found[0]["peer_address"]) == (False, "technologist", "127.0.0.1")
    assert found[0]["contexts"] == [{"id": 1, "abstract_syntax": CT_IMAGE_STORAGE, "transfer_syntax": EXPLICIT}]
    assert (found[0]["requests"], found[0]["unsuccessful_requests"]) == ({}, 0)
    assert client.store(ct_data_set("1.2.3.99"), "1.2.3.98").status != 0
    (again,) = [a for a in get(server, "/associations/active").json["data"] if a["id"] == found[0]["id"]]
    assert (again["requests"], again["unsuccessful_requests"]) == ({"C-STORE": 1}, 1)
    assert again["duration_seconds"] > found[0]["duration_seconds"] >= 0
    path = f"/api/v1/associations/{found[0]['id']}"
    assert fetch(server, path, method="DELETE", token=new_token(server, "technologist")).status == 403
    assert fetch(server, path, method="DELETE").status == 204
    assert client.pdu()[0] == 7  # A-ABORT
    client.socket.close()
    assert fetch(server, f"{path}0", method="DELETE").status == 404


def test_a_node_is_verified_by_c_echo(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path, {"server": {"ae_title": "ECHO", "port": NODE_PORT}})
    other.port = NODE_PORT
    other.start()
    try:
        good = fetch(server, "/api/v1/remote-nodes/ECHO/verify", method="POST", body=b"").json
        assert (good["is_reachable"], good["status"]) == (True, "0000")
    finally:
        assert other.stop() == 0
    bad = fetch(server, "/api/v1/remote-nodes/NOBODY/verify", method="POST", body=b"").json
    assert (bad["is_reachable"], bad["status"]) == (False, None)
    assert "refuses connections" in bad["reason"]
    assert total(server, "/remote-nodes") == 2
    assert fetch(server, "/api/v1/remote-nodes/UNKNOWN/verify", method="POST", body=b"").status == 404


def test_the_audit_log_is_read_with_its_verdict(server: Server) -> None:
    reply = get(server, "/audit/logs?limit=5")
    assert reply.status == 200, reply.body
    assert reply.json["chain"]["is_intact"] is True
    assert reply.json["pagination"]["count"] == 5
    assert all(record["event"] == "110112" for record in get(server, "/audit/logs?event=110112").json["data"])
    assert get(server, "/audit/logs?event=110101").json["pagination"]["total"] >= 1  # this log was used
    assert fetch(server, "/api/v1/audit/logs", token=new_token(server, "technologist")).status == 403


def test_the_document_has_what_may_be_answered_and_what_is_read(server: Server) -> None:
    paths = fetch(server, "/api/v1/openapi.json").json["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            if operation["security"]:  # the identity provider may be away, passwords by the dozen, the index busy
                assert {"401", "403", "429", "503"} <= operation["responses"].keys(), (method, path)
    assert "409" in paths["/api/v1/session"]["post"]["responses"]
    assert "408" in paths["/api/v1/tokens"]["post"]["responses"]
    assert {item["name"] for item in paths["/api/v1/events"]["get"]["parameters"]} == {"types", "Last-Event-ID"}
    file = paths["/api/v1/instances/{uid}/file"]["get"]
    assert {"200", "206", "304", "404", "416"} <= file["responses"].keys()
    assert {item["name"] for item in file["parameters"]} == {"uid", "Range", "If-Range", "If-None-Match"}
    schema = paths["/api/v1/instances/{uid}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert get(server, "/instances/1.2.3.1.1.1").json.keys() == schema["properties"].keys()


def test_every_answer_is_as_the_document_says(server: Server) -> None:
    document = fetch(server, "/api/v1/openapi.json").json
    asked = 0
    for path, operations in document["paths"].items():
        if "get" not in operations or path.endswith(("metrics", "/file", "/events")):
            continue
        schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        real = path.replace("{patient_id}", "P3").replace("/studies/{uid}", "/studies/1.2.3.7")
        real = real.replace("/series/{uid}", "/series/1.2.3.7.1").replace("/instances/{uid}", "/instances/1.2.3.7.1.1")
        if "{" in real:
            continue
        reply = fetch(server, real)
        assert reply.status == 200, (real, reply.body)
        _check(reply.json, schema, document, real)
        asked += 1
    assert asked >= 15


def _check(value: object, schema: dict[str, object], document: dict[str, object], where: str) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)
