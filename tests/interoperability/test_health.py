"""
Health: each fault changes status and probes within an interval, and they recover by themselves.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.filesystems import MIB, fill, small_file_system
from tests.http import HTTP, fetch, metrics
from tests.server import Server, merged, run_tool

INTERVAL_S = 2.0
LIFE_S = 10  # of a certificate: the server starts meanwhile
ASKING_S = 0.3  # until an answer is here that says what the server knows
QUICK = merged(HTTP, {"monitoring": {"health_check_interval_seconds": INTERVAL_S}})


def wait_for(server: Server, component: str, health: str) -> dict[str, object]:
    """Wait until a component is so, for one interval; give the status."""
    deadline_s = time.monotonic() + INTERVAL_S + ASKING_S
    while True:
        status: dict[str, object] = fetch(server, "/api/v1/system/status", token=None).json
        components = status["components"]
        assert isinstance(components, dict)
        if components.get(component) == health:
            return status
        assert time.monotonic() < deadline_s, status
        time.sleep(0.05)


def probes(server: Server) -> tuple[int, int, int]:
    """Give the statuses of the probes."""
    live, ready, status = (
        fetch(server, path, token=None).status for path in ("/livez", "/readyz", "/api/v1/system/status")
    )
    return live, ready, status


def test_a_healthy_server_says_so(make_server: MakeServer) -> None:
    server = make_server(QUICK)
    for component in ("database", "storage", "queues", "audit", "event_loop"):
        wait_for(server, component, "healthy")
    assert probes(server) == (200, 200, 200)
    assert fetch(server, "/api/v1/health", token=None).json["status"] in ("healthy", "degraded")


def _lock(server: Server) -> Callable[[], None]:
    connection = sqlite3.connect(server.root / "index.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection.close


def _replace(server: Server) -> Callable[[], None]:
    path = server.root / "index.db"
    aside = path.with_name("index.aside")
    path.rename(aside)
    path.write_bytes(aside.read_bytes())

    def heal() -> None:
        path.unlink()
        aside.rename(path)

    return heal


@pytest.mark.parametrize("harm", [_lock, _replace], ids=["locked by another process", "its file replaced"])
def test_a_database_that_is_harmed_is_unhealthy_until_it_is_well_again(
    make_server: MakeServer, harm: Callable[[Server], Callable[[], None]]
) -> None:
    server = make_server(QUICK)
    wait_for(server, "database", "healthy")
    heal = harm(server)
    try:
        status = wait_for(server, "database", "unhealthy")
        assert status["status"] == "unhealthy"
        assert probes(server) == (200, 503, 503)
        assert metrics(server)["pacs_component_health", (("component", "database"),)] == 0.0
    finally:
        heal()
    wait_for(server, "database", "healthy")
    assert probes(server) == (200, 200, 200)
    server.wait_for_log("database is unhealthy:")
    server.wait_for_log("database is healthy:")
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        assert client.store(ct_data_set("1.2.3.4.5"), "1.2.3.4.5").status == 0
    with closing(sqlite3.connect(server.root / "index.db")) as connection:
        assert connection.execute("SELECT count(*) FROM instances").fetchone() == (1,)


def test_a_disk_with_little_room_is_degraded_and_serves(make_server: MakeServer) -> None:
    server = make_server(merged(QUICK, {"storage": {"min_free_bytes": 1 << 50}}))
    status = wait_for(server, "storage", "degraded")
    assert status["status"] == "degraded"
    assert probes(server) == (200, 200, 200)


def test_a_directory_that_cannot_be_written_is_unhealthy(make_server: MakeServer) -> None:
    server = make_server(QUICK)
    wait_for(server, "storage", "healthy")
    probe = server.root / "health.probe"
    probe.unlink()
    probe.mkdir()  # even root can't write there
    wait_for(server, "storage", "unhealthy")
    assert probes(server) == (200, 503, 503)
    probe.rmdir()
    wait_for(server, "storage", "healthy")
    assert probes(server) == (200, 200, 200)


@pytest.mark.parametrize("section", ["server", "rest_api"])
def test_a_certificate_that_expires_is_told_until_it_is_renewed(
    make_server: MakeServer, tmp_path: Path, section: str
) -> None:
    authority = Authority(tmp_path / "ca")
    ends_s = time.monotonic() + LIFE_S
    files = authority.issue("localhost", "localhost", ends=timedelta(seconds=LIFE_S))
    tls = {"enabled": True, "certificate": str(files[0]), "private_key": str(files[1])}
    if section == "server":
        tls |= {"ca_certificate": str(authority.pem)}
    server = make_server(merged(QUICK, {section: {"tls": tls}}))

    origin = f"http{'s' if section == 'rest_api' else ''}://localhost:{server.http_port}"

    def ask(path: str) -> tuple[int, str]:
        answered = run_tool("curl", "-sk", "-w", "%{http_code}", origin + path).stdout
        return int(answered[-3:]), answered[:-3]

    def status() -> tuple[int, str]:
        code, body = ask("/api/v1/system/status")
        return code, json.loads(body)["components"]["certificate"]

    def wait_until(expected: tuple[int, str], *, happens_in_s: float = 0.0) -> None:
        deadline_s = time.monotonic() + happens_in_s + INTERVAL_S + ASKING_S
        while (found := status()) != expected:
            assert time.monotonic() < deadline_s, found
            time.sleep(0.1)

    wait_until((200, "degraded"))
    assert (ask("/livez")[0], ask("/readyz")[0]) == (200, 200)
    wait_until((503, "unhealthy"), happens_in_s=ends_s - time.monotonic())
    assert (ask("/livez")[0], ask("/readyz")[0]) == (200, 503)
    for target, source in zip(files, authority.issue("renewed", "localhost"), strict=True):
        target.write_bytes(source.read_bytes())
    os.kill(server.pid, signal.SIGHUP)
    wait_until((200, "healthy"))
    assert (ask("/livez")[0], ask("/readyz")[0]) == (200, 200)
    name = "TLS" if section == "server" else "HTTPS"
    server.wait_for_log(f"certificate is unhealthy: the {name} certificate has expired: renew it, send SIGHUP")


def test_a_disk_that_is_filled_is_degraded_and_recovers(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small" / "data", size_bytes=100 * MIB):
        server = Server(tmp_path / "small", merged(QUICK, {"storage": {"min_free_bytes": 20 * MIB}}))
        server.start()
        try:
            wait_for(server, "database", "healthy")
            filler = fill(tmp_path / "small" / "data", leave_bytes=8 * MIB)
            assert wait_for(server, "storage", "degraded")["status"] == "degraded"
            assert probes(server) == (200, 200, 200)
            assert metrics(server)["pacs_component_health", (("component", "storage"),)] == 0.5
            assert metrics(server)["pacs_storage_free_bytes", ()] <= 8 * MIB
            filler.unlink()
            wait_for(server, "storage", "healthy")
            assert metrics(server)["pacs_component_health", (("component", "storage"),)] == 1.0
        finally:
            assert server.stop() == 0, server.log()
