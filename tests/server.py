"""
The real server, as an operator starts it: `twistd -n productionpacs --config FILE`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

AE_TITLE: Final = "PROD_PACS"
REPOSITORY: Final = Path(__file__).parent.parent
START_S: Final = 30.0
STOP_S: Final = 40.0
LOG_S: Final = 20.0


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def privileged_port(below: int = 1024) -> int:
    """Give a port that only root may have, and nobody listens on."""
    for port in range(below - 1, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port below 1024 is free")


def merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Give nested mappings, one over the other."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result


def twistd() -> list[str]:
    """Give the command that runs twistd; with `PACS_COVERAGE` in the environment what it runs is measured."""
    script = str(Path(sys.executable).with_name("twistd"))
    if not os.environ.get("PACS_COVERAGE"):
        return [script]
    options = [f"--rcfile={REPOSITORY / 'setup.cfg'}", f"--data-file={REPOSITORY / '.coverage'}", "--parallel-mode"]
    return [sys.executable, "-m", "coverage", "run", *options, script]


class Server:
    """
    One server and its directory.

    Attributes:
        root: of the archive.
        ready_s: how long the last start took until it accepted connections.
    """

    def __init__(self, directory: Path, configuration: Mapping[str, Any] | None = None) -> None:
        self.directory = directory
        self.root = directory / "data"
        self.port = free_port()
        self.http_port = free_port()
        self.config = directory / "config.yaml"
        self.log_path = directory / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0
        base = {
            "server": {"port": self.port},
            "rest_api": {"enabled": False, "port": self.http_port},
            "storage": {
                "root_path": str(self.root),
                "database": {"path": str(self.root / "index.db")},
                "min_free_bytes": 0,
                "warn_free_percent": 0,  # how full the disk is where tests run is nobody's business
            },
            "security": {"access_control": {"default_role": "technologist"}},
        }
        self.config.write_text(yaml.safe_dump(merged(base, configuration or {})))
        self.config.chmod(0o600)

    def start(self, *before: str, options: Sequence[str] = ()) -> None:
        """Start it, maybe under another command or with options of twistd, and wait until it listens."""
        command = [*before, *twistd(), "-n", "--pidfile=", *options, "productionpacs", "--config", str(self.config)]
        self._start(command)

    def start_program(self, program: str) -> None:
        """Start a Python program with a server in it, which is given the configuration file."""
        self._start([sys.executable, program, str(self.config)])

    def _start(self, command: list[str]) -> None:
        started_s = time.monotonic()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, stdout=log, stderr=log, env=compiling_environment()
            )
        while time.monotonic() - started_s < START_S:
            if self.process.poll() is not None:
                status, self.process = self.process.returncode, None
                raise RuntimeError(f"the server ended with {status}:\n{self.log()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                self.ready_s = time.monotonic() - started_s
                return
        raise RuntimeError(f"the server does not listen:\n{self.log()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; give the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(STOP_S)
        self.process = None
        return status

    def kill(self) -> None:
        """Kill it, as a power cut of the process."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        """Give what it has logged."""
        return self.log_path.read_text()

    def wait_for_log(self, text: str, *, times: int = 1) -> None:
        """Wait until it has logged a text, or logged it several times."""
        deadline_s = time.monotonic() + LOG_S
        while self.log().count(text) < times:
            assert time.monotonic() < deadline_s, f"{text!r} is not in\n{self.log()}"
            time.sleep(0.05)

    def resident_kib(self, field: str = "VmRSS") -> int:
        """Give its resident memory; VmHWM for the most that it has had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1])

    def objects(self) -> list[Path]:
        """Give the files of its objects."""
        return sorted(path for path in (self.root / "objects").rglob("*") if path.is_file())


def compiling_environment() -> dict[str, str]:
    """Give an environment in which Python keeps what it has compiled, as it does where the server is installed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def clean_environment() -> dict[str, str]:
    """Give an environment that does not help a peer's network stack."""
    return {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}


def run_tool(*command: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a peer's tool; its output is text."""
    return subprocess.run(
        command,
        check=check,
        env=clean_environment(),
        timeout=timeout,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
