"""
The data set that follows a request: a producer that gives the fragments of one message to one consumer as they
come, and holds the peer back while the consumer is busy or not there yet. Nothing else buffers (PS3.7 annex E).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from pacs.dimse import IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, DIMSEError
from pacs.interfaces import DataSetConsumer
from pacs.ul import AcceptedContext

WAITING_BYTES: Final = 1 << 20  # a reader that has not begun yet is worth one read of the socket, no more
COPIED_BYTES: Final = 512  # a view costs 200 bytes: shorter fragments are joined, a peer may send them by the million


class FlowControl(Protocol):
    """What a source needs of its association: to stop the peer and to let it go on."""

    def hold(self) -> None: ...

    def let_go(self) -> None: ...


class _Discard:
    """Takes a data set that nobody wants."""

    def write(self, pieces: Sequence[memoryview]) -> None:
        return None


class _Collector:
    """Keeps a short data set, an identifier, in memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.data = bytearray()

    def write(self, pieces: Sequence[memoryview]) -> None:
        if len(self.data) + sum(map(len, pieces)) > self._limit_bytes:
            self.data.clear()
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"Identifier longer than {self._limit_bytes} bytes")
        for piece in pieces:
            self.data += piece


class DataSetSource:
    """
    The data set of one request.

    Attributes:
        context: the presentation context it came in.
        is_complete: its last fragment has been received.
    """

    __slots__ = (
        "_consumer",
        "_failure",
        "_flow",
        "_is_busy",
        "_is_held",
        "_pieces",
        "_short",
        "_waiter",
        "_waiting_bytes",
        "context",
        "is_complete",
    )

    def __init__(self, *, context: AcceptedContext, flow: FlowControl) -> None:
        self.context = context
        self.is_complete = False
        self._flow = flow
        self._pieces: list[memoryview] = []
        self._short = bytearray()  # the fragments behind the pieces
        self._waiting_bytes = 0
        self._consumer: DataSetConsumer | None = None
        self._waiter: Deferred[None] | None = None
        self._failure: Failure | None = None
        self._is_busy = False
        self._is_held = False

    @property
    def transfer_syntax(self) -> str:
        """The UID of the transfer syntax it is encoded in."""
        return self.context.transfer_syntax

    # -- the association's side

    def push(self, data: memoryview, is_last: bool) -> None:
        """Take one fragment; `flush` gives what has gathered to the consumer."""
        if len(data) >= COPIED_BYTES:
            self._join_short()
            self._pieces.append(data)
        else:
            self._short += data
        self._waiting_bytes += len(data)
        if is_last:
            self.is_complete = True

    def flush(self) -> None:
        """Hand on what has gathered, or hold the peer back when nobody takes it."""
        if self._is_busy or self._consumer is None:
            if self._waiting_bytes >= WAITING_BYTES:
                self._hold()
            return
        self._give()

    # -- the service's side

    async def deliver_to(self, consumer: DataSetConsumer) -> None:
        """
        Give the whole data set to `consumer`, piece by piece, in order.

        Raises:
            whatever `consumer.write` raised; the rest of the data set is then still to be drained.
        """
        if self._failure is not None:
            self._failure.raiseException()
        self._consumer = consumer
        self._give()
        if self._failure is not None:
            self._failure.raiseException()
        if not self._is_delivered():
            self._waiter = Deferred(self._canceled)
            await self._waiter

    async def read(self, limit_bytes: int) -> bytes:
        """
        Give the whole data set, an identifier, as bytes.

        Raises:
            DIMSEError: it is longer than `limit_bytes`.
        """
        collector = _Collector(limit_bytes)
        await self.deliver_to(collector)
        return bytes(collector.data)

    async def drain(self) -> None:
        """Receive what is left of the data set and forget it."""
        if self._is_delivered():
            return
        self._failure = None
        self._is_busy = False
        await self.deliver_to(_Discard())

    # -- within

    def _is_delivered(self) -> bool:
        return self.is_complete and not self._pieces and not self._short and not self._is_busy

    def _join_short(self) -> None:
        if self._short:
            self._pieces.append(memoryview(self._short))
            self._short = bytearray()

    def _give(self) -> None:
        self._join_short()
        consumer, pieces = self._consumer, self._pieces
        if consumer is not None and pieces:
            self._pieces = []
            self._waiting_bytes = 0
            try:
                busy = consumer.write(pieces)
            except Exception:  # noqa: BLE001 - the border to any consumer: its failure belongs to whoever awaits deliver_to
                self._fail(Failure())
                return
            if busy is not None:
                self._is_busy = True
                self._hold()
                busy.addCallbacks(self._taken, self._fail)
                return
        if self._is_held:
            self._is_held = False
            self._flow.let_go()
        if self.is_complete and self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(None)

    def _taken(self, _: object) -> None:
        self._is_busy = False
        self._give()

    def _fail(self, failure: Failure) -> None:
        self._failure = failure
        self._consumer = None
        self._is_busy = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.errback(failure)

    def _canceled(self, _: Deferred[None]) -> None:
        self._waiter = None
        self._failure = Failure(CancelledError())
        self._consumer = None

    def _hold(self) -> None:
        if not self._is_held:
            self._is_held = True
            self._flow.hold()
