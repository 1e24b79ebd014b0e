"""
Why a TLS handshake failed, in words that tell an operator what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed

HANDSHAKE_RECORD: Final = 0x16
A_ASSOCIATE_RQ: Final = 0x01
NAME_MISMATCH: Final = 62

_CERTIFICATE_ERRORS: Final[Mapping[int, str]] = {
    2: "its issuer is not in server.tls.ca_certificate",
    3: "server.tls.crl has no list of its issuer",
    9: "it is not valid yet",
    10: "it has expired",
    12: "the revocation list has expired",
    18: "it is self-signed and not in server.tls.ca_certificate",
    19: "its authority is not in server.tls.ca_certificate",
    20: "its authority is not in server.tls.ca_certificate",
    21: "its authority is not in server.tls.ca_certificate",
    23: "it is revoked",
    24: "its authority may not sign certificates",
    26: "it is not meant for this use (extended key usage)",
    NAME_MISMATCH: "it does not bear the name of the host that we connect to",
    66: "its key is too short",
    67: "the key of its authority is too short",
    68: "it is signed with a weak digest",
}
"""X509_V_ERR_… of OpenSSL."""

_REASONS: Final[Mapping[str, str]] = {
    "no shared cipher": "no cipher suite in common; server.tls.profile allows authenticated ones with forward secrecy",
    "unsupported protocol": "no TLS version in common, the peer's is older than server.tls.min_version",
    "version too low": "no TLS version in common, the peer's is older than server.tls.min_version",
    "tlsv1 alert protocol version": "no TLS version in common, the peer refuses ours",
    "peer did not return a certificate": "the peer shows no certificate; server.tls.require_client_cert asks for one",
    "wrong version number": "the peer does not speak TLS",
    "packet length too long": "the peer does not speak TLS",
    "http request": "the peer speaks HTTP, not TLS",
    "tlsv1 alert unknown ca": "the peer does not know the authority of our certificate",
    "sslv3 alert bad certificate": "the peer refuses our certificate",
    "sslv3 alert certificate expired": "the peer says that our certificate has expired",
    "sslv3 alert certificate unknown": "the peer refuses our certificate",
    "sslv3 alert certificate revoked": "the peer says that our certificate is revoked",
    "sslv3 alert handshake failure": "the peer finds nothing in common, or asks for a client certificate",
    "tlsv13 alert certificate required": "the peer asks for a client certificate; set server.tls.certificate",
    "no suitable signature algorithm": "no signature algorithm in common; is our key of a kind that the peer knows?",
}
"""By the reason texts of OpenSSL."""


def explain(error: BaseException | None, certificate_error: tuple[int, str] | None = None) -> str:
    """
    Say why a handshake failed.

    Args:
        error: what ended the connection.
        certificate_error: OpenSSL's verification error and the certificate's subject.
    """
    if certificate_error is not None:
        code, subject = certificate_error
        why = _CERTIFICATE_ERRORS.get(code, f"verification error {code}")
        return f"the certificate of {subject or 'a nameless subject'} is refused: {why}"
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        reason = str(error.args[0][-1][-1])
        return _REASONS.get(reason, reason or "unknown reason")
    if isinstance(error, ConnectionClosed):
        return "the peer closed the connection during the handshake"
    return "unknown reason"


def what_speaks(first: int) -> str:
    """Say what a connection is that does not begin with a TLS handshake."""
    if first == A_ASSOCIATE_RQ:
        return "a DICOM client without TLS on a port with TLS"
    if first in b"GPHOCDT":
        return "a client without TLS, of HTTP maybe, on a port with TLS"
    return "the peer does not speak TLS"
