"""
The ways to an audit collector: syslog over UDP (RFC 5426) and over TLS (RFC 5425).

Neither has acknowledgments of its own. Over TLS, messages count as taken when the collector's TCP has acknowledged
every byte; over UDP, when no "port unreachable" has come back for a moment.
"""

from __future__ import annotations

import fcntl
import ipaddress
import struct
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, cast

from cryptography import x509
from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator, ISystemHandle
from twisted.internet.protocol import DatagramProtocol, Factory, connectionDone
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pacs.security.audit.syslog import octet_counted

CONNECT_S: Final = 10.0
CONFIRM_INTERVAL_S: Final = 0.02
CONFIRM_S: Final = 30.0
REFUSED_WITHIN_S: Final = 0.1
LONGEST_DATAGRAM_BYTES: Final = 65507  # of UDP over IPv4


class Connection(Protocol):
    """A way that is open."""

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send messages in order; return when they count as taken. Raises what ended the connection."""

    def close(self) -> None:
        """Close it."""

    @property
    def is_lost(self) -> bool:
        """Whether it is gone."""

    lost: Deferred[None]


class Transport(Protocol):
    """Opens a way to the collector."""

    async def connect(self) -> Connection:
        """Open it; raises what prevents that."""


# -- UDP


class _Datagrams(DatagramProtocol):
    """Sends datagrams to one place; what is longer than one may be is cut, lest all that follows wait for it."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._is_refused = False
        self.is_lost = False
        self.lost: Deferred[None] = Deferred()

    async def send(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            if len(message) > LONGEST_DATAGRAM_BYTES:
                self.log.warn(
                    "an audit record of {length} bytes is cut for the collector: UDP takes {most}; the log has it all",
                    length=len(message),
                    most=LONGEST_DATAGRAM_BYTES,
                )
            if self.transport is not None:
                self.transport.write(message[:LONGEST_DATAGRAM_BYTES], None)
        await deferLater(self._reactor, REFUSED_WITHIN_S)
        await deferLater(self._reactor, 0)  # a late reactor looks at its timers first: let it look at the socket too
        if self._is_refused:
            raise ConnectionRefusedError("nobody listens there")

    def connectionRefused(self) -> None:
        self._is_refused = True

    def stopProtocol(self) -> None:
        """The reactor closes a socket on which an error is pending: "port unreachable" came back."""
        if not self.is_lost:
            self.is_lost = self._is_refused = True
            self.lost.callback(None)

    def close(self) -> None:
        self.is_lost = True
        if self.transport is not None:
            self.transport.stopListening()


class UDPTransport:
    """Syslog over UDP, RFC 5426: one message a datagram."""

    def __init__(self, *, host: str, port: int, reactor: Any) -> None:
        self._host = host
        self._port = port
        self._reactor = reactor

    async def connect(self) -> Connection:
        """Look the host up and take a socket; says nothing about whether somebody listens."""
        try:
            address = str(ipaddress.ip_address(self._host))
        except ValueError:
            address = await self._reactor.resolve(self._host)
        datagrams = _Datagrams(self._reactor)
        self._reactor.listenUDP(0, datagrams, interface="::" if ":" in address else "")
        assert datagrams.transport is not None
        datagrams.transport.connect(address, self._port)
        return datagrams


# -- TLS


@implementer(IHandshakeListener)
class _Stream(StreamProtocol):
    """Sends octet-counted messages."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._why_lost: Failure | None = None
        self.is_lost = False
        self.lost: Deferred[None] = Deferred()
        self.ready: Deferred[None] = Deferred()

    def handshakeCompleted(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True
        self._why_lost = reason
        if not self.ready.called:
            self.ready.errback(reason)
        self.lost.callback(None)

    async def send(self, messages: Sequence[bytes]) -> None:
        assert self.transport is not None
        self.transport.write(b"".join(map(octet_counted, messages)))
        waited_s = 0.0
        while not self._is_taken():
            if waited_s > CONFIRM_S:
                self.close()
                raise ConnectionLost("the collector takes nothing")
            await deferLater(self._reactor, CONFIRM_INTERVAL_S)
            waited_s += CONFIRM_INTERVAL_S

    def _is_taken(self) -> bool:
        """Whether the collector's TCP has acknowledged whatever was written."""
        if self._why_lost is not None:
            self._why_lost.raiseException()
        tcp = getattr(self.transport, "transport", None)
        if tcp in self._reactor.getWriters() or not ISystemHandle.providedBy(tcp):
            return False
        (unacknowledged,) = struct.unpack("i", fcntl.ioctl(_descriptor_of(tcp), termios.TIOCOUTQ, b"\0" * 4))
        return bool(unacknowledged == 0)

    def close(self) -> None:
        abort = getattr(self.transport, "abortConnection", None)
        if abort is not None and not self.is_lost:
            abort()


def _descriptor_of(tcp: ISystemHandle) -> int:
    handle: Any = tcp.getHandle()
    return int(handle.fileno())


class TLSTransport:
    """Syslog over TLS, RFC 5425; the collector's name is verified."""

    def __init__(self, *, host: str, port: int, options: IOpenSSLClientConnectionCreator, reactor: Any) -> None:
        self._host = host
        self._port = port
        self._options = options
        self._reactor = reactor

    async def connect(self) -> Connection:
        """Connect and complete the handshake."""
        endpoint = wrapClientTLS(
            self._options, HostnameEndpoint(self._reactor, self._host, self._port, timeout=CONNECT_S)
        )
        stream = cast(_Stream, await endpoint.connect(Factory.forProtocol(lambda: _Stream(self._reactor))))
        stream.ready.addTimeout(CONNECT_S, self._reactor)
        try:
            await stream.ready
        except BaseException:
            stream.close()
            raise
        return stream


def client_options(
    host: str, *, ca_certificate: Path, certificate: Path | None, private_key: Path | None
) -> IOpenSSLClientConnectionCreator:
    """
    Give TLS 1.2 or newer to a host, trusting one file of certificates.

    Raises:
        OSError: a file can't be read.
        ValueError: it does not hold what it should.
    """
    trusted = [
        Certificate(crypto.X509.from_cryptography(one))
        for one in x509.load_pem_x509_certificates(ca_certificate.read_bytes())
    ]
    own = None
    if certificate is not None and private_key is not None:
        try:
            own = PrivateCertificate.loadPEM(private_key.read_bytes() + b"\n" + certificate.read_bytes())
        except crypto.Error:
            raise ValueError(f"{certificate} and {private_key} are no certificate and key in PEM") from None
    return optionsForClientTLS(
        host,
        trustRoot=trustRootFromCertificates(trusted),
        clientCertificate=own,
        extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
    )
