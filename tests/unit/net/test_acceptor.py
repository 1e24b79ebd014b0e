"""
What a connection that a peer opened leaves behind when it has ended: in memory, in the log, and in who is watched.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping
from struct import pack

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from pacs.dimse import Command, CStoreRQ, Response, encode_command
from pacs.events import EventBus
from pacs.monitoring.metrics import Metrics
from pacs.net.acceptor import AcceptorFactory
from pacs.net.admission import Admission
from pacs.net.association import Association
from pacs.net.dispatch import Handler, ServiceDispatcher
from pacs.net.flood import FREE_BURST, FloodGate
from pacs.net.registry import AssociationRegistry
from pacs.net.settings import AcceptorSettings, AssociationSettings
from pacs.net.source import DataSetSource
from pacs.security.access import Role
from pacs.security.credentials import PasswordVerifier
from pacs.security.logins import LoginReporter
from pacs.security.policy import AccessPolicy
from pacs.security.throttle import FailureThrottle
from pacs.ul import (
    AAssociateRQ,
    AbstractSyntaxSupport,
    AcceptedContext,
    Implementation,
    PresentationContextRQ,
    UserInformation,
)
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, pdv
from tests.server import AE_TITLE

ABORT = pack(">BxLBBBB", 7, 4, 0, 0, 0, 0)


class Reading:
    """A service that reads what it is sent, and answers nothing before it has it all."""

    def __init__(self) -> None:
        self.handlers: Mapping[type[Command], Handler] = {CStoreRQ: self._read}

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        return AbstractSyntaxSupport(accepts_transfer_syntax=lambda _: True)

    async def _read(
        self, association: Association, context: AcceptedContext, request: CStoreRQ, data_set: DataSetSource | None
    ) -> Response:
        assert data_set is not None
        await data_set.read(1 << 20)
        return request.stored()


def make_factory(clock: Clock, *, gate: FloodGate | None = None) -> AcceptorFactory:
    """Give a factory with a service that reads."""
    bus, metrics = EventBus(reactor=clock), Metrics()  # type: ignore[arg-type]  # it calls from no thread
    return AcceptorFactory(
        settings=AcceptorSettings(AE_TITLE),
        association_settings=AssociationSettings(),
        registry=AssociationRegistry(clock=clock),
        dispatcher=ServiceDispatcher(services=[Reading()], translate=lambda _: None, metrics=metrics, clock=clock),
        admission=Admission(
            policy=AccessPolicy(is_enabled=False, default_role=Role.TECHNOLOGIST, grants=[]),
            verifier=PasswordVerifier(hashes={}, reactor=clock),
            tokens=None,
            logins=LoginReporter(bus=bus, clock=clock),
            throttle=FailureThrottle(clock=clock),
            allows_passcodes_in_clear=False,
            clock=clock,
        ),
        implementation=Implementation("2.25.1", "TEST"),
        bus=bus,
        metrics=metrics,
        gate=gate or FloodGate(clock=clock, metrics=metrics),
        clock=clock,
        expect=lambda: None,
    )


def request(called: str = AE_TITLE) -> bytes:
    """Give an A-ASSOCIATE-RQ."""
    context = PresentationContextRQ(1, CT_IMAGE_STORAGE, (EXPLICIT,))
    return AAssociateRQ(called, "PEER", (context,), UserInformation(16384, "2.25.2", "PEER")).encode()


def store_request() -> bytes:
    """Give the command of a C-STORE and the beginning of an object."""
    command = CStoreRQ(
        message_id=1,
        affected_sop_class_uid=CT_IMAGE_STORAGE,
        affected_sop_instance_uid="1.2.3",
        has_data_set=True,
    )
    return pdv(encode_command(command), is_command=True) + pdv(bytes(1000), is_last=False)


WHAT_COMES = {
    "nothing": (),
    "garbage": (b"GET / HTTP/1.1\r\n\r\n",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01",),
    "too long a request": (pack(">BxL", 1, 1 << 30),),
    "a called AE title that is not ours": (request("NOBODY"),),
    "an association alone": (request(),),
    "an association that is released": (request(), pack(">BxLL", 5, 4, 0)),
    "too long a PDU": (request(), pack(">BxLLBB", 4, 0x7FFFFFFF, 0x7FFFFFFB, 1, 3)),
    "no command": (request(), pdv(b"no command at all", is_command=True)),
    "half an object": (request(), store_request()),
    "half an object and an abort": (request(), store_request() + ABORT),
    "an object": (request(), store_request(), pdv(bytes(10))),
}
IN_ORDER = {"an object", "an association that is released"}


def end_of_a_connection(factory: AcceptorFactory, received: tuple[bytes, ...]) -> list[weakref.ref[object]]:
    """Have a connection receive something and end; refer to what it was made of."""
    protocol = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    for data in received:
        protocol.dataReceived(data)
    held: list[weakref.ref[object]] = [weakref.ref(protocol), weakref.ref(protocol._upper_layer)]
    if received[:1] == (request(),):
        assert protocol.association is not None
        held.append(weakref.ref(protocol.association))
    if transport.producer is not None:
        transport.unregisterProducer()  # as TCP's does
    protocol.connectionLost(Failure(ConnectionLost()))
    return held


@pytest.fixture
def _no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize("what", WHAT_COMES)
def test_what_a_connection_held_is_free_as_soon_as_it_has_ended(what: str) -> None:
    """Without the garbage collection, which comes late: what attackers send would be kept until then."""
    factory = make_factory(Clock())
    gc.collect()
    held = end_of_a_connection(factory, WHAT_COMES[what])
    assert [reference() for reference in held] == [None] * len(held)
    assert gc.collect() == 0


def test_messages_that_cannot_be_read_are_one_line_a_minute_for_each_peer() -> None:
    clock = Clock()
    factory = make_factory(clock)
    with capturedLogs() as logged:
        for _ in range(3):
            end_of_a_connection(factory, WHAT_COMES["no command"])
        clock.advance(61)
        end_of_a_connection(factory, WHAT_COMES["no command"])
    lines = [event for event in logged if "is aborted" in event["log_format"]]
    assert [line["left_out"] for line in lines] == [0, 2]


@pytest.mark.parametrize("what", WHAT_COMES)
def test_connections_that_end_in_disorder_without_an_answered_request_make_a_flood(what: str) -> None:
    clock = Clock()
    gate = FloodGate(clock=clock, metrics=Metrics())
    factory = make_factory(clock, gate=gate)
    for _ in range(FREE_BURST + 1):
        end_of_a_connection(factory, WHAT_COMES[what])
    assert gate.must_wait(StringTransport().getPeer().host) == (what not in IN_ORDER)
