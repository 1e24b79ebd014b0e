"""
A load generator that is not the bottleneck: messages are prepared ahead, and sent by one thread that waits for whatever
socket is ready. An answer costs it one read and one comparison.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.data import TRANSFER_SYNTAX, UID_LENGTH, Template, uid
from pacs.dimse import CEchoRQ, CStoreRQ, encode_command
from pacs.ul import AAssociateAC, AAssociateRQ, AReleaseRQ, PresentationContextRQ, UserInformation

VERIFICATION: Final = "1.2.840.10008.1.1"
LONGEST_PDU: Final = 131072
TIMEOUT_S: Final = 120.0
_PDV: Final = struct.Struct(">BxLLBB")
_LENGTH: Final = struct.Struct(">L")
_STATUS: Final = struct.pack("<HHL", 0, 0x0900, 2)
_SUCCESS: Final = _STATUS + b"\0\0"

Message = tuple[bytes, memoryview]


class Refused(Exception):
    """The peer did not do what it was asked."""


class Client:
    """One association, used by blocking calls or, by `begin` and `ready`, by a selector."""

    def __init__(
        self,
        port: int,
        called_ae_title: str,
        abstract_syntax: str,
        transfer_syntax: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)
        request = AAssociateRQ(
            called_ae_title=called_ae_title,
            calling_ae_title="BENCH",
            presentation_contexts=(PresentationContextRQ(1, abstract_syntax, (transfer_syntax,)),),
            user_information=UserInformation(LONGEST_PDU, "2.25.1", "BENCH"),
        )
        self.socket.sendall(request.encode())
        self._received = b""
        self.refused = 0
        pdu = self._pdu()
        if pdu[0] != 2:
            raise Refused(f"association: PDU type {pdu[0]}")
        accept = AAssociateAC.decode(pdu[6:])
        if accept.presentation_contexts[0].result != 0:
            raise Refused("presentation context")
        announced = accept.user_information.max_pdu_length or LONGEST_PDU
        self.pdu_length = min(announced, LONGEST_PDU)
        self._to_send: list[memoryview] = []
        self._messages: list[Message] = []

    # -- blocking

    def call(self, message: bytes) -> None:
        """Send one message and take its answer."""
        self.socket.sendall(message)
        self._take(self._pdu())

    def release(self) -> None:
        """End the association in order."""
        self.socket.settimeout(TIMEOUT_S)
        self.socket.sendall(AReleaseRQ().encode())
        self._pdu()
        self.socket.close()

    def _pdu(self) -> bytes:
        while (pdu := self._whole_pdu()) is None:
            self._receive()
        return pdu

    # -- without blocking

    def begin(self, messages: Sequence[Message]) -> None:
        """Send one message after the other, each when the one before was answered."""
        self.socket.setblocking(False)
        self._messages = list(reversed(messages))
        self._next()

    def ready(self) -> bool | None:
        """Go on; tell whether the socket must be watched for writing too, or None when all was answered."""
        if self._to_send:
            self._send()
            return bool(self._to_send)
        self._receive()
        pdu = self._whole_pdu()
        while pdu is not None:
            if pdu.find(_STATUS) < 0 or not pdu[11] & 2:  # DCMTK sends a command in two writes, never in two PDUs
                raise Refused("a response without a status")
            self._take(pdu)
            if not self._messages:
                return None
            self._next()
            pdu = self._whole_pdu()
        return bool(self._to_send)

    def _next(self) -> None:
        head, rest = self._messages.pop()
        self._to_send = [memoryview(head), rest]
        self._send()

    def _send(self) -> None:
        left = self._to_send
        while left:
            try:
                sent = self.socket.sendmsg(left)
            except BlockingIOError:
                return
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = left[0][sent:]

    # -- received bytes

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise Refused("the peer closed the connection")
        self._received = self._received + data if self._received else data

    def _whole_pdu(self) -> bytes | None:
        received = self._received
        if len(received) < 6:
            return None
        end = 6 + _LENGTH.unpack_from(received, 2)[0]
        if len(received) < end:
            return None
        self._received = received[end:]
        return received[:end]

    def _take(self, pdu: bytes) -> None:
        if pdu[0] != 4:
            raise Refused(f"PDU type {pdu[0]} instead of a response")
        if _SUCCESS not in pdu:
            self.refused += 1


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

    def message(self, instance: bytes, message_id: int) -> Message:
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


def store(port: int, ae_title: str, template: Template, *, associations: int, each: int, run: int) -> Result:
    """Store `each` objects on each of some associations, one at a time on each, all associations at once."""
    work: list[tuple[Client, list[Message]]] = []
    for number in range(associations):
        client = Client(port, ae_title, template.sop_class_uid, TRANSFER_SYNTAX)
        messages = StoreMessages(template, client.pdu_length, uid(run, number), uid(run, number, 1))
        work.append((client, [messages.message(uid(run, number, i), i % 65535 + 1) for i in range(each)]))
    started_s = time.perf_counter()
    _run_all(work)
    duration_s = time.perf_counter() - started_s
    for client, _ in work:
        client.release()
    return Result(associations * each, duration_s, sum(client.refused for client, _ in work))


def _run_all(work: Sequence[tuple[Client, list[Message]]]) -> None:
    with selectors.EpollSelector() as selector:
        for client, messages in work:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.begin(messages)
            if client._to_send:
                selector.modify(client.socket, selectors.EVENT_WRITE, client)
        left = len(work)
        while left:
            events = selector.select(TIMEOUT_S)
            if not events:
                raise Refused(f"no answer for {TIMEOUT_S:g} s")
            for key, mask in events:
                wants_to_write = key.data.ready()
                if wants_to_write is None:
                    selector.unregister(key.fileobj)
                    left -= 1
                elif wants_to_write != bool(mask & selectors.EVENT_WRITE):
                    wanted = selectors.EVENT_WRITE if wants_to_write else selectors.EVENT_READ
                    selector.modify(key.fileobj, wanted, key.data)


def echo(port: int, ae_title: str, *, count: int) -> Result:
    """Send C-ECHO after C-ECHO on one association."""
    client = Client(port, ae_title, VERIFICATION, "1.2.840.10008.1.2")
    messages = []
    for message_id in range(1, count + 1):
        command = encode_command(CEchoRQ(message_id=message_id % 65535 + 1, affected_sop_class_uid=VERIFICATION))
        messages.append(_PDV.pack(4, len(command) + 6, len(command) + 2, 1, 3) + command)
    started_s = time.perf_counter()
    for message in messages:
        client.call(message)
    duration_s = time.perf_counter() - started_s
    client.release()
    return Result(count, duration_s, client.refused)


def associate(port: int, ae_title: str, *, count: int) -> Result:
    """Associate and release, one after the other."""
    started_s = time.perf_counter()
    for _ in range(count):
        Client(port, ae_title, VERIFICATION, "1.2.840.10008.1.2").release()
    return Result(count, time.perf_counter() - started_s, 0)
