"""
The HTTP side as clients meet it: who may ask, what is refused and how, tokens, limits.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import ssl
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tests.audit import records, wait_for_record
from tests.certificates import Authority
from tests.http import HTTP, Reply, admin_token, fetch, metrics, new_token
from tests.server import Server, merged, run_tool

PASSWORD = "correct horse"
USERS = {
    "security": {
        "access_control": {
            "users": [{"name": "jane", "role": "viewer", "password_hash": PasswordHasher().hash(PASSWORD)}]
        }
    }
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that the tests of this module share."""
    server = Server(tmp_path_factory.mktemp("http"), merged(HTTP, USERS))
    server.start()
    yield server
    assert server.stop() == 0


def pacsctl(server: Server, *arguments: str, check: bool = True) -> str:
    """Run pacsctl on the server's configuration."""
    command = str(Path(sys.executable).with_name("pacsctl"))
    return run_tool(command, *arguments, "--config", str(server.config), check=check).stdout


def raw(server: Server, request: bytes) -> bytes:
    """Send bytes; give everything that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=30) as connection:
        connection.sendall(request)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_curl_gets_the_status_without_a_token_and_patient_data_only_with_one(server: Server) -> None:
    base = f"http://localhost:{server.http_port}"
    status = json.loads(run_tool("curl", "-s", f"{base}/api/v1/system/status").stdout)
    assert status["status"] in ("healthy", "degraded")
    assert status["components"]["database"] == "healthy"
    assert "pacs_archive_instances 0.0" in run_tool("curl", "-s", f"{base}/api/v1/system/metrics").stdout
    refused = run_tool("curl", "-si", f"{base}/api/v1/tokens").stdout
    assert refused.startswith("HTTP/1.1 401")
    assert "WWW-Authenticate: Bearer" in refused
    token = admin_token(server)
    answered = run_tool("curl", "-s", "-H", f"Authorization: Bearer {token}", f"{base}/api/v1/tokens").stdout
    assert json.loads(answered)["pagination"]["total"] >= 1
    assert json.loads(run_tool("curl", "-s", "-u", f"any:{token}", f"{base}/api/v1/tokens").stdout)["data"]


def test_the_first_token_is_in_a_file_of_our_own_and_in_no_log(server: Server) -> None:
    path = server.root / "admin.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in server.log()
    assert admin_token(server) not in server.log()


def test_the_index_has_no_token_in_clear(server: Server) -> None:
    secret = new_token(server, "viewer").encode()
    for path in server.root.glob("index.db*"):
        assert secret not in path.read_bytes()


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        ("viewer", "/api/v1/system/statistics", 200),
        ("viewer", "/api/v1/system/config", 403),
        ("technologist", "/api/v1/tokens", 403),
        ("none", "/api/v1/system/statistics", 403),
        ("administrator", "/api/v1/system/config", 200),
    ],
)
def test_a_token_may_what_its_role_may(server: Server, role: str, path: str, status: int) -> None:
    reply = fetch(server, path, token=new_token(server, role))
    assert reply.status == status
    if status == 403:
        assert reply.error == "FORBIDDEN"


def test_a_missing_right_is_logged_and_counted_as_over_dimse(server: Server) -> None:
    token = new_token(server, "viewer", name="curious")
    key = ("pacs_access_denied_total", (("operation", "manage tokens"),))
    before = metrics(server).get(key, 0.0)
    assert fetch(server, "/api/v1/tokens", token=token).status == 403
    assert metrics(server)[key] == before + 1
    server.wait_for_log("manage tokens of curious from 127.0.0.1 is refused")


def test_a_token_is_made_listed_and_revoked_over_http(server: Server) -> None:
    made = fetch(
        server,
        "/api/v1/tokens",
        method="POST",
        json_body={"name": "brief", "role": "viewer", "expires_at": "2999-01-01"},
    )
    assert made.status == 201
    location = made.headers["location"]
    assert location == f"/api/v1/tokens/{made.json['id']}"
    token = made.json["token"]
    assert fetch(server, "/api/v1/system/version", token=token).status == 200
    listed = {item["id"]: item for item in fetch(server, "/api/v1/tokens").json["data"]}[made.json["id"]]
    assert listed["expires_at"] == "2999-01-01T00:00:00Z"
    assert listed["last_used_at"] is not None or fetch(server, "/api/v1/tokens").status == 200
    assert "token" not in listed
    assert fetch(server, location, method="DELETE").status == 204
    assert fetch(server, "/api/v1/system/version", token=token).status == 401
    assert fetch(server, location, method="DELETE").status == 404
    for change in ("made, viewer", "revoked"):
        (record,) = wait_for_record(server, f"API token {made.json['id']}: {change}")
        assert 'csd-code="110137"' in record["message"]
        assert "first administrator" in record["message"]
    assert not [record for record in records(server) if token in record["message"]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "x"}, 422),
        ({"name": "", "role": "viewer"}, 422),
        ({"name": "x", "role": "king"}, 422),
        ({"name": "x", "role": "viewer", "expires_at": "2001-01-01"}, 422),
        ({"name": "x", "role": "viewer", "expires_at": "9999-12-31T23:59:59-01:00"}, 422),  # the year 10000, in UTC
        ({"name": "x", "role": "viewer", "admin": True}, 422),
        ([1], 422),
    ],
)
def test_a_body_that_is_not_as_the_document_says_is_refused(server: Server, body: object, status: int) -> None:
    assert fetch(server, "/api/v1/tokens", method="POST", json_body=body).status == status


def test_bodies_that_are_no_json_too_deep_or_too_long_are_refused(server: Server) -> None:
    def post(body: bytes, kind: str = "application/json") -> int:
        return fetch(server, "/api/v1/tokens", method="POST", body=body, headers={"Content-Type": kind}).status

    assert post(b"{") == 400
    assert post(b'{"name": "x", "role": "viewer"}', "text/plain") == 415
    assert post(b'{"name": "\\ud800", "role": "viewer"}') == 400
    assert post(b'{"name": "\xed\xa0\x80", "role": "viewer"}') == 400
    assert post('{"name": "x", "role": "viewer"}'.encode("utf-16")) == 400
    assert post('{"name": "x", "role": "viewer"}'.encode("utf-8-sig")) == 201
    assert post(b'{"name": NaN, "role": "viewer"}') == 400
    assert post(b"[" * 33 + b"]" * 33) == 400
    assert post(b"[" * 100_000) == 400
    head = b"POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    assert raw(server, head).startswith(b"HTTP/1.1 413")
    chunked = b"POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(server, chunked + b"200000\r\n" + bytes(0x200000)).startswith(b"HTTP/1.1 413")


def test_basic_takes_a_users_name_and_password(server: Server) -> None:
    assert fetch(server, "/api/v1/system/version", token=None, headers=basic("jane", PASSWORD)).status == 200
    assert fetch(server, "/api/v1/tokens", token=None, headers=basic("jane", PASSWORD)).status == 403
    assert fetch(server, "/api/v1/system/version", token=None, headers=basic("jane", "wrong")).status == 401
    assert fetch(server, "/api/v1/system/version", token=None, headers=basic("joe", PASSWORD)).status == 401


def test_who_keeps_failing_is_slowed_down_and_a_valid_token_is_not(tmp_path: Path) -> None:
    server = Server(tmp_path, HTTP)
    server.start()
    try:
        statuses = [fetch(server, "/api/v1/system/version", token="wrong").status for _ in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        reply = fetch(server, "/api/v1/system/version", token="wrong")
        assert int(reply.headers["retry-after"]) > 0
        asked = (
            b"GET /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"
        )
        assert raw(server, asked).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert fetch(server, "/api/v1/system/version").status == 200
    finally:
        assert server.stop() == 0


def test_errors_are_json_whatever_is_asked(server: Server) -> None:
    for path in ("/", "/api/v1/nothing", "/api/v1/%ff", "/%00", "/api/v1/tokens/"):
        reply = fetch(server, path)
        assert reply.status in (400, 404), path
        assert reply.headers["content-type"].startswith("application/json")
        assert reply.error
    reply = fetch(server, "/api/v1/system/status", method="PUT", body=b"")
    assert (reply.status, reply.error) == (405, "METHOD_NOT_ALLOWED")
    assert "GET" in reply.headers["allow"]
    assert fetch(server, "/livez", method="TRACE").status == 405
    assert fetch(server, "/livez?" + "x" * 9000).status == 414
    assert fetch(server, "/api/v1/tokens?unknown=1").status == 400
    assert fetch(server, "/api/v1/tokens?limit=1001").status == 400
    assert fetch(server, "/api/v1/tokens?limit=1&limit=2").status == 400


def test_every_answer_has_the_headers_that_protect_it(server: Server) -> None:
    for path in ("/livez", "/nothing"):
        headers = fetch(server, path, token=None).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 421), ("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:80", 200), ("10.0.0.1", 200)],
)
def test_the_server_answers_only_to_its_own_names(server: Server, host: str, status: int) -> None:
    assert fetch(server, "/livez", token=None, headers={"Host": host}).status == status


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [("http://localhost:3000", True), ("https://127.0.0.1", True), ("http://localhost.evil.example", False)],
)
def test_cross_origin_requests_come_from_listed_origins_alone(server: Server, origin: str, is_allowed: bool) -> None:
    reply = fetch(
        server,
        "/api/v1/tokens",
        method="OPTIONS",
        token=None,
        headers={"Origin": origin, "Access-Control-Request-Method": "GET"},
    )
    assert reply.status == 204
    assert reply.headers.get("access-control-allow-origin") == (origin if is_allowed else None)
    assert "Origin" in reply.headers["vary"]
    assert "access-control-allow-credentials" not in reply.headers


def test_head_gzip_and_etags_work(server: Server) -> None:
    head = fetch(server, "/api/v1/openapi.json", method="HEAD")
    whole = fetch(server, "/api/v1/openapi.json")
    packed = fetch(server, "/api/v1/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert head.body == b""
    assert int(head.headers["content-length"]) == len(whole.body)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.body == whole.body
    etag = whole.headers["etag"]
    assert fetch(server, "/api/v1/openapi.json", headers={"If-None-Match": etag}).status == 304


def test_only_what_the_contract_names_is_answered_without_a_token(server: Server) -> None:
    paths = fetch(server, "/api/v1/openapi.json").json["paths"]
    public = {path for path, operations in paths.items() for found in operations.values() if not found["security"]}
    assert public == {
        "/api/v1/health",
        "/api/v1/system/metrics",
        "/api/v1/system/status",
        "/livez",
        "/metrics",
        "/readyz",
    }
    asked = [path for path, operations in paths.items() if "get" in operations and "{" not in path]
    for path in asked:
        assert (fetch(server, path, token=None).status == 401) == (path not in public), path
    assert len(asked) >= 20


def test_each_request_moves_its_counter_by_one(server: Server) -> None:
    before = metrics(server)
    for _ in range(3):
        fetch(server, "/livez", token=None)
    fetch(server, "/api/v1/tokens/nobody-123", method="DELETE")
    fetch(server, "/patients-unknown-4711")
    after = metrics(server)

    def moved(method: str, route: str, code: str) -> float:
        key = ("pacs_http_requests_total", (("code", code), ("method", method), ("route", route)))
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert moved("GET", "/livez", "200") == 3
    assert moved("DELETE", "/api/v1/tokens/{id}", "404") == 1
    assert moved("GET", "other", "404") >= 1
    assert not any("4711" in str(key) for key in after)


def test_a_request_in_pieces_is_answered_and_one_that_stalls_is_dropped(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=30) as connection:
        for piece in (b"GET /liv", b"ez HTTP/1.1\r\nHo", b"st: localhost\r\n", b"Connection: close\r\n\r\n"):
            connection.sendall(piece)
        found = b""
        while more := connection.recv(4096):
            found += more
        assert found.startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=30) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: local")
        assert b'"REQUEST_TIMEOUT"' in until_closed(connection)


@pytest.mark.parametrize(
    ("origin", "is_taken"),
    [("https://evil.example", False), ("null", False), ("http://localhost:3000", True), (None, True), ("own", True)],
)
def test_a_browser_that_adds_a_password_changes_nothing_for_other_peoples_pages(
    server: Server, origin: str | None, is_taken: bool
) -> None:
    address = f"127.0.0.1:{server.http_port}"
    from_there = {} if origin is None else {"Origin": f"http://{address}" if origin == "own" else origin}
    form = {"Content-Type": "application/x-www-form-urlencoded", **from_there}
    path = "/api/v1/jobs/1/cancel"
    by_itself = form | basic("a", admin_token(server))
    by_basic = fetch(server, path, method="POST", body=b"x=1", token=None, headers=by_itself)
    assert by_basic.status == (404 if is_taken else 403)
    assert fetch(server, path, method="POST", body=b"x=1", headers=form).status == 404  # with a bearer token


def test_two_names_in_one_request_are_none(server: Server) -> None:
    for hosts in ("evil.example\r\nHost: localhost", "localhost\r\nHost: evil.example"):
        found = raw(server, f"GET /livez HTTP/1.1\r\nHost: {hosts}\r\nConnection: close\r\n\r\n".encode())
        assert found.startswith(b"HTTP/1.1 400 "), found


@pytest.mark.parametrize(
    ("target", "header", "status"),
    [
        ("http://localhost/livez", "localhost", 200),
        ("http://localhost:8080/livez", "evil.example", 200),  # the target's counts (RFC 9112 3.2.2)
        ("HTTP://127.0.0.1/livez", "localhost", 200),
        ("http://localhost/api/v1/health?", "localhost", 200),
        ("http://localhost/api/v1/tokens?limit=1", "localhost", 401),
        ("http://localhost/api/v1/instances/1.2.3/file", "localhost", 401),
        ("http://localhost", "localhost", 404),
        ("http://evil.example/livez", "localhost", 421),
        ("http://localhost@evil.example/livez", "localhost", 400),
        ("http://localhost:x@evil.example/livez", "localhost", 400),
        ("https://localhost/livez", "localhost", 421),
        ("ftp://localhost/livez", "localhost", 400),
        ("http:///livez", "localhost", 400),
        ("xlivez", "localhost", 400),
        ("http://localhost/livez", "localhost\r\nHost: localhost", 400),
    ],
)
def test_a_target_that_is_a_whole_url_is_answered_as_its_path(
    server: Server, target: str, header: str, status: int
) -> None:
    found = raw(server, f"GET {target} HTTP/1.1\r\nHost: {header}\r\nConnection: close\r\n\r\n".encode())
    assert found.startswith(f"HTTP/1.1 {status} ".encode()), found
    if status != 200:
        assert b'{"error":' in found


def test_curl_asks_as_it_would_ask_a_proxy(server: Server) -> None:
    base = f"http://127.0.0.1:{server.http_port}"
    header = f"Authorization: Bearer {admin_token(server)}"
    url = "http://localhost:1/api/v1/tokens?limit=1"
    assert json.loads(run_tool("curl", "-s", "-H", header, "--proxy", base, url).stdout)["pagination"]["limit"] == 1
    missing = run_tool("curl", "-s", "--http1.0", "--proxy", base, "http://evil.example/livez").stdout
    assert json.loads(missing)["error"]["code"] == "MISDIRECTED_REQUEST"


def test_the_host_of_a_url_lets_no_later_request_in(server: Server) -> None:
    """A header that came behind a URL is not remembered as one whose host was looked at."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=30) as connection:
        for target, status in (("http://localhost/livez", 200), ("/livez", 421), ("http://localhost/livez", 200)):
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
            assert connection.recv(65536).startswith(f"HTTP/1.1 {status} ".encode())


