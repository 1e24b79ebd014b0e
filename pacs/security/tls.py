"""
TLS contexts: certificates, keys, authorities and revocation lists from files; the profiles of PS3.15 by their names.

Everything is read and parsed before a context is made, so that a fault leaves the one in use as it is. What is wrong is
told as the key of the configuration and what to do; there is no way back to plain TCP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL, crypto

from pacs.security.secret_files import LARGEST_FILE_BYTES, SecretFileError, read_secret_file

LEAST_RSA_BITS: Final = 2048
LEAST_EC_BITS: Final = 256
SESSION_CONTEXT: Final = b"productionpacs"

_ECDHE_GCM: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
_ECDHE_CHACHA20: Final = ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305")
_ECDHE_CCM: Final = (
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES256-CCM8",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
)
_TLS_1_3: Final = ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
_TLS_1_3_CCM: Final = ("TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256")


@dataclass(frozen=True, slots=True)
class Profile:
    """
    A TLS Secure Transport Connection Profile: its cipher suites, in the order that the server prefers.

    Every one is authenticated encryption with forward secrecy.
    """

    section: str
    tls_1_2: tuple[str, ...]
    tls_1_3: tuple[str, ...]


PROFILES: Final[Mapping[str, Profile]] = {
    "bcp195": Profile("PS3.15 B.12", _ECDHE_GCM + _ECDHE_CHACHA20, _TLS_1_3),
    "bcp195_modified": Profile("PS3.15 B.13", _ECDHE_GCM + _ECDHE_CHACHA20 + _ECDHE_CCM, _TLS_1_3 + _TLS_1_3_CCM),
}

_VERSIONS: Final[Mapping[str, int]] = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


class TLSFault(Exception):
    """
    A file can't be used.

    Attributes:
        key: of the section.
        section: of the configuration.
    """

    section: tuple[str, ...] = ("server", "tls")

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """
    What contexts are made of.

    Attributes:
        certificate, private_key: paths of PEM files; the certificate's file may go on with its chain.
        ca_certificate: whom we trust, for client certificates and for the nodes that we connect to.
        min_version: "1.2" or "1.3".
        profile: a key of `PROFILES`.
    """

    certificate: Path
    private_key: Path
    ca_certificate: Path
    private_key_password_file: Path | None = None
    requires_client_certificate: bool = False
    crl: Path | None = None
    min_version: str = "1.2"
    profile: str = "bcp195"


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Our own certificate.

    Attributes:
        chain: the certificates of those who signed it.
        not_after: when it expires.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    private_key: Any
    not_after: datetime


def load_identity(settings: TLSSettings, warn: Callable[[str], None]) -> Identity:
    """
    Read our certificate with its chain and the private key.

    Args:
        warn: told of files that others can read, with the key of the section.

    Raises:
        TLSFault: they can't be read, do not belong together, are expired or too weak for the profile.
    """
    certificates = _certificates("certificate", settings.certificate)
    certificate = certificates[0]
    private_key = _private_key(settings, warn)
    if _public_bytes(private_key.public_key()) != _public_bytes(certificate.public_key()):
        raise TLSFault("private_key", f"'{settings.private_key}' does not belong to '{settings.certificate}'")
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc <= now:
        raise TLSFault(
            "certificate", f"'{settings.certificate}' expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
        )
    if certificate.not_valid_before_utc > now:
        raise TLSFault(
            "certificate", f"'{settings.certificate}' is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
        )
    weakness = _weakness(certificate.public_key())
    if weakness:
        raise TLSFault("certificate", f"'{settings.certificate}' has a key of {weakness}")
    return Identity(certificate, tuple(certificates[1:]), private_key, certificate.not_valid_after_utc)


def make_server_context(settings: TLSSettings, identity: Identity) -> SSL.Context:
    """
    Make the context for connections that peers open.

    Raises:
        TLSFault: the authorities or the revocation list can't be used.
    """
    context = _make_context(settings, SSL.TLS_SERVER_METHOD)
    _use_identity(context, identity)
    context.set_session_id(SESSION_CONTEXT)
    if settings.requires_client_certificate:
        authorities = _certificates("ca_certificate", settings.ca_certificate)
        _trust(context, authorities, settings)
        for authority in authorities:
            context.add_client_ca(authority)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _note_verification)
    return context


def make_client_context(settings: TLSSettings, identity: Identity | None) -> SSL.Context:
    """
    Make the context for connections that we open; the host's name is verified by whoever connects.

    Args:
        identity: shown to servers that ask for a client certificate.

    Raises:
        TLSFault: the authorities or the revocation list can't be used.
    """
    context = _make_context(settings, SSL.TLS_CLIENT_METHOD)
    if identity is not None:
        _use_identity(context, identity)
    _trust(context, _certificates("ca_certificate", settings.ca_certificate), settings)
    context.set_verify(SSL.VERIFY_PEER, _note_verification)
    return context


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Give the subject alternative names of a certificate: DNS names, addresses, e-mail addresses and URIs."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    kinds = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)
    return tuple(str(name.value) for name in extension.value if isinstance(name, kinds))


class HasCertificateError:
    """
    Is told why a certificate was refused.

    Attributes:
        certificate_error: OpenSSL's code and the certificate's subject, of the first one that was refused.
    """

    certificate_error: tuple[int, str] | None = None

    def note(self, code: int, certificate: crypto.X509) -> None:
        """Keep the first error."""
        if self.certificate_error is None:
            self.certificate_error = (code, certificate.to_cryptography().subject.rfc4514_string())


def _note_verification(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    if not ok:
        noted = connection.get_app_data()
        if isinstance(noted, HasCertificateError):
            noted.note(code, certificate)
    return bool(ok)


def _read_secret(key: str, path: Path, warn: Callable[[str], None]) -> bytes:
    try:
        return read_secret_file(path, lambda message: warn(f"{key}: {message}"))
    except SecretFileError as error:
        raise TLSFault(key, str(error)) from None


def _make_context(settings: TLSSettings, method: int) -> SSL.Context:
    context = SSL.Context(method)
    profile = PROFILES[settings.profile]
    context.set_min_proto_version(_VERSIONS[settings.min_version])
    context.set_cipher_list(":".join(profile.tls_1_2).encode())
    context.set_tls13_ciphersuites(":".join(profile.tls_1_3).encode())
    # a resumed session would not ask for the client's certificate, nor look into the revocation list, again
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION
    )
    return context


def _use_identity(context: SSL.Context, identity: Identity) -> None:
    context.use_certificate(identity.certificate)
    for certificate in identity.chain:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(identity.private_key)


def _trust(context: SSL.Context, authorities: Sequence[x509.Certificate], settings: TLSSettings) -> None:
    store = context.get_cert_store()
    assert store is not None
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    if settings.crl is not None:
        for revoked in _revocation_lists(settings.crl):
            store.add_crl(revoked)
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK)


def _read(key: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_FILE_BYTES)
    except OSError as error:
        raise TLSFault(key, f"'{path}' can't be read: {error.strerror}") from None


def _certificates(key: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(key, path))
    except (ValueError, UnsupportedAlgorithm):
        raise TLSFault(key, f"'{path}' has no PEM certificate") from None


def _revocation_lists(path: Path) -> list[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----"
    parts = [part + end for part in _read("crl", path).split(end)[:-1]]
    try:
        found = [x509.load_pem_x509_crl(part) for part in parts]
    except (ValueError, UnsupportedAlgorithm):
        found = []
    if not found:
        raise TLSFault("crl", f"'{path}' has no PEM certificate revocation list")
    for revoked in found:
        if revoked.next_update_utc is not None and revoked.next_update_utc <= datetime.now(UTC):
            raise TLSFault("crl", f"'{path}' expired on {revoked.next_update_utc:%Y-%m-%d}; fetch the next one")
    return found


def _private_key(settings: TLSSettings, warn: Callable[[str], None]) -> Any:
    path, password_path = settings.private_key, settings.private_key_password_file
    data = _read_secret("private_key", path, warn)
    password = None
    if password_path is not None:
        password = _read_secret("private_key_password_file", password_path, warn).rstrip(b"\r\n")
    try:
        return load_pem_private_key(data, password or None)
    except TypeError:  # encrypted and no password, or the other way round
        if password:
            return load_pem_private_key(data, None)
        raise TLSFault("private_key", f"'{path}' is encrypted; give private_key_password_file") from None
    except (ValueError, UnsupportedAlgorithm):
        if password:
            raise TLSFault("private_key", f"'{path}' can't be decrypted with '{password_path}'") from None
        raise TLSFault("private_key", f"'{path}' has no PEM private key") from None


def _public_bytes(key: Any) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


def _weakness(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        return f"{key.key_size} bits, RSA needs {LEAST_RSA_BITS}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < LEAST_EC_BITS:
        return f"{key.key_size} bits, ECDSA needs {LEAST_EC_BITS}"
    return ""
