"""
`pacsctl` when something is wrong: status 1, one line on standard error, never a traceback.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import Server

PACSCTL = str(Path(sys.executable).with_name("pacsctl"))


def pacsctl(server: Server, *arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [PACSCTL, *arguments, "-c", str(config or server.config)]
    return subprocess.run(command, cwd=server.directory, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Give a server that does not run."""
    return Server(tmp_path)


def test_a_configuration_that_is_not_there_is_a_fault_of_every_command(server: Server) -> None:
    """On the built-in defaults it would work on another archive."""
    ended = pacsctl(server, "token", "list", config=Path("nowhere.yaml"))
    assert (ended.returncode, ended.stderr) == (1, "nowhere.yaml: no such file\n")
    assert not (server.directory / "pacs_data").exists()
