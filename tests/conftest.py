"""
Fixtures: real servers, one for each test that changes something, one shared by those that only look.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.server import Server

MakeServer = Callable[..., Server]

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other tests run beside
settings.load_profile("busy")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell, and inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Give a function that starts a server with a configuration; all are stopped, and must stop cleanly."""
    servers: list[Server] = []

    def make(configuration: Mapping[str, Any] | None = None, *before: str, name: str = "server") -> Server:
        directory = tmp_path / f"{name}{len(servers)}"
        directory.mkdir()
        server = Server(directory, configuration)
        servers.append(server)
        server.start(*before)
        return server

    yield make
    for server in servers:
        if server.process is not None:
            assert server.stop() == 0, server.log()


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """Give a server in the default configuration."""
    return make_server()
