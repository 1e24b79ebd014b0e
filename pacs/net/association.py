"""
One association: messages in, messages out, one request at a time (PS3.7 section 7 and 8).

`Association` is what services see of a peer. It takes the fragments of the Upper Layer, makes messages of them and
hands each request to the dispatcher; it does not know the transport, which `pacs.net.protocol` owns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.dimse import (
    CCancelRQ,
    Command,
    DIMSEProtocolError,
    MessageReader,
    Request,
    Response,
    encode_message,
)
from pacs.net.source import DataSetSource
from pacs.security.access import Principal
from pacs.ul import AAssociateRQ, AcceptedContext, DataFragment

WAITING_REQUESTS: Final = 8  # asynchronous operations are answered 1/1; who pipelines all the same is held back
RESPONSE_DATA_SET_BYTES: Final = 1 << 20


class AssociationClosed(Exception):
    """The association ended before the answer came."""


class Carrier(Protocol):
    """What an association needs of the protocol that carries it."""

    def send_pdus(self, data: bytes) -> None:
        """Send encoded P-DATA-TF PDUs."""

    def hold(self) -> None:
        """Stop reading from the peer; counted, as is `let_go`."""

    def let_go(self) -> None: ...

    def expect_bulk(self) -> None:
        """Objects are coming: read in large pieces."""

    def abort(self, source: int, reason: int) -> None: ...

    def became_idle(self) -> None:
        """The last request was answered."""

    def wait_until_writable(self) -> Deferred[None] | None:
        """Give None when more may be written at once."""

    @property
    def may_send(self) -> bool:
        """Whether the Upper Layer's state allows data."""

    def send_some(self, pieces: Sequence[memoryview]) -> int:
        """Send what can be sent at once of encoded P-DATA-TF PDUs; give how many bytes."""

    def wait_until_drained(self) -> Deferred[None] | None:
        """Give None when `send_some` may be called again at once."""


class Dispatcher(Protocol):
    """Whoever turns a request into its final response."""

    def answer_at_once(self, association: Association, context: AcceptedContext, request: Command) -> Response | None:
        """Give None when the request needs `answer`."""

    async def answer(
        self, association: Association, context: AcceptedContext, request: Command, data_set: DataSetSource | None
    ) -> Response | Answer | None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with its data set if it has one: to a request of ours, or from a service to a peer's."""

    command: Response
    data_set: bytes | None


