"""
The listening socket of the DICOM ports: Twisted's, with a short way for each connection.

A scanner opens an association for each object, so that accepting and closing is half of the work of a short one.
Options are set once, on the listening socket, and inherited; names for the log are made when they are asked for.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final

from twisted.internet import tcp
from twisted.internet.address import IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.net.flood import FloodGate
from pacs.net.privileged import Bound

_CLOSED: Final = Failure(CONNECTION_DONE)
ACCEPTS_AT_ONCE: Final = 64  # then the connections that are there get their turn


class _ListeningSocket(socket.socket):
    """Knows its family, which `socket.socket` looks up as an enumeration for each connection."""

    _of_connections: tuple[int, int, int]

    def accept(self) -> tuple[socket.socket, Any]:
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        return socket.socket(*self._of_connections, descriptor), address


class ServerConnection(tcp.Server):
    """A connection that a peer opened; its options are those of the listening socket."""

    def __init__(
        self, sock: socket.socket, protocol: Any, client: tuple[Any, ...], server: Any, sessionno: int, reactor: Any
    ) -> None:
        tcp.Connection.__init__(self, sock, protocol, reactor)
        if len(client) != 2:
            self._addressType = IPv6Address
        self.client = client
        self.server = server
        self.sessionno = sessionno
        self.hostname = client[0]
        self.logstr = self.repstr = "association"
        self.startReading()
        self.connected = 1

    def readConnectionLost(self, reason: Failure) -> None:
        """The peer closed: the Upper Layer has no half-closed connections (PS3.8 9.1.3)."""
        self.connectionLost(reason)

    def _dataReceived(self, data: bytes | None) -> None:
        if data:
            self.protocol.dataReceived(data)
        else:
            self.connectionLost(_CLOSED)

    def write(self, data: bytes) -> None:
        """Send at once what the socket takes, as TLS's records; the reactor would have to be asked twice for it."""
        if self.connected and not (self.disconnecting or self.dataBuffer or self._tempDataBuffer):
            with suppress(OSError):  # it is full, or gone: the reactor finds out which
                data = data[self.socket.send(data) :]
        if data:
            super().write(data)

    def doWrite(self) -> Any:
        """Write what waits, unless the peer was found gone by the read of the same event."""
        return None if self.disconnected else super().doWrite()

    def _closeSocket(self, orderly: bool) -> None:
        if orderly:
            self.socket.close()  # shutting it down before is for sockets that other processes have, too
        else:
            super()._closeSocket(orderly)


class ListeningPort(tcp.Port):
    """
    Accepts what waits in one go.

    Args:
        gate: holds the connections of addresses that flood us.
    """

    transport = ServerConnection
    _log: ClassVar[Logger] = Logger()
    _accepts = 1

    def __init__(
        self, port: int, factory: Factory, *, backlog: int, interface: str, gate: FloodGate, reactor: Any
    ) -> None:
        super().__init__(port, factory, backlog, interface, reactor)
        self._gate = gate

    def listen_on(self, bound: socket.socket) -> None:
        """Listen on a socket that has its port already."""
        self._preexistingSocket = self._made_ours(bound)
        self._preexistingSocket.listen(self.backlog)
        self.startListening()

    def createInternetSocket(self) -> socket.socket:
        return self._made_ours(super().createInternetSocket())

    def _made_ours(self, made: socket.socket) -> socket.socket:
        family, kind, protocol = made.family, made.type, made.proto
        listening = _ListeningSocket(family, kind, protocol, made.detach())
        listening.setblocking(False)
        listening._of_connections = (int(family), int(kind), protocol)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # see UpperLayerProtocol.connectionMade
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return listening

    def logPrefix(self) -> str:
        return "listening"

    def doRead(self) -> None:
        """Accept; what is unusual (no descriptors left) is left to Twisted."""
        gate = self._gate
        accepts, self._accepts = self._accepts, 1  # mostly one waits, and asking for a second costs
        for _ in range(accepts):
            try:
                connection, address = self.socket.accept()
                if len(address) == 4 and address[3]:  # IPv6 with a scope, which belongs to the address
                    host, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
                    address = (host, *address[1:])
            except BlockingIOError:
                return
            except OSError:
                super().doRead()
                return
            if gate.must_wait(address[0]):
                gate.wait(address[0], partial(self._take, connection, address), connection.close)
            else:
                self._take(connection, address)
        self._accepts = min(2 * accepts, ACCEPTS_AT_ONCE)

    def _take(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        """Begin to serve an accepted connection."""
        factory = self.factory
        assert factory is not None
        transport: ServerConnection | None = None
        try:
            protocol = factory.buildProtocol(self._buildAddr(address))
            if protocol is None:
                connection.close()
                return
            transport = ServerConnection(connection, protocol, address, self, 0, self.reactor)
            protocol.makeConnection(transport)
            if not transport.disconnecting and (reason := transport.doRead()):  # the request may have come along
                transport.connectionLost(Failure(reason))
        except Exception:  # noqa: BLE001 - the reactor would close the port, for the sake of one connection
            self._log.failure("a connection from {peer_address} could not be taken", peer_address=address[0])
            if transport is None:
                connection.close()
            else:
                transport.abortConnection()


def listen(
    port: int,
    factory: Factory,
    *,
    backlog: int,
    interface: str,
    gate: FloodGate,
    reactor: Any,
    bound: Bound | None = None,
) -> tcp.Port:
    """
    Listen on a TCP port.

    Args:
        gate: of all ports together.
        bound: what `bind_if_privileged` gave for it.

    Raises:
        CannotListenError: it is taken, or may not be had.
    """
    listening = ListeningPort(port, factory, backlog=backlog, interface=interface, gate=gate, reactor=reactor)
    if isinstance(bound, OSError):
        raise CannotListenError(interface, port, bound)
    if bound is not None:
        listening.listen_on(bound)
    else:
        listening.startListening()
    return listening
