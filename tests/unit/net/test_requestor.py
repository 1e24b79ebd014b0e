"""
The requestor's side: a C-ECHO to a real peer, DCMTK's storescp, and to one that refuses (PS3.8 7.1.1).
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server, free_port

SCRIPT = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from pacs.net.requestor import Requestor
from pacs.net.settings import AssociationSettings
from pacs.security.access import Principal, Role
from pacs.ul import Implementation

requestor = Requestor(
    calling_ae_title="TESTER",
    implementation=Implementation("2.25.1", "TESTER"),
    settings=AssociationSettings(),
    clock=reactor,
)
verified = Deferred.fromCoroutine(
    requestor.verify(
        TCP4ClientEndpoint(reactor, "127.0.0.1", int(sys.argv[1])),
        called_ae_title=sys.argv[2],
        principal=Principal("TESTER", "127.0.0.1", Role.ADMINISTRATOR),
    )
)
verified.addCallbacks(lambda status: print("status", status), lambda failure: print(failure.type.__name__))
verified.addBoth(lambda _: reactor.stop())
reactor.callLater(20, reactor.stop)
reactor.run()
"""


def verify(port: int, title: str) -> str:
    import sys

    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(port), title], capture_output=True, text=True, timeout=60, check=False
    ).stdout.strip()


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(["storescp", "-od", str(tmp_path), str(port)])
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield port
    process.kill()
    process.wait()


def test_dcmtks_storescp_is_verified(storescp: int) -> None:
    assert verify(storescp, "ANY") == "status 0"


def test_we_are_verified_by_ourselves(server: Server) -> None:
    assert verify(server.port, "PROD_PACS") == "status 0"


def test_a_rejection_and_a_dead_port_are_told_apart(server: Server) -> None:
    assert verify(server.port, "WRONG") == "AssociationRejected"
    assert verify(free_port(), "ANY") == "ConnectionRefusedError"
