"""
TLS: DCMTK's tools and pynetdicom with server and mutual authentication, what is refused with which line in the log,
connections of ours, and files that change while the server runs.
"""

from __future__ import annotations

import signal
import socket
import ssl
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydicom.data import get_testdata_file
from pynetdicom import AE

from pacs.assembly.tls import Contexts
from pacs.config import Configuration
from pacs.dimse import Status
from pacs.security.passwords import hash_password
from pacs.security.tls import TLSFault
from pacs.ul import UserIdentity
from tests.certificates import DAY, Authority
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, VERIFICATION, Client, ct_data_set
from tests.retrieve import storescp
from tests.server import AE_TITLE, Server, free_port, run_tool

CT_SMALL: Final = str(get_testdata_file("CT_small.dcm"))
MODALITY: Final = "modality.hospital.example"


class Certificates:
    """
    What the tests show and refuse.

    Attributes:
        server, modality, ...: the files of a certificate and its key.
    """

    def __init__(self, directory: Path) -> None:
        self.ca = Authority(directory / "ca")
        self.other_ca = Authority(directory / "other", "Other CA")
        self.server = self.ca.issue("localhost", "localhost", "127.0.0.1")
        self.modality = self.ca.issue(MODALITY)
        self.expired = self.ca.issue("expired.example", starts=-9 * DAY, ends=-2 * DAY)
        self.future = self.ca.issue("future.example", starts=DAY)
        self.foreign = self.other_ca.issue("foreign.example")
        self.revoked = self.ca.issue("revoked.example")
        self.elsewhere = self.ca.issue("elsewhere.example")
        self.soon = self.ca.issue("soon.example", "localhost", ends=10 * DAY)
        self.crl = self.ca.revoke(self.revoked[0])

    def configuration(self, **tls: Any) -> dict[str, Any]:
        """Give a configuration with TLS, and more of it."""
        base = {
            "enabled": True,
            "certificate": str(self.server[0]),
            "private_key": str(self.server[1]),
            "ca_certificate": str(self.ca.pem),
        }
        return {"server": {"tls": base | tls}}

    def context(self, *, shows: tuple[Path, Path] | None = None, trusts: Authority | None = None) -> ssl.SSLContext:
        """Give a client's context."""
        context = ssl.create_default_context(cafile=str((trusts or self.ca).pem))
        if shows is not None:
            context.load_cert_chain(*shows)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def dcmtk(tool: str, server: Server, certificates: Certificates, *arguments: str, shows: Any = None) -> str:
    """Run one of DCMTK's tools with server authentication, or with mutual authentication; give its output."""
    tls = ("--anonymous-tls",) if shows is None else ("--enable-tls", str(shows[1]), str(shows[0]))
    options = (*tls, "--add-cert-file", str(certificates.ca.pem), "-aec", AE_TITLE)
    return run_tool(tool, "-v", *options, "localhost", str(server.port), *arguments, check=False).stdout


# -- who connects


def test_dcmtk_connects_with_server_authentication(make_server: MakeServer, certificates: Certificates) -> None:
    server = make_server(certificates.configuration())
    assert "Received Echo Response (Success)" in dcmtk("echoscu", server, certificates)
    assert "Received Store Response (Success)" in dcmtk("storescu", server, certificates, CT_SMALL)
    found = dcmtk("findscu", server, certificates, "-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID")
    assert "Find Response: 1 (Pending)" in found
    assert "TLS connection from" not in server.log()


def test_dcmtk_connects_with_mutual_authentication(make_server: MakeServer, certificates: Certificates) -> None:
    server = make_server(certificates.configuration(require_client_cert=True))
    shown = dcmtk("storescu", server, certificates, CT_SMALL, shows=certificates.modality)
    assert "Received Store Response (Success)" in shown
    assert "Association Request Failed" in dcmtk("echoscu", server, certificates)
    server.wait_for_log("is refused: the peer shows no certificate; server.tls.require_client_cert asks for one")


@pytest.mark.parametrize("profile", ["bcp195", "bcp195_modified"])
def test_both_versions_with_mutual_authentication_by_pynetdicom_and_large_objects(
    make_server: MakeServer, certificates: Certificates, profile: str
) -> None:
    server = make_server(certificates.configuration(require_client_cert=True, profile=profile))
    for number, version in enumerate((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)):
        context = certificates.context(shows=certificates.modality)
        context.minimum_version = context.maximum_version = version
        entity = AE("STORESCU")
        entity.add_requested_context(VERIFICATION)
        association = entity.associate("localhost", server.port, ae_title=AE_TITLE, tls_args=(context, "localhost"))
        assert association.is_established
        assert association.send_c_echo().Status == 0
        association.release()
        uid, data_set = f"1.2.{number}", ct_data_set(f"1.2.{number}", pixels=bytes(range(256)) * 40_000)
        with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT), tls=context) as client:
            assert client.store(data_set, uid).status == Status.SUCCESS
        stored = next(path for path in server.objects() if uid in path.name).read_bytes()
        assert stored.endswith(data_set)


