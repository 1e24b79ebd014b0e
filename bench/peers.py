"""
The servers that are measured, each started in a fresh directory and stopped again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

AE_TITLE: Final = "BENCHED"
DESTINATION: Final = "SINK"
SETTLE_S: Final = 120.0
BUSY_SHARE: Final = 0.05
NOT_AS_INSTALLED: Final = ("TCP_NODELAY", "PYTHONDONTWRITEBYTECODE")


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Peer(ABC):
    """
    A server under test.

    Attributes:
        is_tuned: started with TCP_NODELAY=1 in its environment, so that only design is compared.
        destination_port: where C-MOVE to `DESTINATION` goes, for those that can.
    """

    name: str
    directory: Path
    is_tuned: bool = True
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    destination_port: int = 0

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Give the command line; may write configuration files."""

    def start(self) -> None:
        """Start it in a fresh directory and wait until it accepts connections."""
        self.directory.mkdir(parents=True)
        self.restart()

    def restart(self) -> None:
        """Start it again with what it has."""
        environment = {name: value for name, value in os.environ.items() if name not in NOT_AS_INSTALLED}
        if self.is_tuned:
            environment["TCP_NODELAY"] = "1"
        command = self.command()
        with (self.directory / "output.txt").open("wb") as output:
            self.process = subprocess.Popen(command, cwd=self.directory, stdout=output, stderr=output, env=environment)
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                time.sleep(0.3)
                return
        raise RuntimeError(f"{self.name} does not listen; see {self.directory}/output.txt")

    def settle(self) -> None:
        """Wait until it has done what it does behind the answers: hashing, sweeping."""
        deadline_s = time.monotonic() + SETTLE_S
        before_s = self.cpu_s()
        while time.monotonic() < deadline_s:
            time.sleep(1)
            now_s = self.cpu_s()
            if now_s - before_s < BUSY_SHARE:
                return
            before_s = now_s

    def cpu_s(self) -> float:
        """Give the processor time that it has had."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_resident_kib(self) -> int:
        """Give the most memory that it has had."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    def stop(self) -> None:
        """Stop it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class ProductionPACS(Peer):
    """Ourselves, in the default configuration."""

    def command(self) -> Sequence[str]:
        config = self.directory / "config.yaml"
        node = f"{{ae_title: {DESTINATION}, host: 127.0.0.1, port: {self.destination_port}}}"
        nodes = f"[{node}]" if self.destination_port else "[]"
        config.write_text(
            f"server: {{ae_title: {AE_TITLE}, port: {self.port}, remote_nodes: {nodes}}}\n"
            f"storage: {{root_path: {self.directory}/data, database: {{path: {self.directory}/data/index.db}}}}\n"
            "rest_api: {port: 0}\n"
            "security: {access_control: {grants: [{role: technologist, ae_titles: [BENCH, STORESCU]}]}}\n"
        )
        twistd = Path(sys.executable).with_name("twistd")
        return [str(twistd), "-n", "--pidfile=", "productionpacs", "--config", str(config)]


class Orthanc(Peer):
    """Orthanc with its defaults, which sync each object."""

    def command(self) -> Sequence[str]:
        config = self.directory / "orthanc.json"
        config.write_text(
            json.dumps(
                {
                    "Name": "bench",
                    "StorageDirectory": str(self.directory / "data"),
                    "IndexDirectory": str(self.directory / "data"),
                    "DicomAet": AE_TITLE,
                    "DicomPort": self.port,
                    "HttpPort": free_port(),  # on, as by default, and as ours is
                    "DicomAlwaysAllowStore": True,
                    "DicomAlwaysAllowEcho": True,
                    "DicomAlwaysAllowFind": True,
                    "DicomAlwaysAllowGet": True,
                    "DicomAlwaysAllowMove": True,
                    "DicomModalities": {"sink": [DESTINATION, "127.0.0.1", self.destination_port]}
                    if self.destination_port
                    else {},
                    "Plugins": [],
                }
            )
        )
        return ["/usr/sbin/Orthanc", str(config)]


class StoreSCP(Peer):
    """DCMTK's storescp: one process, not durable, no index."""

    def command(self) -> Sequence[str]:
        (self.directory / "data").mkdir()
        return ["storescp", "--fork", "-aet", AE_TITLE, "-od", str(self.directory / "data"), str(self.port)]


class IgnoringSCP(Peer):
    """DCMTK's storescp that throws everything away: a destination that costs as little as can be."""

    def command(self) -> Sequence[str]:
        return ["storescp", "--fork", "--ignore", "-aet", DESTINATION, "--max-pdu", "131072", str(self.port)]


class QRSCP(Peer):
    """pynetdicom's qrscp: an index without indexes. What it has is put straight into its database."""

    def command(self) -> Sequence[str]:
        (self.directory / "instances").mkdir(exist_ok=True)
        return [
            sys.executable, "-m", "pynetdicom", "qrscp", "-q", "-aet", AE_TITLE, "--port", str(self.port),
            "--max-pdu", "131072", "--bind-address", "127.0.0.1",
            "--database-location", str(self.directory / "instances.sqlite"),
            "--instance-location", str(self.directory / "instances"),
        ]  # fmt: skip

    def insert(self, instances: Iterable[tuple[dict[int, tuple[str, str]], str]]) -> None:
        """Put rows into its database: attributes and the file's path of each."""
        from pydicom.datadict import keyword_for_tag
        from pynetdicom.apps.qrscp.db import _TRANSLATION, Instance, create
        from sqlalchemy import insert

        rows = []
        for attributes, path in instances:
            values = {keyword_for_tag(tag): value for tag, (_, value) in attributes.items()}
            row = {column: values.get(keyword) for keyword, column in _TRANSLATION.items()}
            row.update(sop_class_uid=values["SOPClassUID"], transfer_syntax_uid="1.2.840.10008.1.2.1", filename=path)
            rows.append(row)
        engine = create(f"sqlite:///{self.directory / 'instances.sqlite'}")
        with engine.begin() as connection:
            connection.execute(insert(Instance), rows)
        engine.dispose()


class DcmQRSCP(Peer):
    """DCMTK's dcmqrscp: an index, not durable."""

    def command(self) -> Sequence[str]:
        data = self.directory / "data"
        data.mkdir()
        config = self.directory / "dcmqrscp.cfg"
        config.write_text(
            f"NetworkTCPPort = {self.port}\nMaxPDUSize = 131072\nMaxAssociations = 32\n"
            "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{AE_TITLE} {data} RW (100000, 100gb) ANY\nAETable END\n"
        )
        return ["dcmqrscp", "-c", str(config)]


class PynetdicomStoreSCP(Peer):
    """pynetdicom's storescp: neither durable nor indexed."""

    def command(self) -> Sequence[str]:
        (self.directory / "data").mkdir()
        script = Path(__file__).with_name("pynetdicom_storescp.py")
        return [sys.executable, str(script), str(self.port), str(self.directory / "data")]


KINDS: Final[dict[str, type[Peer]]] = {
    "productionpacs": ProductionPACS,
    "orthanc": Orthanc,
    "storescp": StoreSCP,
    "dcmqrscp": DcmQRSCP,
    "pynetdicom": PynetdicomStoreSCP,
}


def remove(directory: Path) -> None:
    """Remove everything at the very end: deleting slows the creation of files down for a while."""
    shutil.rmtree(directory, ignore_errors=True)
