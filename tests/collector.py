"""
An audit collector: Debian's rsyslogd in the foreground, with a configuration and certificates of its own.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START_S: Final = 20.0
_SEQUENCE: Final = re.compile(r'sequence="(\d+)"')

CONFIGURATION: Final = """
global(workDirectory="{directory}" maxMessageSize="128k" defaultNetstreamDriver="ossl"
       defaultNetstreamDriverCAFile="{directory}/collector.pem"
       defaultNetstreamDriverCertFile="{directory}/collector.pem"
       defaultNetstreamDriverKeyFile="{directory}/collector.key")
template(name="raw" type="string" string="%rawmsg%\\n")
{input}
*.* action(type="omfile" file="{directory}/received" template="raw")
"""
UDP: Final = """module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{port}")"""
TLS: Final = """module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}")"""


def make_certificate(directory: Path, *, address: str = "127.0.0.1", name: str = "collector") -> Path:
    """Make a self-signed certificate for an address and its key; give the certificate's path."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


class Collector:
    """
    One rsyslogd.

    Attributes:
        certificate: what to trust.
    """

    def __init__(self, directory: Path, *, port: int, transport: str) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._port = port
        self._transport = transport
        self._process: subprocess.Popen[bytes] | None = None
        self.certificate = make_certificate(directory)
        values = {"directory": directory, "port": port}
        given = (UDP if transport == "udp" else TLS).format(**values)
        (directory / "rsyslog.conf").write_text(CONFIGURATION.format(input=given, **values))

    def start(self) -> None:
        """Start it; wait until it listens."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["rsyslogd", "-n", "-f", str(self._directory / "rsyslog.conf"), "-i", str(self._directory / "pid")],
                stdout=log,
                stderr=log,
            )
        deadline_s = time.monotonic() + START_S
        while not self._listens():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def _listens(self) -> bool:
        if self._transport == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind(("127.0.0.1", self._port))
                except OSError:
                    return True
            return False
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def stop(self) -> None:
        """End it; harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(20)

    def received(self) -> list[str]:
        """Give the audit messages that it has, in order."""
        path = self._directory / "received"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if "productionpacs" in line and _SEQUENCE.search(line)]

    def sequences(self) -> list[int]:
        """Give the numbers of the records that it has, in order of arrival; what came twice once."""
        found = [_SEQUENCE.search(line) for line in self.received()]
        return list(dict.fromkeys(int(match[1]) for match in found if match is not None))

    def wait_for(self, sequence: int) -> None:
        """Wait until it has a record."""
        deadline_s = time.monotonic() + 40
        while sequence not in self.sequences():
            assert time.monotonic() < deadline_s, f"{sequence} is not in {self.sequences()}"
            time.sleep(0.1)
