"""
The hardened unit: systemd takes it and finds it tight, and the server lives under its constraints.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, Client, ct_data_set
from tests.http import HTTP, fetch
from tests.retrieve import Requester, identifier
from tests.samples import samples
from tests.server import merged, run_tool
from tests.transcoding import EXPLICIT

UNIT: Final = Path(__file__).parents[2] / "config" / "productionpacs.service"
TWISTD: Final = "/opt/pacs/bin/twistd"
MOST_EXPOSURE: Final = 20  # tenths; systemd calls it "OK", and less than half of what most services have
COMPOSITE_GET: Final = "1.2.840.10008.5.1.4.1.2.4.3"
DEIDENTIFIED: Final = {
    "security": {
        "access_control": {"default_role": "administrator"},
        "anonymization": {"auto_anonymize": True, "ae_titles": ["TRIAL"]},
    }
}
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def setting(name: str) -> str:
    """Give the value of a setting of the unit."""
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


def allowed_calls() -> set[str]:
    """Give the names of the system calls that the unit lets through."""
    return _calls_of(setting("SystemCallFilter"))


def _calls_of(group: str) -> set[str]:
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], check=True, capture_output=True, text=True)
    found: set[str] = set()
    for word in (line.strip() for line in listed.stdout.splitlines()[1:]):
        if word.startswith("@"):
            found |= _calls_of(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


@needs_systemd
def test_systemd_takes_the_unit_and_finds_it_tight(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(TWISTD, shutil.which("true") or ""))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    run_tool("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(unit))


@needs_systemd
def test_the_server_needs_nothing_that_the_unit_takes_away(make_server: MakeServer, tmp_path: Path) -> None:
    """No capability, no new privileges, files read-only but for the archive's, no system call but those allowed."""
    if subprocess.run(["unshare", "-m", "mount", "-o", "remount,ro,bind", "/", "/"], capture_output=True).returncode:
        pytest.skip("no right to make file systems read-only for a process")
    trace = tmp_path / "trace"
    confine = (
        f'mount --bind {tmp_path} {tmp_path} && cd "$PWD" && mount -o remount,ro,bind / && '
        f"exec strace -D -f -qq -e signal=none -o {trace} "
        'setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"'
    )
    configuration = merged(HTTP, DEIDENTIFIED)
    server = make_server(configuration, "unshare", "-m", "sh", "-c", confine, "sh")
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    compressed = next(sample for sample in samples() if sample.path.name == "JPEG2000.dcm")
    with Client(server.port, (compressed.sop_class_uid, compressed.transfer_syntax_uid)) as client:
        stored = client.store(compressed.data_set, compressed.sop_instance_uid, sop_class_uid=compressed.sop_class_uid)
    assert stored.status == 0
    requester = Requester(server.port, COMPOSITE_GET, [(compressed.sop_class_uid, EXPLICIT)])
    retrieved = requester.get(identifier("IMAGE", image=[compressed.sop_instance_uid]))
    requester.release()
    assert list(retrieved.data_sets) == [compressed.sop_instance_uid]
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT), calling="TRIAL") as client:
        for number in range(3):
            uid = f"1.2.77.{number}"
            assert client.store(ct_data_set(uid), uid, message_id=number + 1).status == 0
    assert fetch(server, "/api/v1/studies").json["pagination"]["total"] == 2
    assert fetch(server, f"/api/v1/instances/{compressed.sop_instance_uid}/file").status == 200
    assert fetch(server, "/api/v1/system/status", token=None).json["components"]["database"] == "healthy"
    assert server.stop() == 0
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"renameat2", "sendmsg", "listen"} <= used
    assert used - allowed_calls() == set()
