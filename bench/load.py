"""
A load generator that is not the bottleneck: objects are prepared ahead, and sent from memory by plain sockets.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bench.data import TRANSFER_SYNTAX, UID_LENGTH, Template, uid
from pacs.dimse import CEchoRQ, CStoreRQ, decode_command, encode_command
from pacs.ul import AAssociateAC, AAssociateRQ, AReleaseRQ, PresentationContextRQ, UserInformation

VERIFICATION: Final = "1.2.840.10008.1.1"
LONGEST_PDU: Final = 131072
_PDV: Final = struct.Struct(">BxLLBB")


class Refused(Exception):
    """The peer did not do what it was asked."""


class Client:
    """One association."""

    def __init__(self, port: int, called_ae_title: str, abstract_syntax: str, transfer_syntax: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = AAssociateRQ(
            called_ae_title=called_ae_title,
            calling_ae_title="BENCH",
            presentation_contexts=(PresentationContextRQ(1, abstract_syntax, (transfer_syntax,)),),
            user_information=UserInformation(LONGEST_PDU, "2.25.1", "BENCH"),
        )
        self._socket.sendall(request.encode())
        kind, body = self._pdu()
        if kind != 2:
            raise Refused(f"association: PDU type {kind}")
        accept = AAssociateAC.decode(body)
        if accept.presentation_contexts[0].result != 0:
            raise Refused("presentation context")
        announced = accept.user_information.max_pdu_length or LONGEST_PDU
        self.pdu_length = min(announced, LONGEST_PDU)

    def send(self, *buffers: bytes | memoryview) -> None:
        """Send buffers without joining them."""
        left = [memoryview(buffer) for buffer in buffers]
        while left:
            sent = self._socket.sendmsg(left[:512])
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = left[0][sent:]

    def status(self) -> int:
        """Receive a response; give its status."""
        kind, body = self._pdu()
        if kind != 4:
            raise Refused(f"PDU type {kind} instead of a response")
        return int(getattr(decode_command(body[6:]), "status"))  # noqa: B009 - responses alone have one

    def release(self) -> None:
        """End the association in order."""
        self._socket.sendall(AReleaseRQ().encode())
        self._pdu()
        self._socket.close()

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise Refused("the peer closed the connection")
            data += piece
        return data


class StoreMessages:
    """C-STORE messages of one template, for one association's PDU length."""

    def __init__(self, template: Template, pdu_length: int, study: bytes, series: bytes) -> None:
        size = pdu_length - 6
        places = template.places
        data = bytearray(template.head + template.tail)
        data[places[0] : places[0] + UID_LENGTH] = study
        data[places[1] : places[1] + UID_LENGTH] = series
        out = bytearray()
        self._uid_places: list[tuple[int, int, int]] = []
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            is_last = start + size >= len(data)
            base = len(out) + _PDV.size - start
            low, high = max(places[2], start), min(places[2] + UID_LENGTH, start + len(piece))
            if low < high:
                self._uid_places.append((low + base, high + base, low - places[2]))
            out += _PDV.pack(4, len(piece) + 6, len(piece) + 2, 1, 2 if is_last else 0) + piece
        head_end = max(place[1] for place in self._uid_places)
        self._head, self._rest = out[:head_end], memoryview(bytes(out[head_end:]))
        self._sop_class_uid = template.sop_class_uid

    def message(self, instance: bytes, message_id: int) -> tuple[bytes, memoryview]:
        """Give one message: its command and what has a UID in it, and the rest."""
        command = encode_command(
            CStoreRQ(
                message_id=message_id,
                affected_sop_class_uid=self._sop_class_uid,
                affected_sop_instance_uid=instance.decode(),
                has_data_set=True,
            )
        )
        head = bytearray(self._head)
        for low, high, offset in self._uid_places:
            head[low:high] = instance[offset : offset + high - low]
        return _PDV.pack(4, len(command) + 6, len(command) + 2, 1, 3) + command + head, self._rest


@dataclass(frozen=True, slots=True)
class Result:
    """What one run gave."""

    count: int
    duration_s: float
    refused: int

    @property
    def per_second(self) -> float:
        """Operations."""
        return self.count / self.duration_s


def _in_parallel(count: int, work: Callable[[int, threading.Barrier], int]) -> tuple[float, int]:
    """Run `count` workers that begin together; give the duration and the sum of what they return."""
    barrier = threading.Barrier(count + 1)
    results: list[int] = []
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            results.append(work(number, barrier))
        except (Refused, OSError, threading.BrokenBarrierError) as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):
        barrier.wait(60)
    started_s = time.perf_counter()
    for thread in threads:
        thread.join()
    duration_s = time.perf_counter() - started_s
    if failures:
        raise Refused(f"{len(failures)} of {count} associations failed: {failures[0]!r}")
    return duration_s, sum(results)


def store(port: int, ae_title: str, template: Template, *, associations: int, each: int, run: int) -> Result:
    """Store `each` objects on each of some associations."""

    def work(number: int, barrier: threading.Barrier) -> int:
        client = Client(port, ae_title, template.sop_class_uid, TRANSFER_SYNTAX)
        messages = StoreMessages(template, client.pdu_length, uid(run, number), uid(run, number, 1))
        prepared = [messages.message(uid(run, number, i), i % 65535 + 1) for i in range(each)]
        barrier.wait(60)
        refused = 0
        for head, rest in prepared:
            client.send(head, rest)
            refused += client.status() != 0
        client.release()
        return refused

    duration_s, refused = _in_parallel(associations, work)
    return Result(associations * each, duration_s, refused)


def echo(port: int, ae_title: str, *, count: int) -> Result:
    """Send C-ECHO after C-ECHO on one association."""
    client = Client(port, ae_title, VERIFICATION, "1.2.840.10008.1.2")
    command = encode_command(CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION))
    message = _PDV.pack(4, len(command) + 6, len(command) + 2, 1, 3) + command
    started_s = time.perf_counter()
    refused = 0
    for _ in range(count):
        client.send(message)
        refused += client.status() != 0
    duration_s = time.perf_counter() - started_s
    client.release()
    return Result(count, duration_s, refused)


def associate(port: int, ae_title: str, *, count: int) -> Result:
    """Associate and release, one after the other."""
    started_s = time.perf_counter()
    for _ in range(count):
        Client(port, ae_title, VERIFICATION, "1.2.840.10008.1.2").release()
    return Result(count, time.perf_counter() - started_s, 0)
