"""
Thousands of hostile connections of every kind, and a good sender beside them: memory stays, the sender keeps at least
half of its throughput, and nothing that it was told is stored is lost.

500 of them in `make test`, spread over some seconds, 10,000 in `make soak`, as fast as the server lets them in, from
the sender's own address. Windows with them and windows without them alternate, and medians are compared: the machine
is never the same for long.
"""

from __future__ import annotations

import random
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

from pacs.dimse import CStoreRQ
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, Rejected, ct_data_set, pdv
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)
MOST_GROWTH_KIB = 20 * 1024
LEAST_SHARE = 0.5
ATTACKERS = 2  # processes, at the lowest priority: it is the server that must bear them, not the processor
WINDOWS = 5
WINDOW_S = 1.2  # without attackers; with them it is the same in the short form, and as long as it takes in the long one
SETTLE_S = 0.3
ATTACK_TIMEOUT_S = 600.0
PIXELS = bytes(100_000)
PER_ADDRESS = 60  # associations: what attackers leave open never keeps the sender from coming back


def _connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def _begin_store(server: Server, generator: random.Random) -> Client:
    client = Client(server.port, CT, calling="HOSTILE")
    uid = f"1.2.666.{generator.randrange(1 << 40)}"
    client.send_command(
        CStoreRQ(
            message_id=1,
            affected_sop_class_uid=CT_IMAGE_STORAGE,
            affected_sop_instance_uid=uid,
            has_data_set=True,
        )
    )
    client.socket.sendall(pdv(ct_data_set(uid, pixels=PIXELS)[:50_000], is_last=False))
    return client


def half_open(server: Server, generator: random.Random) -> Iterator[None]:
    """Connect and say nothing for a while."""
    with _connect(server):
        yield


def garbage(server: Server, generator: random.Random) -> Iterator[None]:
    with _connect(server) as connection:
        connection.sendall(generator.randbytes(generator.randrange(1, 3000)))
        yield


def tls_garbage(server: Server, generator: random.Random) -> Iterator[None]:
    """A TLS client's hello, and then noise that looks like a record."""
    with _connect(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + generator.randbytes(506))
        yield


def wrong_ae(server: Server, generator: random.Random) -> Iterator[None]:
    with pytest.raises(Rejected):
        Client(server.port, called=f"NOBODY{generator.randrange(1000)}", calling="HOSTILE")
    yield


def aborted_mid_object(server: Server, generator: random.Random) -> Iterator[None]:
    client = _begin_store(server, generator)
    client.socket.sendall(struct.pack(">BxLBBBB", 7, 4, 0, 0, 0, 0))
    yield
    client.socket.close()


def reset_mid_object(server: Server, generator: random.Random) -> Iterator[None]:
    client = _begin_store(server, generator)
    yield
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def slow(server: Server, generator: random.Random) -> Iterator[None]:
    """A byte now and then, of a request that never ends."""
    with _connect(server) as connection:
        for _ in range(3):
            connection.sendall(b"\x01")
            yield


def oversized(server: Server, generator: random.Random) -> Iterator[None]:
    with _connect(server) as connection:
        connection.sendall(struct.pack(">BxL", 1, generator.randrange(1 << 19, 1 << 32)) + bytes(1000))
        yield


def oversized_data(server: Server, generator: random.Random) -> Iterator[None]:
    client = Client(server.port, CT, calling="HOSTILE")
    client.socket.sendall(struct.pack(">BxLLBB", 4, 0x7FFFFFFF, 0x7FFFFFFB, 1, 3) + bytes(1000))
    yield
    client.socket.close()


def bad_command(server: Server, generator: random.Random) -> Iterator[None]:
    client = Client(server.port, CT, calling="HOSTILE")
    client.socket.sendall(pdv(generator.randbytes(100), is_command=True))
    yield
    client.socket.close()


KINDS: tuple[Callable[[Server, random.Random], Iterator[None]], ...] = (
    half_open,
    garbage,
    tls_garbage,
    wrong_ae,
    aborted_mid_object,
    reset_mid_object,
    slow,
    oversized,
    oversized_data,
    bad_command,
)


def attack(server: Server, count: int, seed: int, spread_s: float) -> int:
    """
    Make so many hostile connections, a few at a time; give how many did what they were meant to.

    Args:
        spread_s: over how much time; 0 is as fast as possible.
    """
    generator = random.Random(seed)
    running: list[Iterator[None]] = []
    made = 0
    started_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, started_s + spread_s * number / count - time.monotonic()))
        hostile = KINDS[(number + seed) % len(KINDS)](server, generator)
        try:
            next(hostile)
            running.append(hostile)
            made += 1
        except (OSError, AssertionError, Rejected):
            pass  # refused, or cut off in the middle: that is as good
        while len(running) > 5:
            _go_on(running, generator)
    while running:
        _go_on(running, generator)
    return made


def _go_on(running: list[Iterator[None]], generator: random.Random) -> None:
    hostile = running.pop(generator.randrange(len(running)))
    with suppress(StopIteration, OSError):
        next(hostile)
        running.append(hostile)


