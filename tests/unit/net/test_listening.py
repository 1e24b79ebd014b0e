"""
The listening port: a connection that can't be taken costs that connection, and neither the port nor the next one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Final

import pytest

from tests.server import privileged_port

SCRIPT: Final = """
import sys
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogBeginner, textFileLogObserver
from pacs.monitoring.metrics import Metrics
from pacs.net.flood import FloodGate
from pacs.net.listening import listen

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)

class Greeting(Protocol):
    def connectionMade(self):
        if factory.count == 2:
            raise RuntimeError("connected")
        self.transport.write(b"hello")

class Unlucky(Factory):
    count = 0

    def buildProtocol(self, address):
        self.count += 1
        if self.count == 1:
            raise RuntimeError("made")
        return Greeting()

factory = Unlucky()
gate = FloodGate(clock=reactor, metrics=Metrics())
port = listen(0, factory, backlog=5, interface="127.0.0.1", gate=gate, reactor=reactor)
print("port", port.getHost().port, flush=True)
reactor.callLater(60, reactor.stop)
reactor.run()
"""


OF_ROOT: Final = """
import os, sys
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from pacs.monitoring.metrics import Metrics
from pacs.net.flood import FloodGate
from pacs.net.listening import listen
from pacs.net.privileged import bind_if_privileged

class Greeting(Protocol):
    def connectionMade(self):
        self.transport.write(b"%d" % os.geteuid())

number = int(sys.argv[1])
bound = bind_if_privileged(number, "127.0.0.1")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
gate = FloodGate(clock=reactor, metrics=Metrics())
factory = Factory.forProtocol(Greeting)
listen(number, factory, backlog=5, interface="127.0.0.1", gate=gate, reactor=reactor, bound=bound)
print("listens", flush=True)
reactor.callLater(60, reactor.stop)
reactor.run()
"""


@pytest.fixture
def listening() -> Iterator[tuple[int, IO[str]]]:
    """Give the port of a process that takes the third connection, and what it says."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("port "):
            break
    yield int(line.split()[1]), process.stdout
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_protocol_raises_closes_its_connection_alone(listening: tuple[int, IO[str]]) -> None:
    """Neither the peer whose protocol could not be made, nor the one whose protocol did not begin, hangs."""
    port, output = listening
    for _ in range(2):
        with suppress(ConnectionResetError), socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
            assert peer.recv(10) == b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        assert peer.recv(10) == b"hello"
    for reason in ("RuntimeError: made", "RuntimeError: connected"):
        assert any("a connection from 127.0.0.1 could not be taken" in line for line in output)
        assert any(reason in line for line in output)


@pytest.mark.skipif(os.geteuid() != 0, reason="others than root have no rights to give up")
def test_a_port_of_root_that_was_taken_before_is_listened_on_by_nobody() -> None:
    """As twistd does it with a whole server, wherever the project is and whoever may read that."""
    port = privileged_port(below=900)  # others look for theirs from above
    with subprocess.Popen([sys.executable, "-c", OF_ROOT, str(port)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
            assert peer.recv(10) == b"65534"
        process.kill()