class Association:
    """
    An established association.

    Attributes:
        association_id: unique while the server runs.
        contexts: the accepted presentation contexts by their id.
        max_send_pdu_length: the peer's limit; 0 is unlimited.
        last_received_s: on the reactor's clock.
        served: how many requests were answered, by operation.
        unsuccessful: how many of them with another status than success.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        association_id: str,
        request: AAssociateRQ,
        contexts: Mapping[int, AcceptedContext],
        principal: Principal,
        peer_address: str,
        max_send_pdu_length: int,
        carrier: Carrier,
        dispatcher: Dispatcher | None,
        command_set_bytes: int,
    ) -> None:
        self.association_id = association_id
        self.request = request
        self.calling_ae_title = request.calling_ae_title
        self.called_ae_title = request.called_ae_title
        self.contexts = contexts
        self.principal = principal
        self.peer_address = peer_address
        self.max_send_pdu_length = max_send_pdu_length
        self.is_open = True
        self.served: dict[str, int] = {}
        self.unsuccessful = 0
        self._carrier = carrier
        self._dispatcher = dispatcher
        self._reader = MessageReader(command_set_bytes=command_set_bytes)
        self._receiving: DataSetSource | None = None
        self._waiting: deque[tuple[AcceptedContext, Command, DataSetSource | None]] = deque()
        self._is_held = False
        self._running: Deferred[None] | None = None
        self._running_message_id: int | None = None
        self._running_source: DataSetSource | None = None
        self._is_canceled = False
        self._canceled_waiting: set[int] = set()
        self._call_when_canceled: Callable[[], None] | None = None
        self._requests: dict[int, Deferred[Answer]] = {}
        self._next_message_id = 1

    # -- what services use

    async def send(self, context_id: int, *messages: tuple[Command, bytes | None]) -> None:
        """
        Send messages in one write; return when the peer's side of the transport can take more.

        Raises:
            AssociationClosed: it is gone.
        """
        if not self.is_open:
            raise AssociationClosed
        length = self.max_send_pdu_length
        self._carrier.send_pdus(
            b"".join([encode_message(context_id, command, data_set, length) for command, data_set in messages])
        )
        waiting = self._carrier.wait_until_writable()
        if waiting is not None:
            await waiting

    async def send_in_place(self, *pieces: bytes | memoryview) -> None:
        """
        Send encoded PDUs, as fast as the peer takes them, without a copy of them where that is possible.

        Nothing else may be sent by the association meanwhile. The memory is the caller's again when this has returned.

        Raises:
            AssociationClosed: it is gone.
        """
        left = [memoryview(piece) for piece in pieces]
        carrier = self._carrier
        while left:
            if not self.is_open or not carrier.may_send:
                raise AssociationClosed
            sent = carrier.send_some(left)
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if left:
                left[0] = left[0][sent:]
                waiting = carrier.wait_until_drained()
                if waiting is not None:
                    await waiting

    def expect_answer(self, request: Request) -> Deferred[Answer]:
        """
        Expect the answer to a request that `send_in_place` sends.

        Returns:
            fires with the final response; fails with `AssociationClosed`.
        """
        answered: Deferred[Answer] = Deferred()
        if self.is_open:
            self._requests[request.message_id] = answered
        else:
            answered.errback(Failure(AssociationClosed()))
        return answered

    def abort(self) -> None:
        """Abort it, as its user (PS3.8 7.3)."""
        self._carrier.abort(0, 0)

    def write(self, messages: bytes) -> Deferred[None] | None:
        """
        Send encoded messages in one write; give None when more may follow at once, else what fires then.

        Raises:
            AssociationClosed: it is gone.
        """
        if not self.is_open:
            raise AssociationClosed
        self._carrier.send_pdus(messages)
        return self._carrier.wait_until_writable()

    def when_canceled(self, message_id: int, call: Callable[[], None]) -> None:
        """Have a function called as soon as the peer cancels the request that is being served."""
        if self.is_canceled(message_id):
            call()
        elif message_id == self._running_message_id:
            self._call_when_canceled = call

    def is_canceled(self, message_id: int) -> bool:
        """Whether the peer asked to cancel the request (C-CANCEL-RQ, PS3.7 9.3.2.3)."""
        return self._is_canceled and message_id == self._running_message_id

    def next_message_id(self) -> int:
        """Give a message id that no outstanding request of ours uses."""
        message_id = self._next_message_id
        self._next_message_id = message_id % 0xFFFF + 1
        return message_id

    def invoke(self, context_id: int, request: Command, data_set: bytes | None = None) -> Deferred[Answer]:
        """
        Send a request of ours.

        Returns:
            fires with the final response; fails with `AssociationClosed`.
        """
        answered: Deferred[Answer] = Deferred()
        if not self.is_open:
            answered.errback(Failure(AssociationClosed()))
            return answered
        self._requests[request.id_of_request] = answered
        self._carrier.send_pdus(encode_message(context_id, request, data_set, self.max_send_pdu_length))
        return answered

    @property
    def is_busy(self) -> bool:
        """A request of the peer is being served, or its data set is on the way."""
        return self._running is not None or self._receiving is not None or bool(self._waiting)

    @property
    def awaits_answer(self) -> bool:
        """A request of ours is outstanding, and whoever sent it still waits."""
        return any(not answered.called for answered in self._requests.values())

    @property
    def is_in_message(self) -> bool:
        """Some fragment of a message has come and its last has not."""
        return self._reader.is_in_message

    # -- what the protocol uses

    def receive_fragment(self, fragment: DataFragment) -> None:
        """
        Take one fragment.

        Raises:
            DIMSEProtocolError: the fragments make no message; the association cannot go on.
        """
        command = self._reader.receive(fragment)
        if command is not None:
            self._receive_command(fragment.context_id, command)
        elif not fragment.is_command:
            source = self._receiving
            if source is not None:
                source.push(fragment.data, fragment.is_last)
                if fragment.is_last:
                    self._receiving = None
                    if source is not self._running_source:
                        source.flush()

    def flush(self) -> None:
        """All fragments of one read have been given: hand them on, and serve what can be served."""
        running, receiving = self._running_source, self._receiving
        if running is not None:
            running.flush()
        if receiving is not None and receiving is not running:
            receiving.flush()
        if self._running is None and self._waiting:
            self._serve_waiting()

    def connection_lost(self) -> None:
        """No transport any more: give up whatever runs."""
        self.is_open = False
        self._waiting.clear()
        self._receiving = None
        requests, self._requests = self._requests, {}
        for answered in requests.values():
            answered.errback(Failure(AssociationClosed()))
        if self._running is not None:
            self._running.cancel()

    # -- within

    def _receive_command(self, context_id: int, command: Command) -> None:
        context = self.contexts.get(context_id)
        if context is None:
            raise DIMSEProtocolError(f"message in presentation context {context_id}, which was not accepted")
        if isinstance(command, CCancelRQ):
            self._cancel(command.message_id_being_responded_to)
            return
        source = DataSetSource(context=context, flow=self._carrier) if command.has_data_set else None
        self._receiving = source
        if isinstance(command, Response):
            self._receive_response(command, source)
            return
        if self._dispatcher is None:
            raise DIMSEProtocolError("a request to a requestor that offered no role as SCP")
        if source is None and self._running is None and not self._waiting:
            response = self._dispatcher.answer_at_once(self, context, command)
            if response is not None:
                self._carrier.send_pdus(encode_message(context_id, response, None, self.max_send_pdu_length))
                self._carrier.became_idle()
                return
        self._waiting.append((context, command, source))
        if source is not None and command.carries_object:
            self._carrier.expect_bulk()
        if len(self._waiting) > WAITING_REQUESTS and not self._is_held:
            self._is_held = True
            self._carrier.hold()

    def _cancel(self, message_id: int) -> None:
        if message_id == self._running_message_id:
            self._is_canceled = True
            if self._call_when_canceled is not None:
                self._call_when_canceled()
        elif any(request.id_of_request == message_id for _, request, _ in self._waiting):
            self._canceled_waiting.add(message_id)  # it came in one read with its C-CANCEL, or waits for its turn

    def _receive_response(self, response: Response, source: DataSetSource | None) -> None:
        message_id = response.id_of_request
        if message_id not in self._requests:
            raise DIMSEProtocolError("a response to no request")
        if source is None:
            self._requests.pop(message_id).callback(Answer(response, None))
            return

        def received(data: bytes) -> None:
            self._requests.pop(message_id).callback(Answer(response, data))

        def refused(failure: Failure) -> None:
            self._requests.pop(message_id).errback(failure)

        reading = Deferred.fromCoroutine(source.read(RESPONSE_DATA_SET_BYTES))
        reading.addCallbacks(received, refused)  # unless the association ends before; then it fails as all requests do

    def _serve_waiting(self) -> None:
        while self._waiting and self._running is None:
            context, request, source = self._waiting.popleft()
            if self._is_held and len(self._waiting) <= WAITING_REQUESTS:
                self._is_held = False
                self._carrier.let_go()
            self._running_message_id = request.id_of_request
            self._running_source = source
            self._is_canceled = request.id_of_request in self._canceled_waiting
            self._canceled_waiting.discard(request.id_of_request)
            running = Deferred.fromCoroutine(self._serve(context, request, source))
            running.addErrback(self._serving_failed)
            if running.called:
                self._forget_running()
            else:
                self._running = running
                running.addBoth(self._served)
                return
        if self.is_open and self._receiving is None:
            self._carrier.became_idle()

    async def _serve(self, context: AcceptedContext, request: Command, source: DataSetSource | None) -> None:
        assert self._dispatcher is not None
        response = await self._dispatcher.answer(self, context, request, source)
        if source is not None:
            await source.drain()
        if response is not None and self.is_open:
            answer = response if isinstance(response, Answer) else Answer(response, None)
            self._carrier.send_pdus(
                encode_message(context.id, answer.command, answer.data_set, self.max_send_pdu_length)
            )

    def _serving_failed(self, failure: Failure) -> None:
        if failure.check(CancelledError, AssociationClosed):
            failure.cleanFailure()  # its traceback holds all that was received, and itself
            return
        self.log.failure("association {association_id} is aborted", failure, association_id=self.association_id)
        self._carrier.abort(2, 0)

    def _served(self, _: object) -> None:
        self._forget_running()
        if self.is_open:
            self._serve_waiting()

    def _forget_running(self) -> None:
        self._running = None
        self._running_message_id = None
        self._running_source = None
        self._call_when_canceled = None
