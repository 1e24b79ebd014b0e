"""
Thousands of hostile connections of every kind, and a good sender beside them: memory stays, the sender keeps at least
half of its throughput, and nothing that it was told is stored is lost.

500 of them in `make test`, 10,000 in `make soak`.
"""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
ALONE_S = 4.0
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


def attack(server: Server, count: int, seed: int) -> int:
    """Make so many hostile connections, a few at a time; give how many did what they were meant to."""
    generator = random.Random(seed)
    running: list[Iterator[None]] = []
    made = 0
    for number in range(count):
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
    try:
        next(hostile)
        running.append(hostile)
    except (StopIteration, OSError):
        pass


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

    def rate(self, seconds: float) -> float:
        """Objects a second, over some time."""
        before, started_s = len(self.acknowledged), time.monotonic()
        time.sleep(seconds)
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


def attack_from_processes(server: Server, count: int, seed: int) -> int:
    """Attack from processes of their own, so that the attackers do not take the good sender's time."""
    script = (
        "import os, sys; os.nice(19); from types import SimpleNamespace;"
        "from tests.durability.test_hostile import attack;"
        "print(attack(SimpleNamespace(port=int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])))"
    )

    def one(number: int) -> int:
        share = count // ATTACKERS + (number < count % ATTACKERS)
        command = [sys.executable, "-c", script, str(server.port), str(share), str(seed + number)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    with ThreadPoolExecutor(ATTACKERS) as pool:
        return sum(pool.map(one, range(ATTACKERS)))


def quiet(server: Server) -> None:
    """Wait until the server has forgotten its last half object."""
    deadline_s = time.monotonic() + 30
    while list((server.root / "incoming").iterdir()):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_hostile_connections_cost_no_memory_no_object_and_at_most_half_of_the_throughput(
    make_server: MakeServer, count: int, request: pytest.FixtureRequest
) -> None:
    server = make_server({"server": {"artim_timeout_seconds": 5, "limits": {"associations_per_address": PER_ADDRESS}}})
    with sending(server) as sender:
        attack_from_processes(server, 200, seed=1000)  # whatever is allocated once
        alone = sender.rate(ALONE_S)
        quiet_kib = server.resident_kib()
        started_s, before = time.monotonic(), len(sender.acknowledged)
        made = attack_from_processes(server, count, seed=1)
        duration_s = time.monotonic() - started_s
        beside = (len(sender.acknowledged) - before) / duration_s
        after = sender.rate(ALONE_S)
    quiet(server)
    growth_kib = server.resident_kib() - quiet_kib
    print(
        f"\n{made} of {count} hostile connections in {duration_s:.1f} s ({made / duration_s:.0f}/s);"
        f" sender {alone:.0f}/s alone, {beside:.0f}/s beside them, {after:.0f}/s afterwards;"
        f" memory {growth_kib:+d} KiB of {quiet_kib}"
    )
    assert made > count * 0.8
    assert sender.refused == 0
    assert growth_kib < MOST_GROWTH_KIB
    assert beside > 0
    if request.node.get_closest_marker("soak"):  # the short form lasts less than a second: too short to tell a rate by
        assert beside >= LEAST_SHARE * min(alone, after)
    stored = {path.name.removesuffix(".dcm") for path in server.objects()}
    assert set(sender.acknowledged) <= stored
    assert not any(uid.startswith("1.2.666.") for uid in stored)