def test_a_second_port_speaks_tls_beside_plain_tcp(make_server: MakeServer, certificates: Certificates) -> None:
    tls_port = free_port()
    server = make_server(certificates.configuration(port=tls_port))
    with Client(server.port) as client:
        assert client.echo() == Status.SUCCESS
    with Client(tls_port, tls=certificates.context()) as client:
        assert client.echo() == Status.SUCCESS
    with pytest.raises(OSError, match=r"(?i)ssl|reset|eof|closed"):
        Client(server.port, tls=certificates.context())
    server.wait_for_log("unrecognized PDU type 16H, a TLS handshake; this port is without TLS")


def test_a_key_may_be_encrypted_and_of_an_elliptic_curve(make_server: MakeServer, certificates: Certificates) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, private_key = certificates.ca.issue("curve.example", "localhost", key=key, passphrase=b"open sesame")
    password = private_key.with_suffix(".pass")
    password.write_text("open sesame\n")
    password.chmod(0o600)
    server = make_server(
        certificates.configuration(
            certificate=str(certificate), private_key=str(private_key), private_key_password_file=str(password)
        )
    )
    with Client(server.port, tls=certificates.context()) as client:
        assert client.echo() == Status.SUCCESS


# -- who is refused, and with which line


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes or resets a connection without a word."""
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def weak(setting: Callable[[ssl.SSLContext], None]) -> Callable[[Certificates], ssl.SSLContext]:
    """Give a maker of a context that offers less than we take."""

    def make(certificates: Certificates) -> ssl.SSLContext:
        context = certificates.context(shows=certificates.modality)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.set_ciphers("ALL:@SECLEVEL=0")
            setting(context)
        return context

    return make


def only_version(version: ssl.TLSVersion) -> Callable[[ssl.SSLContext], None]:
    def setting(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version

    return setting


def only_suites(suites: str) -> Callable[[ssl.SSLContext], None]:
    def setting(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{suites}:@SECLEVEL=0")

    return setting


REFUSED: Final[Mapping[str, tuple[Callable[[Certificates], ssl.SSLContext], str]]] = {
    "TLS 1.0": (weak(only_version(ssl.TLSVersion.TLSv1)), "no TLS version in common"),
    "TLS 1.1": (weak(only_version(ssl.TLSVersion.TLSv1_1)), "no TLS version in common"),
    "CBC": (weak(only_suites("ECDHE-RSA-AES128-SHA256")), "no cipher suite in common"),
    "no forward secrecy": (weak(only_suites("AES128-GCM-SHA256")), "no cipher suite in common"),
    "finite field": (weak(only_suites("DHE-RSA-AES128-GCM-SHA256")), "no cipher suite in common"),
    "no certificate": (lambda c: c.context(), "the peer shows no certificate"),
    "expired": (lambda c: c.context(shows=c.expired), "certificate of CN=expired.example is refused: it has expired"),
    "future": (lambda c: c.context(shows=c.future), "of CN=future.example is refused: it is not valid yet"),
    "foreign": (lambda c: c.context(shows=c.foreign), "of CN=foreign.example is refused: its authority is not in"),
    "revoked": (lambda c: c.context(shows=c.revoked), "of CN=revoked.example is refused: it is revoked"),
    "wrong CA": (
        lambda c: c.context(shows=c.modality, trusts=c.other_ca),
        "the peer does not know the authority of our certificate",
    ),
}


def test_each_refused_handshake_gets_one_line_that_says_why(
    make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(certificates.configuration(require_client_cert=True, crl=str(certificates.crl)))
    for name, (make_context, line) in REFUSED.items():
        with pytest.raises((OSError, AssertionError, ValueError, IndexError)):
            Client(server.port, tls=make_context(certificates))
        server.wait_for_log(line)
        assert name
    lines = [line for line in server.log().splitlines() if "TLS connection from 127.0.0.1 is refused" in line]
    assert len(lines) == len({line for _, line in REFUSED.values()}), "once a minute and reason"
    with Client(server.port, tls=certificates.context(shows=certificates.modality)) as client:
        assert client.echo() == Status.SUCCESS
    assert "Traceback" not in server.log()


def test_min_version_1_3_refuses_1_2(make_server: MakeServer, certificates: Certificates) -> None:
    server = make_server(certificates.configuration(min_version="1.3"))
    assert "Association Request Failed" in dcmtk("echoscu", server, certificates, "--profile-bcp195-ex")
    context = certificates.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        Client(server.port, tls=context)
    server.wait_for_log("no TLS version in common, the peer's is older than server.tls.min_version")
    with Client(server.port, tls=certificates.context()) as client:
        assert client.echo() == Status.SUCCESS


def test_the_server_prefers_its_own_order_of_suites(make_server: MakeServer, certificates: Certificates) -> None:
    server = make_server(certificates.configuration())
    context = certificates.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384")
    with Client(server.port, tls=context) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        cipher = client.socket.cipher()
        assert cipher is not None
        assert cipher[0] == "ECDHE-RSA-AES256-GCM-SHA384"


def test_clients_that_do_not_speak_tls_get_one_line(make_server: MakeServer, certificates: Certificates) -> None:
    server = make_server(certificates.configuration())
    assert (
        "Association Request Failed"
        in run_tool("echoscu", "-v", "-aec", AE_TITLE, "localhost", str(server.port), check=False).stdout
    )
    server.wait_for_log("is refused: a DICOM client without TLS on a port with TLS")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as http:
        http.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert is_closed(http)
    server.wait_for_log("a client without TLS, of HTTP maybe, on a port with TLS")


def test_a_handshake_that_does_not_come_to_an_end_is_closed(
    make_server: MakeServer, certificates: Certificates
) -> None:
    configuration = certificates.configuration()
    configuration["server"]["limits"] = {"tls_handshake_seconds": 0.5}
    server = make_server(configuration)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as silent:
        silent.sendall(b"\x16\x03\x01")
        assert is_closed(silent)
    server.wait_for_log("is refused: no TLS handshake within 0.5 s")


# -- who it is


def test_the_names_in_a_verified_certificate_decide_on_the_role(
    make_server: MakeServer, certificates: Certificates
) -> None:
    configuration = certificates.configuration(require_client_cert=True)
    configuration["security"] = {
        "access_control": {
            "default_role": "none",
            "grants": [{"role": "technologist", "certificate_names": ["*.hospital.example"]}],
        }
    }
    server = make_server(configuration)
    for shows, expected in ((certificates.modality, Status.SUCCESS), (certificates.elsewhere, Status.NOT_AUTHORIZED)):
        context = certificates.context(shows=shows)
        with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT), tls=context) as client:
            assert client.store(ct_data_set("1.2.3"), "1.2.3").status == expected


def test_a_passcode_is_verified_over_tls(make_server: MakeServer, certificates: Certificates) -> None:
    configuration = certificates.configuration()
    users = [{"name": "anna", "role": "technologist", "password_hash": hash_password("correct horse")}]
    configuration["security"] = {"access_control": {"default_role": "none", "users": users}}
    server = make_server(configuration)
    identity = UserIdentity(2, True, b"anna", b"correct horse")
    with Client(
        server.port, (CT_IMAGE_STORAGE, EXPLICIT), tls=certificates.context(), user_identity=identity
    ) as client:
        assert client.store(ct_data_set("1.2.3"), "1.2.3").status == Status.SUCCESS


# -- files that change


def test_sighup_renews_the_certificate_and_keeps_associations(
    make_server: MakeServer, certificates: Certificates, tmp_path: Path
) -> None:
    files = [tmp_path / "server.pem", tmp_path / "server.key"]
    for target, source in zip(files, certificates.soon, strict=True):
        target.write_bytes(source.read_bytes())
        target.chmod(0o600)
    server = make_server(certificates.configuration(certificate=str(files[0]), private_key=str(files[1])))
    server.wait_for_log("certificate is degraded: the TLS certificate expires on")
    with Client(server.port, tls=certificates.context()) as client:
        files[0].write_text("no certificate")
        hang_up(server)
        server.wait_for_log(f"TLS stays as it was: server.tls.certificate: '{files[0]}' has no PEM certificate")
        assert serial(server, certificates) == serial_of(certificates.soon[0])
        for target, source in zip(files, certificates.server, strict=True):
            target.write_bytes(source.read_bytes())
        hang_up(server)
        server.wait_for_log("revocation list are read again")
        server.wait_for_log("certificate is healthy")
        assert serial(server, certificates) == serial_of(certificates.server[0])
        assert client.echo() == Status.SUCCESS


def hang_up(server: Server) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)


def serial(server: Server, certificates: Certificates) -> str:
    with Client(server.port, tls=certificates.context()) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        certificate = client.socket.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def serial_of(path: Path) -> str:
    number = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
    text = f"{number:X}"
    return "0" * (len(text) % 2) + text


FAULTS: Final[Mapping[str, tuple[Callable[[Certificates], dict[str, Any]], str]]] = {
    "missing": (lambda _: {"certificate": "/nowhere/a.pem"}, "server.tls.certificate: '/nowhere/a.pem' can't be read"),
    "mismatch": (lambda c: {"private_key": str(c.modality[1])}, "server.tls.private_key: "),
    "expired": (
        lambda c: {"certificate": str(c.expired[0]), "private_key": str(c.expired[1])},
        "expired on ",
    ),
    "no authority": (
        lambda _: {"require_client_cert": True, "ca_certificate": "/nowhere/ca.pem"},
        "server.tls.ca_certificate: '/nowhere/ca.pem' can't be read",
    ),
    "no list": (lambda c: {"require_client_cert": True, "crl": str(c.ca.pem)}, "server.tls.crl: "),
}


def contexts(certificates: Certificates, **tls: Any) -> Contexts:
    """Read the files of a configuration, as the start does."""
    return Contexts(Configuration.model_validate(certificates.configuration(**tls)))


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_can_not_be_used_is_a_fault(certificates: Certificates, name: str) -> None:
    change, expected = FAULTS[name]
    with pytest.raises(TLSFault) as fault:
        contexts(certificates, **change(certificates))
    assert expected in f"server.tls.{fault.value.key}: {fault.value}"


def test_a_fault_ends_the_start_with_one_line(tmp_path: Path, certificates: Certificates) -> None:
    server = Server(tmp_path, certificates.configuration(private_key=str(certificates.modality[1])))
    with pytest.raises(RuntimeError, match="the server ended with 1"):
        server.start()
    lines = [line for line in server.log().splitlines() if "not available yet" not in line]
    assert len(lines) == 1, lines
    line = next(i for i, text in enumerate(server.config.read_text().splitlines(), 1) if "private_key:" in text)
    assert lines[0].startswith(f"{server.config}:{line}: server.tls.private_key: ")
    assert lines[0].endswith(f"does not belong to '{certificates.server[0]}'")


def test_keys_that_others_can_read_and_weak_ones_are_refused(certificates: Certificates) -> None:
    certificate, key = certificates.ca.issue("open.example", "localhost")
    key.chmod(0o644)
    with pytest.raises(TLSFault, match="can be read by everybody; chmod o-r it"):
        contexts(certificates, certificate=str(certificate), private_key=str(key))
    small = rsa.generate_private_key(65537, 1024)
    certificate, key = certificates.ca.issue("small.example", "localhost", key=small)
    with pytest.raises(TLSFault, match="has a key of 1024 bits, RSA needs 2048"):
        contexts(certificates, certificate=str(certificate), private_key=str(key))


# -- connections of ours


def test_objects_go_to_a_node_over_tls_whose_name_is_verified(
    make_server: MakeServer, certificates: Certificates, tmp_path: Path
) -> None:
    port = free_port()
    nodes = [
        {"ae_title": "DEST", "host": "localhost", "port": port, "tls": True},
        {"ae_title": "PLAIN", "host": "localhost", "port": port},
    ]
    configuration = certificates.configuration(port=free_port())
    configuration["server"]["remote_nodes"] = nodes
    server = make_server(configuration)
    run_tool("storescu", "-aec", AE_TITLE, "localhost", str(server.port), CT_SMALL)

    def move(destination: str) -> str:
        keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.3.6.1.4.1.5962.1.2.1.20040119072730.12322")
        options = ("-v", "-S", "-aet", "STORESCU", "-aec", AE_TITLE, "-aem", destination)
        return run_tool("movescu", *options, "localhost", str(server.port), *keys, check=False).stdout

    received = tmp_path / "received"
    received.mkdir()
    tls: tuple[str, ...] = ("--enable-tls", str(certificates.server[1]), str(certificates.server[0]))
    tls += ("--add-cert-file", str(certificates.ca.pem))
    with storescp(received, port, *tls):
        assert "Received Final Move Response (Success)" in move("DEST")
        assert len(list(received.iterdir())) == 1
        assert "Received Final Move Response (Success)" not in move("PLAIN")
    tls = ("--enable-tls", str(certificates.elsewhere[1]), str(certificates.elsewhere[0]), "--ignore-peer-cert")
    with storescp(received, port, *tls):
        assert "Received Final Move Response (Success)" not in move("DEST")
        server.wait_for_log("the certificate of CN=elsewhere.example is refused: it does not bear the name of the host")
    assert len(list(received.iterdir())) == 1
