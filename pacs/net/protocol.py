"""
The Upper Layer on a Twisted transport: bytes and timers in, bytes and timers out (PS3.8 section 9).

`UpperLayerProtocol` is the one place where `pacs.ul` meets Twisted, for both roles. It never knows whether its
transport is encrypted. What an association request or its answer means is its subclasses' business.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Final, cast
from typing import Protocol as TypingProtocol

from twisted.internet import interfaces
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pacs.dimse import DIMSEProtocolError
from pacs.net.association import Association
from pacs.net.listening import ServerConnection
from pacs.net.settings import AssociationSettings
from pacs.ul import (
    AbortIndication,
    CloseTransport,
    DataFragment,
    Indication,
    Limits,
    ProviderAbortIndication,
    ReleaseIndication,
    Role,
    StartARTIM,
    State,
    StopARTIM,
    UpperLayer,
)

BULK_READ_BYTES: Final = 1 << 20  # a read of 1 MB costs half of the CPU time of 64 KB ones
COPIED_BYTES: Final = 1 << 17  # what a transport that we can't write past of is given at a time
ABORT_SOURCE_USER: Final = 0
ABORT_SOURCE_PROVIDER: Final = 2
REASON_NOT_SPECIFIED: Final = 0
RELEASED: Final = "released"
"""Why an association ended, when it did so in order."""


class _Transport(TypingProtocol):
    """What we use of a transport; TCP and TLS have it alike."""

    bufferSize: int
    dataBuffer: bytes  # what waits to be written, of TCP alone, in two parts
    _tempDataBuffer: list[bytes]
    producerPaused: bool  # of TCP alone: the producer is told when nothing waits any more

    def startWriting(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def registerProducer(self, producer: object, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...


@lru_cache(maxsize=16)
def _limits(associate_pdu_bytes: int, max_pdu_length: int) -> Limits:
    return Limits(associate_pdu_bytes=associate_pdu_bytes, max_pdu_length=max_pdu_length)


@implementer(interfaces.IPushProducer)
class UpperLayerProtocol(Protocol):
    """
    Carries one Upper Layer connection.

    Attributes:
        association: once it is established, until the transport is gone.
        last_received_s: when the peer was last heard, on the clock.
    """

    log: ClassVar[Logger] = Logger()

    METHODS: ClassVar[Mapping[type[Indication], str]] = {
        StartARTIM: "_start_artim",
        StopARTIM: "_stop_artim",
        CloseTransport: "_close_transport",
        ReleaseIndication: "_release_indicated",
        AbortIndication: "_abort_indicated",
        ProviderAbortIndication: "_provider_abort_indicated",
    }

    def __init__(self, *, role: Role, settings: AssociationSettings, clock: interfaces.IReactorTime) -> None:
        self._upper_layer = UpperLayer(
            role=role,
            limits=_limits(settings.associate_pdu_bytes, settings.max_pdu_length),
        )
        self._settings = settings
        self._clock = clock
        self._artim_until_s: float | None = None  # on the clock
        self._holds = 0
        self._write_paused_since_s: float | None = None
        self._writable_waiters: list[Deferred[None]] = []
        self._is_releasing = False
        self._is_closing = False
        self._is_producer = False
        self._closing_since_s = 0.0
        self._socket: socket.socket | None = None  # of plain TCP, to write to at once
        self._tcp_socket: socket.socket | None = None  # of TLS too, for its options
        self._wire: _Transport | None = None  # the transport while it is there
        self.association: Association | None = None
        self.last_received_s = clock.seconds()
        self.peer_address = "unknown"

    # -- Twisted's side

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        if isinstance(transport, ServerConnection):
            self.peer_address = str(transport.hostname)
            self._socket = self._tcp_socket = transport.socket
        else:
            self._look_at(transport)
        self._wire = cast(_Transport, transport)
        self._apply(self._upper_layer.transport_opened())

    def _look_at(self, transport: interfaces.ITransport) -> None:
        """Find out who is there, and what options can be set."""
        peer = transport.getPeer()
        self.peer_address = getattr(peer, "host", None) or str(getattr(peer, "name", peer))
        if interfaces.ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)  # Nagle's algorithm would hold each response back for 40 ms
            transport.setTcpKeepAlive(True)
            if hasattr(socket, "TCP_QUICKACK") and interfaces.ISystemHandle.providedBy(transport):
                handle = transport.getHandle()
                self._socket = handle if isinstance(handle, socket.socket) else None
                self._tcp_socket = self._socket or getattr(transport, "tcp_socket", None)

    def dataReceived(self, data: bytes) -> None:
        self.last_received_s = self._clock.seconds()
        self._apply(self._upper_layer.receive_data(data))
        association = self.association
        if self._upper_layer.is_in_pdu or (association is not None and association.is_in_message):
            self._acknowledge_now()

    def _acknowledge_now(self) -> None:
        """
        Have the rest of the message sent at once.

        A peer with Nagle's algorithm on holds its last bytes back until what it sent is acknowledged, and the
        operating system would delay that by 40 ms.
        """
        if self._tcp_socket is not None:
            self._tcp_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._wire = None
        self._socket = self._tcp_socket = None
        self._apply(self._upper_layer.transport_closed())
        self._artim_until_s = None
        self._wake_writers()
        association = self.association
        if association is not None and association.is_open:
            association.connection_lost()
        self.closed()
        self.association = None  # which knows us, too: a circle would stay until the garbage is collected

    # -- the transport's consumer, told by it when its buffer is full (PS3.7 knows no flow control of its own)

    def pauseProducing(self) -> None:
        if self._write_paused_since_s is None:
            self._write_paused_since_s = self._clock.seconds()
            self.hold()  # who does not read its answers may not ask for more of them

    def resumeProducing(self) -> None:
        self._write_goes_on()
        self._wake_writers()

    def _write_goes_on(self) -> None:
        if self._write_paused_since_s is not None:
            self._write_paused_since_s = None
            self.let_go()

    def stopProducing(self) -> None:
        self._wake_writers()

    # -- what an Association needs (`Carrier`)

    def send_pdus(self, data: bytes) -> None:
        state = self._upper_layer.state
        if state is State.STA6 or state is State.STA8:
            self._apply(self._upper_layer.send_data(data))

    def wait_until_writable(self) -> Deferred[None] | None:
        if self._write_paused_since_s is None or self._wire is None:
            return None
        waiter: Deferred[None] = Deferred()
        self._writable_waiters.append(waiter)
        return waiter

    @property
    def may_send(self) -> bool:
        return self._wire is not None and self._upper_layer.state in (State.STA6, State.STA8)

    def send_some(self, pieces: Sequence[memoryview]) -> int:
        wire = self._wire
        if wire is None:
            return 0
        if self._socket is None:
            data = bytes(pieces[0][:COPIED_BYTES])
            wire.write(data)
            return len(data)
        if wire.dataBuffer or wire._tempDataBuffer:
            return 0
        try:
            return self._socket.sendmsg(pieces)
        except OSError:  # it is full, or gone: the transport finds out which
            return 0

    def wait_until_drained(self) -> Deferred[None] | None:
        if self._socket is not None and self._wire is not None:
            self.pauseProducing()
            self._wire.producerPaused = True
            self._wire.startWriting()
        return self.wait_until_writable()

    def hold(self) -> None:
        self._holds += 1
        if self._holds == 1 and self._wire is not None:
            self._wire.pauseProducing()

    def let_go(self) -> None:
        self._holds -= 1
        if self._holds == 0 and self._wire is not None:
            self.last_received_s = self._clock.seconds()
            self._wire.resumeProducing()

    def expect_bulk(self) -> None:
        if self._wire is not None:
            self._wire.bufferSize = BULK_READ_BYTES

    def became_idle(self) -> None:
        if self._is_releasing:
            self._respond_release()

    def abort(self, source: int = ABORT_SOURCE_USER, reason: int = REASON_NOT_SPECIFIED) -> None:
        """Abort the association and drop the transport; harmless when it is gone."""
        if self._upper_layer.state in (State.STA1, State.STA2, State.STA13):
            self.drop()
            return
        self._apply(self._upper_layer.abort(source, reason))
        self._end_association()

    def abort_and_close(self) -> None:
        """Abort as the server that ends, and do not wait for the peer to close (A-ABORT, source 2, reason 0)."""
        self.end_reason = "shutdown"
        self.abort(ABORT_SOURCE_PROVIDER, REASON_NOT_SPECIFIED)
        self._close_transport(CloseTransport())

    def drop(self) -> None:
        """Close the transport without a word."""
        wire = self._wire
        if wire is not None:
            self._stop_being_producer()
            wire.abortConnection()

    # -- looked at each second by whoever keeps the connections

    def check_times(self, now_s: float) -> None:
        """Abort what has been silent for too long, and drop what does not close (RELIABILITY L11)."""
        if self._artim_until_s is not None and now_s >= self._artim_until_s:
            self._artim_expired()
        if self._is_closing:
            if now_s - self._closing_since_s > self._settings.artim_timeout_s:
                self.drop()
            return
        association = self.association
        if association is None or not association.is_open:
            return
        silent_s = now_s - self.last_received_s
        paused_s = now_s - self._write_paused_since_s if self._write_paused_since_s is not None else 0.0
        if paused_s > self._settings.unread_timeout_s:
            self._time_out("the peer has read nothing for {silence_s:.0f} s", paused_s)
        elif association.is_in_message and not self._holds and silent_s > self._settings.fragment_timeout_s:
            self._time_out("no fragment of an unfinished message for {silence_s:.0f} s", silent_s)
        elif not association.is_busy and silent_s > self._settings.idle_timeout_s:
            self._time_out("no message for {silence_s:.0f} s", silent_s)

    def _time_out(self, why: str, silence_s: float) -> None:
        association = self.association
        assert association is not None
        self.log.info(
            "association {association_id} of {calling_ae_title} is aborted: " + why,
            association_id=association.association_id,
            calling_ae_title=association.calling_ae_title,
            silence_s=silence_s,
        )
        self.end_reason = "timeout"
        self.abort(ABORT_SOURCE_PROVIDER, REASON_NOT_SPECIFIED)
        if self._write_paused_since_s is not None:
            self.drop()

    # -- for subclasses

    end_reason = "lost"

    def closed(self) -> None:
        """The transport is gone; called once."""

    def established(self, association: Association) -> None:
        """Carry messages of `association` from now on."""
        self.association = association
        if self._wire is not None:
            self._is_producer = True
            self._wire.registerProducer(self, True)

    # -- within

    def _apply(self, indications: list[Indication]) -> None:
        association = self.association
        has_fragments = False
        for indication in indications:
            if indication.__class__ is DataFragment:
                has_fragments = True
                if association is not None and association.is_open:
                    try:
                        association.receive_fragment(indication)
                    except DIMSEProtocolError as error:
                        self._message_refused(error)
            else:
                if has_fragments and association is not None:
                    has_fragments = False
                    association.flush()
                if self._upper_layer.output:
                    self._flush_output()
                getattr(self, self.METHODS[indication.__class__])(indication)
                association = self.association
        if has_fragments and association is not None and association.is_open:
            association.flush()
        if self._upper_layer.output:
            self._flush_output()

    def _flush_output(self) -> None:
        data = self._upper_layer.data_to_send()
        if data and self._wire is not None:
            self._write(data)

    def _write(self, data: bytes) -> None:
        """Send at once what the socket takes, unless something waits already; the transport has the rest."""
        wire = self._wire
        assert wire is not None
        if self._socket is not None and not (self._is_closing or wire.dataBuffer or wire._tempDataBuffer):
            try:
                sent = self._socket.send(data)
            except OSError:  # it is full, or gone: the transport finds out which
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        wire.write(data)

    def _message_refused(self, error: DIMSEProtocolError) -> None:
        association = self.association
        assert association is not None
        self.refused_message(association, str(error))
        self.end_reason = "protocol error"
        self.abort(ABORT_SOURCE_USER, REASON_NOT_SPECIFIED)

    def _release_indicated(self, _: ReleaseIndication) -> None:
        self.end_reason = RELEASED
        if self.association is not None and self.association.is_busy:
            self._is_releasing = True
            return
        self._respond_release()

    def _respond_release(self) -> None:
        """Answer A-RELEASE-RQ, unless what came behind it has ended the association meanwhile."""
        if self._upper_layer.state in (State.STA8, State.STA9, State.STA12):
            self._is_releasing = False
            self._apply(self._upper_layer.respond_release())

    def _abort_indicated(self, indication: AbortIndication) -> None:
        self.end_reason = "aborted by the peer"
        self._end_association()

    def _provider_abort_indicated(self, indication: ProviderAbortIndication) -> None:
        if indication.error is not None:
            self.end_reason = "protocol error"
            self.refused_bytes(indication)
        self._end_association()

    def refused_bytes(self, indication: ProviderAbortIndication) -> None:
        """The peer sent what the Upper Layer can't take; the abort is on its way."""
        self.log.warn(
            "connection from {peer_address} is aborted: {reason}",
            peer_address=self.peer_address,
            reason=str(indication.error),
        )

    def refused_message(self, association: Association, why: str) -> None:
        """The peer's fragments make no message; the abort is on its way."""
        self.log.warn(
            "association {association_id} of {calling_ae_title} is aborted: {reason}",
            association_id=association.association_id,
            calling_ae_title=association.calling_ae_title,
            reason=why,
        )

    def _end_association(self) -> None:
        association = self.association
        if association is not None and association.is_open:
            association.connection_lost()

    def _start_artim(self, _: object) -> None:
        """Begin the time; `check_times` looks whether it is over."""
        self._artim_until_s = self._clock.seconds() + self._settings.artim_timeout_s

    def _stop_artim(self, _: object) -> None:
        self._artim_until_s = None

    def _artim_expired(self) -> None:
        self._artim_until_s = None
        self.end_reason = "ARTIM timer expired"
        self._apply(self._upper_layer.artim_expired())

    def _close_transport(self, _: CloseTransport) -> None:
        if self._wire is None:
            return
        self._is_closing = True
        self._closing_since_s = self._clock.seconds()
        wire = self._wire
        self._stop_being_producer()
        wire.loseConnection()

    def _stop_being_producer(self) -> None:
        if self._is_producer and self._wire is not None:
            self._is_producer = False
            self._wire.unregisterProducer()
        self._write_goes_on()
        self._wake_writers()

    def _wake_writers(self) -> None:
        waiters, self._writable_waiters = self._writable_waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)