def test_what_is_not_there_is_nothing_to_warn_of(server: Server) -> None:
    assert fetch(server, "/nowhere").status == 404
    assert fetch(server, "/livez").status == 200  # whatever was to be logged is
    assert "request.finish" not in server.log()


@pytest.mark.parametrize(
    ("request_line", "header", "body", "status_line"),
    [
        ("POST /api/v1/tokens", "Content-Length: 99999999", "", "413 Content Too Large"),
        ("GET /" + "a" * 9000, "", "", "414 URI Too Long"),
        ("GET /livez", "X-Forwarded-Host: a", "", "200 OK"),
        ("GET http://evil.example/", "", "", "421 Misdirected Request"),
        ("POST /api/v1/tokens", "Content-Length: 25", '{"name": "", "role": "x"}', "422 Unprocessable Content"),
    ],
)
def test_a_status_has_the_words_of_the_standard(
    server: Server, request_line: str, header: str, body: str, status_line: str
) -> None:
    head = f"{request_line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {admin_token(server)}\r\n"
    more = f"Content-Type: application/json\r\nConnection: close\r\n{header or 'X: y'}\r\n\r\n{body}"
    assert raw(server, (head + more).encode()).startswith(f"HTTP/1.1 {status_line}\r\n".encode())


def test_a_number_of_thousands_of_digits_is_refused(server: Server) -> None:
    digits = "9" * 5000
    length = f"POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: {digits}\r\n\r\n"
    assert raw(server, length.encode()).startswith(b"HTTP/1.1 400 ")
    assert fetch(server, "/api/v1/events", headers={"Last-Event-ID": digits}).status == 400
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("size", [17_000, 40_000])
@pytest.mark.parametrize("where", ["GET /%s HTTP/1.1\r\n", "GET /livez HTTP/1.1\r\nX: %s\r\n"])
def test_a_line_that_is_too_long_is_answered(server: Server, size: int, where: str) -> None:
    found = raw(server, (where % ("a" * size)).encode() + b"Host: localhost\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_connection_too_many_is_answered_503(tmp_path: Path) -> None:
    server = Server(tmp_path, merged(HTTP, {"server": {"limits": {"http_connections": 2}}}))
    server.start()
    address = ("127.0.0.1", server.http_port)
    try:
        with socket.create_connection(address, timeout=20), socket.create_connection(address, timeout=20):
            time.sleep(0.2)  # they are the server's
            reply = fetch(server, "/livez", token=None)
            assert (reply.status, reply.error, reply.headers["retry-after"]) == (503, "UNAVAILABLE", "1")
            with socket.create_connection(address, timeout=20) as silent, suppress(ConnectionResetError):
                assert silent.recv(1) == b""
    finally:
        server.stop()


def test_one_header_may_be_as_long_as_all_together(tmp_path: Path) -> None:
    server = Server(tmp_path, merged(HTTP, {"server": {"limits": {"http_header_bytes": 40_000}}}))
    server.start()
    try:
        assert fetch(server, "/livez", headers={"X-Long": "a" * 30_000}).status == 200
    finally:
        server.stop()


def test_urls_in_answers_are_those_that_clients_have_behind_a_proxy(tmp_path: Path) -> None:
    server = Server(tmp_path, merged(HTTP, {"rest_api": {"public_url": "https://id.example.org/pacs/"}}))
    server.start()
    try:
        made = fetch(server, "/api/v1/tokens", method="POST", json_body={"name": "x", "role": "viewer"})
        assert made.headers["location"] == f"https://id.example.org/pacs/api/v1/tokens/{made.json['id']}"
        document = fetch(server, "/api/v1/openapi.json").json
        assert document["servers"] == [{"url": "https://id.example.org/pacs"}]
        session = fetch(server, "/api/v1/session", method="POST", body=b"").headers["set-cookie"]
        assert session.startswith(f"{document['components']['securitySchemes']['session']['name']}=")
    finally:
        server.stop()


@pytest.mark.parametrize("length", ["Content-Length: 500", "Transfer-Encoding: chunked"])
def test_a_body_that_comes_too_slowly_is_answered_408_however_its_length_is_told(server: Server, length: str) -> None:
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=0.5) as connection:
        connection.sendall(f"POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode())
        found, started_s = b"", time.monotonic()
        while not found and time.monotonic() - started_s < 20:
            connection.sendall(b"1\r\na\r\n")
            with suppress(TimeoutError):
                found = connection.recv(4096)
        assert found.startswith(b"HTTP/1.1 408 ")
        assert b"Content-Security-Policy: " in found


def until_closed(connection: socket.socket) -> bytes:
    found = b""
    while more := connection.recv(4096):
        found += more
    return found


def test_no_path_or_query_of_a_request_gets_into_the_log(server: Server) -> None:
    fetch(server, "/api/v1/patients/SECRET-ID?patient_name=Doe*")
    fetch(server, "/api/v1/tokens?SECRET-ID=Doe")
    assert not re.search(r"SECRET-ID|Doe\*", server.log())


def test_pacsctl_makes_tokens_with_and_without_a_server(tmp_path: Path) -> None:
    server = Server(tmp_path, HTTP)
    offline = pacsctl(server, "token", "create", "before", "--role", "viewer").strip()
    server.start()
    try:
        assert not (server.root / "admin.token").exists()
        assert fetch(server, "/api/v1/system/version", token=offline).status == 200
        online = json.loads(pacsctl(server, "token", "create", "now", "--role", "administrator", "--json"))
        assert fetch(server, "/api/v1/tokens", token=online["token"]).json["pagination"]["total"] == 2
        assert "before" in pacsctl(server, "token", "list")
        pacsctl(server, "token", "revoke", online["id"])
        assert fetch(server, "/api/v1/tokens", token=online["token"]).status == 401
        assert "there is no token" in pacsctl(server, "token", "revoke", online["id"], check=False)
    finally:
        assert server.stop() == 0


def test_the_configuration_is_shown_without_secrets(server: Server) -> None:
    reply = fetch(server, "/api/v1/system/config")
    assert reply.json["server"]["port"] == server.port
    assert b"argon2" not in reply.body


@pytest.fixture
def https_server(tmp_path: Path) -> Iterator[tuple[Server, Authority]]:
    """Give a server that speaks HTTPS, and who signed its certificate."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("server", "localhost", "127.0.0.1")
    tls = {"enabled": True, "certificate": str(certificate), "private_key": str(key)}
    directory = tmp_path / "server"
    directory.mkdir()
    server = Server(directory, merged(HTTP, {"rest_api": {"tls": tls}}))
    server.start()
    yield server, authority
    assert server.stop() == 0


def test_https_is_served_with_the_configured_certificate_and_a_new_one_after_sighup(
    https_server: tuple[Server, Authority],
) -> None:
    server, authority = https_server
    url = f"https://localhost:{server.http_port}/livez"
    curl = ("curl", "-si", "--cacert", str(authority.pem))
    answered = run_tool(*curl, url).stdout
    assert answered.startswith("HTTP/1.1 200")
    assert "Strict-Transport-Security" in answered
    assert run_tool(*curl, "--tls-max", "1.1", url, check=False).returncode
    assert run_tool("curl", "-s", url.replace("https", "http"), check=False).returncode
    session = run_tool(*curl, "-X", "POST", "-u", f"a:{admin_token(server)}", url.replace("livez", "api/v1/session"))
    assert "Set-Cookie: __Host-pacs_session=" in session.stdout
    assert "; Secure" in session.stdout

    old = ssl.get_server_certificate(("localhost", server.http_port))
    certificate, _ = authority.issue("server", "localhost", "127.0.0.1")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("HTTPS certificate and key are read again")
    new = ssl.get_server_certificate(("localhost", server.http_port))
    assert old != new
    assert run_tool(*curl, url).stdout.startswith("HTTP/1.1 200")
    certificate.write_text("no certificate")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("HTTPS stays as it was: rest_api.tls.certificate: ")
    assert ssl.get_server_certificate(("localhost", server.http_port)) == new


def test_a_certificate_that_is_missing_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path, merged(HTTP, {"rest_api": {"tls": {"enabled": True, "certificate": "/nowhere.pem"}}}))
    with pytest.raises(RuntimeError, match=r"ended with 1:\n.*rest_api\.tls\.private_key: is missing"):
        server.start()


# -- sessions of the pages


def cookie_of(reply: Reply) -> str:
    """Give what a browser would send back."""
    return reply.headers["set-cookie"].partition(";")[0]


def test_a_session_cookie_stands_for_credentials_until_its_user_ends_it(server: Server) -> None:
    begun = fetch(server, "/api/v1/session", method="POST", token=None, headers=basic("jane", PASSWORD))
    assert begun.status == 201
    assert begun.json == {"user": "jane", "role": "viewer", "is_session": False}
    assert begun.headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict")
    cookie = {"Cookie": f"theme=dark; {cookie_of(begun)}"}
    shown = fetch(server, "/api/v1/session", token=None, headers=cookie)
    assert shown.json == {"user": "jane", "role": "viewer", "is_session": True}
    assert fetch(server, "/api/v1/studies", token=None, headers=cookie).status == 200
    assert fetch(server, "/api/v1/tokens", token=None, headers=cookie).status == 403
    own = {**cookie, "Origin": f"http://127.0.0.1:{server.http_port}"}
    ended = fetch(server, "/api/v1/session", method="DELETE", token=None, headers=own)
    assert ended.status == 204
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert fetch(server, "/api/v1/studies", token=None, headers=cookie).status == 401
    login, logout = (wait_for_record(server, text)[0] for text in ("HTTP session", 'csd-code="110123"'))
    assert 'UserID="jane"' in login["message"]
    assert 'UserID="jane"' in logout["message"]


@pytest.mark.parametrize("origin", [None, "http://localhost:1", "https://evil.example.org", "null"])
def test_a_session_changes_nothing_for_other_peoples_pages(server: Server, origin: str | None) -> None:
    """RELIABILITY A6: writes check Origin; another port of the same host is another origin."""
    cookie = cookie_of(fetch(server, "/api/v1/session", method="POST"))
    headers = {"Cookie": cookie} | ({"Origin": origin} if origin else {})
    made = fetch(
        server, "/api/v1/tokens", method="POST", token=None, headers=headers, json_body={"name": "x", "role": "viewer"}
    )
    assert (made.status, made.error) == (403, "FORBIDDEN")
    assert fetch(server, "/api/v1/tokens", token=None, headers=headers).status == 200
    assert (
        fetch(server, "/api/v1/tokens", token=None, headers=headers).headers.get("access-control-allow-credentials")
        is None
    )
    own = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{server.http_port}"}
    made = fetch(
        server, "/api/v1/tokens", method="POST", token=None, headers=own, json_body={"name": "x", "role": "viewer"}
    )
    assert made.status == 201


def test_a_token_that_is_revoked_is_refused_on_a_connection_that_is_kept(server: Server) -> None:
    made = fetch(server, "/api/v1/tokens", method="POST", json_body={"name": "brief", "role": "viewer"}).json
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=30)

    def status() -> int:
        connection.request("GET", "/api/v1/studies", headers={"Authorization": f"Bearer {made['token']}"})
        reply = connection.getresponse()
        reply.read()
        return reply.status

    try:
        assert [status() for _ in range(3)] == [200] * 3
        assert fetch(server, f"/api/v1/tokens/{made['id']}", method="DELETE").status == 204
        assert [status() for _ in range(3)] == [401] * 3
    finally:
        connection.close()


def test_a_session_ends_when_its_token_is_revoked(server: Server) -> None:
    made = fetch(server, "/api/v1/tokens", method="POST", json_body={"name": "brief", "role": "viewer"}).json
    cookie = {"Cookie": cookie_of(fetch(server, "/api/v1/session", method="POST", token=made["token"]))}
    assert fetch(server, "/api/v1/session", token=None, headers=cookie).status == 200
    assert fetch(server, f"/api/v1/tokens/{made['id']}", method="DELETE").status == 204
    assert fetch(server, "/api/v1/session", token=None, headers=cookie).status == 401


def test_a_script_that_is_refused_gets_no_dialog_of_the_browser(server: Server) -> None:
    by_script = fetch(server, "/api/v1/studies", token=None, headers={"Sec-Fetch-Mode": "cors"})
    assert by_script.status == 401
    assert "Basic" not in by_script.headers["www-authenticate"]
    assert "Basic" in fetch(server, "/api/v1/studies", token=None).headers["www-authenticate"]


def test_a_program_that_asks_again_and_again_is_one_login(server: Server) -> None:
    token = new_token(server, "viewer", name="poller")
    for _ in range(5):
        assert fetch(server, "/api/v1/system/version", token=token).status == 200
    (record,) = wait_for_record(server, 'UserID="poller"')
    assert record["event"] == "110114"
    assert record["outcome"] == "0"
