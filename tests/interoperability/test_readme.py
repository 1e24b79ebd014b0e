"""
The README's first session: each command typed as it stands there, on the configuration that `make run` takes, prints
the lines that stand below it.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
import yaml
from pydicom.data import get_testdata_file

from tests.conftest import MakeServer
from tests.server import REPOSITORY, free_port

PORT, DESTINATION_PORT = "11112", "11113"
TIMEOUT_S = 60


@dataclass
class Step:
    command: str
    shown: list[str] = field(default_factory=list)


def session() -> list[Step]:
    """Give the commands of the README's tools, and what it shows of each one's output."""
    steps: list[Step] = []
    is_open = False
    for line in (REPOSITORY / "README.rst").read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if line.startswith("    $ "):
            steps.append(Step(text.removeprefix("$ ")))
            is_open = True
        elif not line.startswith("    "):
            is_open = is_open and not text
        elif is_open and steps[-1].command.endswith("\\"):
            steps[-1].command = f"{steps[-1].command[:-1]}{text}"
        elif is_open and text != "...":
            steps[-1].shown.append(" ".join(text.split()))
    return [step for step in steps if not step.command.startswith("make ")]


def test_the_first_session_goes_as_the_readme_shows_it(make_server: MakeServer, tmp_path: Path) -> None:
    node_port = free_port()
    given = yaml.safe_load((REPOSITORY / "config" / "pacs_config.yaml").read_text(encoding="utf-8"))
    given["server"]["remote_nodes"][0]["port"] = node_port
    server = make_server(
        {
            "server": {"remote_nodes": given["server"]["remote_nodes"]},
            "security": {"access_control": given["security"]["access_control"]},
        }
    )
    for name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "JPEG2000.dcm"):
        (tmp_path / name).write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    steps = session()
    assert [step.command.split()[0] for step in steps] == [
        "echoscu", "storescu", "dcmsend", "findscu", "findscu", "getscu", "storescp", "movescu",
    ]  # fmt: skip
    running: list[subprocess.Popen[bytes]] = []
    try:
        for step in steps:
            command = step.command.replace(PORT, str(server.port)).replace(DESTINATION_PORT, str(node_port))
            if command.endswith("&"):
                running.append(subprocess.Popen(command.removesuffix("&").split(), cwd=tmp_path))
                wait_for_listener(running[-1], node_port)
                continue
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            output = (done.stdout + done.stderr).replace("\0", " ")  # what pads a UID
            printed = [" ".join(line.split()) for line in output.splitlines()]
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            missing = [line for line in step.shown if line not in printed]
            assert not missing, f"{command}\n" + "\n".join(printed)
    finally:
        for process in running:
            process.kill()
            process.wait()
    received = [pydicom.dcmread(path).SOPInstanceUID for path in tmp_path.glob("CT.*")]
    assert received, "C-GET and C-MOVE have brought the image"


def wait_for_listener(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a tool listens, without an association that it would report."""
    waited_s = time.monotonic() + TIMEOUT_S
    while f":{port:04X} " not in Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text():
        if process.poll() is not None or time.monotonic() > waited_s:
            pytest.fail("storescp does not listen")
        time.sleep(0.02)
