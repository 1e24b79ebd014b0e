"""
The examples of docs/extending.rst do what they say.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, Rejected, ct_data_set
from tests.server import Server, run_tool

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CT = (CT_IMAGE_STORAGE, EXPLICIT)
WAIT_S = 20.0


def store(server: Server, uid: str, calling: str = "TESTER") -> int:
    with Client(server.port, CT, calling=calling) as client:
        return client.store(ct_data_set(uid), uid).status


def test_the_embedding_example_runs_a_server_and_tells_its_events(tmp_path: Path) -> None:
    server = Server(tmp_path, {"security": {"access_control": {"default_role": "viewer"}}})
    server.start_program(str(EXAMPLES / "embedding.py"))
    assert store(server, "1.2.3.1", calling="STORESCU") == 0
    assert store(server, "1.2.3.2", calling="WARD") == 0x0124
    run_tool(
        "findscu", "-S", "-aec", "PROD_PACS", "-aet", "ASKER", "-k", "QueryRetrieveLevel=STUDY",
        "-k", "StudyInstanceUID", "localhost", str(server.port),
    )  # fmt: skip
    with pytest.raises(Rejected):
        Client(server.port, called="WRONG", calling="LOST")
    for line in (
        "image 1.2.3.1, ",
        "from STORESCU: 7",
        "query of ASKER: 1 results",
        "association_opened STORESCU",
        "association_rejected LOST called AE title is not PROD_PACS",
        "C-STORE of WARD denied",
    ):
        server.wait_for_log(line)
    assert server.stop() == 0
    assert "stopped" in server.log()


@pytest.mark.timeout(300)
def test_the_example_plugin_is_installed_and_listens(
    make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, installed, listing = tmp_path / "source", tmp_path / "installed", tmp_path / "stored.csv"
    shutil.copytree(EXAMPLES / "subscriber", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(installed), str(source)], check=True)
    bad = installed / "twisted" / "plugins" / "broken_subscriber.py"
    bad.write_text(
        "from zope.interface import implementer\nfrom pacs.interfaces import IEventSubscriber\n"
        "@implementer(IEventSubscriber)\nclass Broken:\n    name = 'broken'\n    def subscribe(self, bus):\n"
        "        raise RuntimeError('no')\nbroken = Broken()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.setenv("PACS_EXAMPLE_CSV", str(listing))
    server = make_server()
    uids = [f"1.2.3.{number}" for number in range(5)]
    for uid in uids:
        assert store(server, uid) == 0
    deadline_s = time.monotonic() + WAIT_S
    while not listing.exists() or len(listing.read_text().splitlines()) < len(uids):
        assert time.monotonic() < deadline_s, server.log()
        time.sleep(0.05)
    with listing.open(newline="") as file:
        assert [(row[1], row[2]) for row in csv.reader(file)] == [("TESTER", uid) for uid in uids]
    assert "the subscriber example-listing listens to events" in server.log()
    assert "the subscriber broken is left out" in server.log()
