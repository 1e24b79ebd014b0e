"""
Associations over TLS: the layer between TCP and the Upper Layer, which does not know of it.

Twisted hands out decrypted data a record at a time, 16 KB at most; it is gathered here to what one read of the socket
gave, 1 MB at most, since scanning and writing small pieces costs several times as much.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.exceptions import CertificateError
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity
from twisted.internet import interfaces
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pacs.net.tls_reading import Connection
from pacs.security.handshake import HANDSHAKE_RECORD, NAME_MISMATCH, explain, what_speaks
from pacs.security.tls import HasCertificateError, certificate_names

GATHERED_BYTES: Final = 1 << 20
_NOTED: Final = "certificate_of_peer"


@implementer(interfaces.IHandshakeListener)
class _Gathering(Protocol):
    """
    Stands between TLS and the Upper Layer: watches the handshake, gathers decrypted records.

    Args:
        inner: the Upper Layer's protocol, which is given the TLS layer as its transport.
    """

    def __init__(self, inner: Protocol, *, timeout_s: float, clock: interfaces.IReactorTime) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._clock = clock
        self._timer: interfaces.IDelayedCall | None = None
        self._records: list[bytes] = []
        self._byte_count = 0
        self.is_established = False

    def makeConnection(self, transport: interfaces.ITransport) -> None:
        self._timer = self._clock.callLater(self._timeout_s, self._timed_out)
        super().makeConnection(transport)
        self._inner.makeConnection(transport)

    def handshakeCompleted(self) -> None:
        self.is_established = True
        self._stop_timer()

    def dataReceived(self, data: bytes) -> None:
        self._records.append(data)
        self._byte_count += len(data)
        if self._byte_count >= GATHERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand on what has been gathered."""
        records = self._records
        if records:
            self._records = []
            self._byte_count = 0
            self._inner.dataReceived(records[0] if len(records) == 1 else b"".join(records))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timer()
        self.flush()
        transport = cast(TLSTransport, self.transport)
        if transport.has_begun and not self.is_established:
            transport.refused(explain(reason.value, transport.certificate_error))
        self._inner.connectionLost(reason)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _timed_out(self) -> None:
        self._timer = None
        transport = cast(TLSTransport, self.transport)
        transport.refused(f"no TLS handshake within {self._timeout_s:g} s")
        transport.abortConnection()


class TLSTransport(TLSMemoryBIOProtocol, HasCertificateError):
    """
    The server's side of one TLS connection.

    Attributes:
        certificate_error: why the client's certificate was refused.
        has_begun: something was received; a mere look whether the port is open is not worth a line.
    """

    def __init__(self, factory: TLSAcceptorFactory, wrapped: _Gathering) -> None:
        super().__init__(factory, wrapped)
        self._gathering = wrapped
        self._acceptor_factory = factory
        self.has_begun = False
        self._is_refused = False

    @property
    def _tcp(self) -> Any:
        return self.transport

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """The names in the verified client certificate."""
        certificate = self.getHandle().get_peer_certificate(as_cryptography=True)
        return () if certificate is None else certificate_names(certificate)

    @property
    def tcp_socket(self) -> socket.socket | None:
        """The socket below, for options; nothing may be read from it or written to it."""
        handle = self._tcp.getHandle()
        return handle if isinstance(handle, socket.socket) else None

    @property
    def bufferSize(self) -> int:
        """How much one read of the socket gives at most."""
        return int(self._tcp.bufferSize)

    @bufferSize.setter
    def bufferSize(self, value: int) -> None:
        self._tcp.bufferSize = value

    def dataReceived(self, data: bytes) -> None:
        if not self.has_begun and data:
            self.has_begun = True
            if data[0] != HANDSHAKE_RECORD:
                self.refused(what_speaks(data[0]))
                self.abortConnection()
                return
        super().dataReceived(data)
        self._gathering.flush()

    def refused(self, why: str) -> None:
        """Report once why there is no TLS connection."""
        if not self._is_refused:
            self._is_refused = True
            self._acceptor_factory.refused(self._tcp.getPeer().host, why)


@implementer(interfaces.IOpenSSLServerConnectionCreator)
class ServerConnections:
    """
    Makes the connections that peers open.

    Attributes:
        context: for the next ones; those that are open keep theirs.
    """

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, tlsProtocol: interfaces.IProtocol) -> SSL.Connection:
        """Give a connection that knows its protocol."""
        connection = Connection(self.context, None)
        connection.set_app_data(tlsProtocol)
        return connection


class TLSAcceptorFactory(TLSMemoryBIOFactory):
    """
    Accepts TLS connections for an acceptor.

    Args:
        refused: told the address and the reason of each connection that has not become one of TLS.
        timeout_s: for the handshake.
    """

    noisy = False

    def __init__(
        self,
        *,
        connections: ServerConnections,
        acceptor: Factory,
        refused: Callable[[str, str], None],
        timeout_s: float,
        clock: interfaces.IReactorTime,
    ) -> None:
        super().__init__(connections, False, acceptor, clock)
        self._acceptor = acceptor
        self.refused = refused
        self._timeout_s = timeout_s
        self._handshake_clock = clock

    def buildProtocol(self, addr: interfaces.IAddress | None) -> TLSTransport | None:  # type: ignore[override]
        inner = cast(Protocol | None, self._acceptor.buildProtocol(addr))
        if inner is None:
            return None
        return TLSTransport(self, _Gathering(inner, timeout_s=self._timeout_s, clock=self._handshake_clock))


@implementer(interfaces.IOpenSSLClientConnectionCreator)
class ClientConnections:
    """
    Makes connections to a host, whose certificate must bear its name or address (RFC 6125).

    Args:
        context: gives the context of the moment.
    """

    def __init__(self, host: str, context: Callable[[], SSL.Context]) -> None:
        self._host = host
        self._context = context
        self._is_address = isIPAddress(host) or isIPv6Address(host)
        self._wanted: ServiceID = IPAddress_ID(host) if self._is_address else DNS_ID(host)

    def clientConnectionForTLS(self, tlsProtocol: interfaces.IProtocol) -> SSL.Connection:
        """Give a connection that fails unless the peer is whom we meant."""
        connection = SSL.Connection(self._context(), None)
        noted = HasCertificateError()
        setattr(tlsProtocol, _NOTED, noted)  # Twisted uses the connection's application data itself
        if not self._is_address:
            connection.set_tlsext_host_name(self._host.encode("idna"))
        connection.set_verify(SSL.VERIFY_PEER, partial(self._verify, noted))
        return connection

    def _verify(
        self,
        noted: HasCertificateError,
        connection: SSL.Connection,
        certificate: crypto.X509,
        code: int,
        depth: int,
        ok: int,
    ) -> bool:
        if ok and depth == 0:
            try:
                verify_service_identity(extract_patterns(certificate.to_cryptography()), [self._wanted], [])
            except (VerificationError, CertificateError):
                code, ok = NAME_MISMATCH, 0
        if not ok:
            noted.note(code, certificate)
        return bool(ok)


def explain_loss(transport: object, reason: Failure) -> str | None:
    """Say why a connection of ours over TLS was lost, or give None when TLS was not the cause."""
    if not isinstance(transport, TLSMemoryBIOProtocol) or not isinstance(reason.value, SSL.Error):
        return None
    noted = getattr(transport, _NOTED, None)
    error = noted.certificate_error if isinstance(noted, HasCertificateError) else None
    return f"TLS: {explain(reason.value, error)}"
