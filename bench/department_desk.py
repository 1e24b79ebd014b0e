"""
The other side of the department's day: the information system that schedules, whoever listens to reports and to events,
and the server itself.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.department_data import COMMITMENT, Report, read_report
from bench.load import Refused
from bench.peers import AE_TITLE, ProductionPACS, free_port
from bench.wire import Wire
from pacs.dimse import NEventReportRQ
from pacs.ul import (
    AAssociateRQ,
    AbstractSyntaxSupport,
    AReleaseRP,
    Implementation,
    negotiate,
)

TIMEOUT_S: Final = 60.0
LONGEST_PDU: Final = 131072


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for this machine, which is its own authority."""
    certificate, key = directory / "server.pem", directory / "server.key"
    command = (
        "openssl req -x509 -newkey rsa:2048 -noenc -sha256 -days 2 -subj /CN=localhost"
        " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    key.chmod(0o600)
    return certificate, key


@dataclass
class DepartmentServer(ProductionPACS):
    """
    Ourselves, TLS on both ports.

    Attributes:
        modalities: AE titles that reports of storage commitment are sent to, at `report_port`.
    """

    modalities: Sequence[str] = ()
    report_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)

    def command(self) -> Sequence[str]:
        self.certificate, self.key = make_certificate(self.directory)
        tls = {"enabled": True, "certificate": str(self.certificate), "private_key": str(self.key)}
        node = {"host": "localhost", "port": self.report_port, "tls": True}
        data = self.directory / "data"
        configuration = {
            "server": {
                "ae_title": AE_TITLE,
                "port": self.port,
                "tls": {**tls, "ca_certificate": str(self.certificate)},
                "remote_nodes": [{"ae_title": title, **node} for title in self.modalities],
            },
            "storage": {"root_path": str(data), "database": {"path": str(data / "index.db")}},
            "rest_api": {"port": self.http_port, "tls": tls},
            "security": {"access_control": {"grants": [{"role": "technologist", "ae_titles": ["*_SCANNER_*"]}]}},
            "logging": {"audit_log_path": str(self.directory / "audit.log")},
        }
        self.config = self.directory / "config.yaml"
        self.config.write_text(json.dumps(configuration))  # JSON is YAML
        twistd = Path(sys.executable).with_name("twistd")
        return [str(twistd), "-n", "--pidfile=", "productionpacs", "--config", str(self.config)]

    def connect(self) -> HTTP:
        """Give a connection to the HTTP port."""
        token = (self.directory / "data" / "admin.token").read_text().strip()
        return HTTP(self.http_port, token, ssl.create_default_context(cafile=str(self.certificate)))


class HTTP:
    """One connection with the administrator's token."""

    def __init__(self, port: int, token: str, tls: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection("localhost", port, timeout=TIMEOUT_S, context=tls)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> bytes:
        """Give what is at a path."""
        return self._ask("GET", path, None)

    def post(self, path: str, value: Any) -> Any:
        """Post JSON; give the answer's."""
        return json.loads(self._ask("POST", path, json.dumps(value).encode()))

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        data = response.read()
        if response.status >= 300:
            raise Refused(f"{method} {path}: {response.status}")
        return data

    def stream(self, path: str) -> http.client.HTTPResponse:
        """Give an answer that does not end."""
        self._connection.request("GET", path, headers=self._headers)
        return self._connection.getresponse()


class InformationSystem:
    """Schedules steps over HTTP: some for each modality at first, one more for each that begins."""

    def __init__(self, http: HTTP) -> None:
        self._http = http
        self.scheduled = 0
        self.durations_s: list[float] = []

    def schedule(self, ae_title: str) -> None:
        """Add a worklist item for a modality, for today."""
        self.scheduled += 1
        number = self.scheduled
        started_s = time.monotonic()
        item = {
            "patient_id": f"P{number:06d}",
            "patient_name": f"Patient{number:06d}^Test",
            "accession_number": f"A{number:06d}",
            "scheduled_datetime": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "station_ae_title": ae_title,
            "modality": ae_title.partition("_")[0],
        }
        self._http.post("/api/v1/worklist", item)
        self.durations_s.append(time.monotonic() - started_s)


class EventListener(threading.Thread):
    """Listens to the server's events as they come."""

    def __init__(self, http: HTTP) -> None:
        super().__init__(name="events", daemon=True)
        self._stream = http.stream("/api/v1/events")
        self.events: dict[str, list[dict[str, Any]]] = {}

    def run(self) -> None:
        """Take events until the server ends the stream."""
        kind = ""
        try:
            for line in self._stream:
                name, _, value = line.decode().strip().partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    self.events.setdefault(kind, []).append(json.loads(value))
        except (OSError, ValueError, http.client.HTTPException):
            return

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Give the events of a kind."""
        return list(self.events.get(kind, ()))


class ReportListener(threading.Thread):
    """Takes reports of storage commitment for the modalities that have left, as an SCU that is associated with."""

    def __init__(self, server: DepartmentServer) -> None:
        super().__init__(name="reports", daemon=True)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(server.certificate, server.key)
        self._listening = socket.create_server(("127.0.0.1", server.report_port), backlog=64)
        self.reports: dict[str, list[Report]] = {}
        self.faults: list[str] = []

    def run(self) -> None:
        """Accept whoever comes."""
        while True:
            connection, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(connection, server_side=True) as encrypted:
                self._take(Wire(encrypted))
        except (OSError, Refused, AssertionError) as error:
            self.faults.append(f"report over a new association: {type(error).__name__}: {error}")

    def _take(self, wire: Wire) -> None:
        _, body = wire.pdu()
        request = AAssociateRQ.decode(body)
        support = AbstractSyntaxSupport(accepts_transfer_syntax=lambda _: True, peer_may_be_scp=True)
        accept, contexts = negotiate(
            request,
            support=lambda syntax: support if syntax == COMMITMENT else None,
            implementation=Implementation("2.25.1", "DEPARTMENT"),
            max_pdu_length=LONGEST_PDU,
        )
        wire.socket.sendall(accept.encode())
        assert all(context.requestor_is_scp and not context.requestor_is_scu for context in contexts.values())
        while (received := wire.receive()) is not None:
            context_id, command, data_set = received
            assert isinstance(command, NEventReportRQ), command.operation
            report = read_report(data_set)
            self.reports.setdefault(report.transaction_uid, []).append(report)
            wire.send(context_id, command.response(0), None)
        wire.socket.sendall(AReleaseRP().encode())