def attack_when_told(server: Server) -> None:
    """Attack for each line of count, seed and time on standard input; a process's whole work."""
    print("ready", flush=True)
    for line in sys.stdin:
        count, seed, spread_s = line.split()
        print(attack(server, int(count), int(seed), float(spread_s)), flush=True)


class Attackers:
    """Processes of their own, so that the attackers do not take the good sender's time; a context manager."""

    def __init__(self, server: Server) -> None:
        script = (
            "import os, sys; os.nice(19); from types import SimpleNamespace;"
            "from tests.durability.test_hostile import attack_when_told;"
            "attack_when_told(SimpleNamespace(port=int(sys.argv[1])))"
        )
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(server.port)],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(ATTACKERS)
        ]
        self._seed = 0

    def __enter__(self) -> Attackers:
        for process in self._processes:
            assert self._read(process) == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.communicate(timeout=ATTACK_TIMEOUT_S)

    def attack(self, count: int, spread_s: float) -> int:
        """Make so many hostile connections; give how many did what they were meant to, when all are over."""
        for number, process in enumerate(self._processes):
            share = count // ATTACKERS + (number < count % ATTACKERS)
            assert process.stdin is not None
            process.stdin.write(f"{share} {self._seed} {spread_s}\n")
            process.stdin.flush()
            self._seed += 1
        return sum(int(self._read(process)) for process in self._processes)

    def _read(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()


@dataclass(slots=True)
class GoodSender:
    """Stores objects one after the other on one association, in a process's thread of its own."""

    server: Server
    acknowledged: list[str] = field(default_factory=list)
    refused: int = 0
    _stop: Event = field(default_factory=Event)

    def run(self) -> None:
        with Client(self.server.port, CT, calling="GOOD") as client:
            for number in range(1, 1_000_000):
                if self._stop.is_set():
                    return
                uid = f"1.2.777.{number}"
                response = client.store(ct_data_set(uid, pixels=PIXELS), uid, message_id=number % 65535 + 1)
                if response.status == 0:
                    self.acknowledged.append(uid)
                else:
                    self.refused += 1

    def stop(self) -> None:
        self._stop.set()

    def rate_during(self, work: Callable[[], None]) -> float:
        """Objects a second while something is done."""
        before, started_s = len(self.acknowledged), time.monotonic()
        work()
        return (len(self.acknowledged) - before) / (time.monotonic() - started_s)


@contextmanager
def sending(server: Server) -> Iterator[GoodSender]:
    sender = GoodSender(server)
    thread = Thread(target=sender.run)
    thread.start()
    try:
        yield sender
    finally:
        sender.stop()
        thread.join(60)
    assert not thread.is_alive()


def quiet(server: Server) -> None:
    """Wait until the server has forgotten its last half object."""
    deadline_s = time.monotonic() + 30
    while list((server.root / "incoming").iterdir()):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def suffer(make_server: MakeServer, count: int, spread_s: float) -> None:
    """Attack a server beside a good sender; see that nothing is lost, memory stays and the sender goes on."""
    server = make_server({"server": {"artim_timeout_seconds": 5, "limits": {"associations_per_address": PER_ADDRESS}}})
    calm: list[float] = []
    hostile: list[float] = []
    made = 0

    def attack_once() -> None:
        nonlocal made
        made += attackers.attack(count // WINDOWS, spread_s)

    started_s = time.monotonic()
    with Attackers(server) as attackers, sending(server) as sender:
        attackers.attack(200, 0)  # whatever is allocated once
        quiet_kib = server.resident_kib()
        for _ in range(WINDOWS):
            time.sleep(SETTLE_S)
            calm.append(sender.rate_during(lambda: time.sleep(WINDOW_S)))
            hostile.append(sender.rate_during(attack_once))
    quiet(server)
    growth_kib = server.resident_kib() - quiet_kib
    share = statistics.median(hostile) / statistics.median(calm)
    print(
        f"\n{made} of {count} hostile connections in {WINDOWS} windows, {time.monotonic() - started_s:.1f} s in all;"
        f" sender {statistics.median(calm):.0f}/s alone ({min(calm):.0f} to {max(calm):.0f}),"
        f" {statistics.median(hostile):.0f}/s beside them ({min(hostile):.0f} to {max(hostile):.0f}): {share:.2f};"
        f" memory {growth_kib:+d} KiB of {quiet_kib}"
    )
    assert made > count * 0.8
    assert sender.refused == 0
    assert growth_kib < MOST_GROWTH_KIB
    assert share >= LEAST_SHARE
    stored = {path.name.removesuffix(".dcm") for path in server.objects()}
    assert set(sender.acknowledged) <= stored
    assert not any(uid.startswith("1.2.666.") for uid in stored)


def test_500_hostile_connections_cost_no_memory_no_object_and_at_most_half_of_the_throughput(
    make_server: MakeServer,
) -> None:
    suffer(make_server, 500, WINDOW_S)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_10000_hostile_connections_cost_no_memory_no_object_and_at_most_half_of_the_throughput(
    make_server: MakeServer,
) -> None:
    suffer(make_server, 10_000, 0)
