"""
The attentive reactor serves as Twisted's does, looks awake only after an answer, and gives up where that is in vain.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.python import log

from pacs.monitoring.metrics import Metrics
from pacs.net.attention import LOOKS_FOR_S, MOST_DOUBLINGS, Attention, attend
from pacs.net.flood import FloodGate
from pacs.net.listening import listen


class Served(Protocol):
    """Notes what comes; does what it is told."""

    def __init__(self, noted: list[bytes], act: Callable[[Served], None]) -> None:
        self._noted = noted
        self._act = act

    def dataReceived(self, data: bytes) -> None:
        self._noted.append(data)
        self._act(self)

    def connectionLost(self, reason: object = None) -> None:
        self._noted.append(b"lost")


class Serving(Factory):
    """Makes them."""

    noisy = False

    def __init__(self, act: Callable[[Served], None] = lambda _: None) -> None:
        self.noted: list[bytes] = []
        self._act = act

    def buildProtocol(self, addr: object) -> Served:
        return Served(self.noted, self._act)


@pytest.fixture
def reactor() -> Iterator[Any]:
    """Give a reactor of our own, which nobody runs."""
    made: Any = EPollReactor()
    yield made
    made.removeAll()
    made._poller.close()


def iterate(reactor: Any, until: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline_s
        reactor.iterate(0.01)
    reactor.iterate(0.01)  # what was answered is written


def connected(reactor: Any, factory: Factory, *, interface: str = "127.0.0.1") -> socket.socket:
    gate = FloodGate(clock=reactor, metrics=Metrics())
    port = listen(0, factory, backlog=5, interface=interface, gate=gate, reactor=reactor)
    return socket.create_connection((interface, port.getHost().port), timeout=10)


class Poll:
    """Notes with which timeouts the reactor waited."""

    def __init__(self, attention: Attention) -> None:
        self._poll = attention._poll
        self.timeouts_s: list[float] = []
        attention._poll = self

    def __call__(self, timeout_s: float, most: int) -> Any:
        self.timeouts_s.append(timeout_s)
        return self._poll(timeout_s, most)

    def taken(self) -> list[float]:
        """Give them, once."""
        taken, self.timeouts_s = self.timeouts_s, []
        return taken


def test_connections_are_served_and_end(reactor: Any) -> None:
    attend(reactor)
    factory = Serving(lambda served: served.transport.write(b"answer"))  # type: ignore[union-attr]
    with connected(reactor, factory) as peer:
        peer.sendall(b"one")
        iterate(reactor, lambda: factory.noted == [b"one"])
        assert peer.recv(10) == b"answer"
        peer.sendall(b"two")
        iterate(reactor, lambda: len(factory.noted) == 2)
        assert peer.recv(10) == b"answer"
    iterate(reactor, lambda: factory.noted[-1] == b"lost")
    assert factory.noted == [b"one", b"two", b"lost"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_connections_over_ipv6_are_served_as_well(reactor: Any) -> None:
    attend(reactor)
    factory = Serving(lambda served: served.transport.write(served.transport.getPeer().host.encode()))  # type: ignore[union-attr]
    with connected(reactor, factory, interface="::1") as peer:
        peer.sendall(b"one")
        iterate(reactor, lambda: bool(factory.noted))
        assert peer.recv(10) == b"::1"


def test_a_peer_that_goes_while_something_waits_for_it_is_lost_without_an_error_of_ours(reactor: Any) -> None:
    logged: list[Any] = []
    log.addObserver(logged.append)
    attend(reactor)
    factory = Serving(lambda served: served.transport.write(bytes(32 << 20)))  # type: ignore[union-attr]
    try:
        with connected(reactor, factory) as peer:
            peer.sendall(b"much, please")
            iterate(reactor, lambda: bool(factory.noted))
            peer.recv(32 << 20, socket.MSG_WAITALL | socket.MSG_DONTWAIT)  # there is room for more of it
            peer.shutdown(socket.SHUT_WR)  # one event tells of both
            iterate(reactor, lambda: factory.noted[-1] == b"lost")
    finally:
        log.removeObserver(logged.append)
    assert not [event for event in logged if event["isError"]]


def test_an_error_of_one_connection_ends_that_one_alone(reactor: Any) -> None:
    attend(reactor)

    def fail(served: Served) -> None:
        raise RuntimeError("on purpose")

    failing, fine = Serving(fail), Serving()
    logged: list[Any] = []
    log.addObserver(logged.append)
    try:
        with connected(reactor, failing) as one, connected(reactor, fine) as other:
            iterate(reactor, lambda: len(reactor.getReaders()) == 5)  # two ports, two connections, its own
            one.sendall(b"x")
            iterate(reactor, lambda: failing.noted == [b"x", b"lost"])
            assert one.recv(1) == b""
            other.sendall(b"y")
            iterate(reactor, lambda: fine.noted == [b"y"])
    finally:
        log.removeObserver(logged.append)
    assert [str(event["failure"].value) for event in logged if event["isError"]] == ["on purpose"]


def test_it_stays_awake_after_an_answer_alone_and_gives_up_where_that_is_in_vain(reactor: Any) -> None:
    attention = Attention(reactor, is_awake=True)
    expect, poll = attention.expect, Poll(attention)
    attention.iterate(0.001)
    assert poll.taken() == [0.001], "nothing was expected"

    expect()
    started_s = time.perf_counter()
    attention.iterate(0.001)
    assert time.perf_counter() - started_s > LOOKS_FOR_S
    waited = poll.taken()
    assert set(waited[:-1]) == {0} and waited[-1] == 0.001, "it looks for a moment, then it sleeps"

    awake = 0
    for _ in range(1000):
        expect()
        attention.iterate(0.0001)
        awake += len(poll.taken()) > 1
    assert awake <= MOST_DOUBLINGS + 1000 // (1 << MOST_DOUBLINGS), "nothing came, time and again"

    factory = Serving()
    with connected(reactor, factory) as peer:
        iterate(reactor, lambda: len(reactor.getReaders()) == 3)  # the port, the connection, its own
        peer.sendall(b"here it is")
        for _ in range(1 << (MOST_DOUBLINGS + 1)):
            expect()
            if not factory.noted:
                time.sleep(0.001)  # it has come
            attention.iterate(0.0001)
            if factory.noted and len(poll.taken()) == 1:
                break
        assert factory.noted == [b"here it is"]


def test_with_one_processor_it_sleeps_at_once(reactor: Any) -> None:
    attention = Attention(reactor, is_awake=False)
    poll = Poll(attention)
    attention.expect()
    attention.iterate(0.001)
    assert poll.taken() == [0.001]


def test_a_reactor_is_made_attentive_once_and_another_kind_not_at_all(reactor: Any) -> None:
    expect = attend(reactor)
    iterate_once = reactor.doIteration
    assert attend(reactor) == expect
    assert reactor.doIteration is iterate_once
    other = SelectReactor()
    attend(other)()
    assert "doIteration" not in vars(other)
