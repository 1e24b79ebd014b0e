"""
One association over a plain blocking socket, for queries and retrievals: it looks at what it must, and counts the rest.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.load import Refused
from pacs.dimse import Command, CStoreRSP, encode_command
from pacs.ul import (
    AAssociateAC,
    AAssociateRQ,
    AReleaseRQ,
    PresentationContextRQ,
    RoleSelection,
    UserInformation,
)

TIMEOUT_S: Final = 300.0
READ_BYTES: Final = 1 << 20
STATUS: Final = struct.pack("<HHL", 0, 0x0900, 2)
SUCCESS: Final = STATUS + b"\0\0"
PENDING: Final = STATUS + b"\0\xff"

_COMMAND_FIELD: Final = struct.pack("<HHL", 0, 0x0100, 2)
_MESSAGE_ID: Final = struct.pack("<HHL", 0, 0x0110, 2)
_ANSWERED_ID: Final = struct.pack("<HHL", 0, 0x0120, 2)
_C_STORE_RQ: Final = 0x0001
_PDU: Final = struct.Struct(">BxL")
_PDV: Final = struct.Struct(">LBB")
_UINT16: Final = struct.Struct("<H")


def pdus(context_id: int, data: bytes | memoryview, *, is_command: bool, length: int) -> bytes:
    """Give P-DATA-TF PDUs of some length with a command set or a data set."""
    out = bytearray()
    size = length - 6
    view = memoryview(data)
    for start in range(0, len(view), size):
        piece = view[start : start + size]
        flags = is_command | (2 if start + size >= len(view) else 0)
        out += _PDU.pack(4, len(piece) + 6) + _PDV.pack(len(piece) + 2, context_id, flags) + piece
    return bytes(out)


@dataclass(frozen=True, slots=True)
class Received:
    """
    What a request gave.

    Attributes:
        pending: responses before the last.
        objects: stored over the association.
        status: of the last response.
    """

    pending: int
    objects: int
    status: int


class Association:
    """
    An association with one context for what is asked for, and others for what is stored over it.

    Args:
        stores: SOP classes that are stored to us, all in one transfer syntax.
    """

    def __init__(
        self,
        port: int,
        called_ae_title: str,
        abstract_syntax: str,
        transfer_syntax: str,
        *,
        stores: Sequence[str] = (),
        max_pdu_length: int = 131072,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        syntaxes = (abstract_syntax, *stores)
        request = AAssociateRQ(
            called_ae_title=called_ae_title,
            calling_ae_title="BENCH",
            presentation_contexts=tuple(
                PresentationContextRQ(2 * i + 1, syntax, (transfer_syntax,)) for i, syntax in enumerate(syntaxes)
            ),
            user_information=UserInformation(
                max_pdu_length,
                "2.25.1",
                "BENCH",
                role_selections=tuple(RoleSelection(syntax, False, True) for syntax in stores),
            ),
        )
        self.socket.sendall(request.encode())
        head = self._exactly(6)
        kind, length = _PDU.unpack(head)
        body = self._exactly(length)
        if kind != 2:
            raise Refused(f"association: PDU type {kind}")
        accept = AAssociateAC.decode(body)
        if any(context.result for context in accept.presentation_contexts):
            raise Refused("a presentation context")
        self.pdu_length = min(accept.user_information.max_pdu_length or READ_BYTES, 131072)
        self._buffer = bytearray(READ_BYTES)

    def message(self, command: Command, data_set: bytes) -> bytes:
        """Give a message as it is sent."""
        length = self.pdu_length
        return pdus(1, encode_command(command), is_command=True, length=length) + pdus(
            1, data_set, is_command=False, length=length
        )

    def query(self, message: bytes) -> int:
        """Send a C-FIND request and take all answers; give how many matches came."""
        self.socket.sendall(message)
        received: list[bytes] = []
        tail = b""
        while True:
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise Refused("the peer closed the connection")
            received.append(data)
            if (tail + data[-4096:]).find(SUCCESS) >= 0 or (len(data) > 4096 and data.find(SUCCESS) >= 0):
                break
            tail = data[-len(SUCCESS) :]
        return b"".join(received).count(PENDING)

    def follow(self, message: bytes) -> Received:
        """Send a C-GET or C-MOVE request; take what is stored over the association, and the responses."""
        self.socket.sendall(message)
        answer = _StoreAnswer()
        buffer, view = self._buffer, memoryview(self._buffer)
        kept = skip = pdu_left = pending = objects = 0
        is_last = is_store = False
        while True:
            count = self.socket.recv_into(view[kept:])
            if not count:
                raise Refused("the peer closed the connection")
            end, at = kept + count, 0
            while True:
                if skip:
                    step = min(skip, end - at)
                    at, skip, pdu_left = at + step, skip - step, pdu_left - step
                    if skip:
                        break
                    if is_last and is_store:
                        objects += 1
                        self.socket.sendall(answer.encoded)
                if not pdu_left:
                    if end - at < 6:
                        break
                    kind, pdu_left = _PDU.unpack_from(buffer, at)
                    at += 6
                    if kind != 4:
                        raise Refused(f"PDU type {kind}")
                    continue
                if end - at < 6:
                    break
                length, context_id, flags = _PDV.unpack_from(buffer, at)
                if not flags & 1:
                    at, pdu_left, skip, is_last = at + 6, pdu_left - 6, length - 2, bool(flags & 2)
                    continue
                if end - at < 4 + length:
                    break
                command = bytes(view[at + 6 : at + 4 + length])
                at, pdu_left = at + 4 + length, pdu_left - 4 - length
                is_store = _value(command, _COMMAND_FIELD) == _C_STORE_RQ
                if is_store:
                    answer.prepare(context_id, _value(command, _MESSAGE_ID))
                elif (status := _value(command, STATUS)) == 0xFF00:
                    pending += 1
                else:
                    return Received(pending, objects, status)
            kept = end - at
            buffer[:kept] = buffer[at:end]

    def release(self) -> None:
        """End the association; what else comes is not looked at."""
        self.socket.sendall(AReleaseRQ().encode())
        self.socket.shutdown(socket.SHUT_WR)
        while self.socket.recv(READ_BYTES):
            pass
        self.socket.close()

    def store(self, command: Command, data_set: bytes) -> None:
        """Store one object."""
        self.socket.sendall(self.message(command, data_set))
        _, length = _PDU.unpack(self._exactly(6))
        if SUCCESS not in self._exactly(length):
            raise Refused("a C-STORE")

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise Refused("the peer closed the connection")
            data += piece
        return data


def _value(command: bytes, element: bytes) -> int:
    at = command.find(element)
    return -1 if at < 0 else int(_UINT16.unpack_from(command, at + len(element))[0])


class _StoreAnswer:
    """The C-STORE response, made once; the context and the message it answers are put in."""

    def __init__(self) -> None:
        command = encode_command(
            CStoreRSP(message_id_being_responded_to=0x7777, status=0, affected_sop_class_uid=None,
                      affected_sop_instance_uid=None)
        )  # fmt: skip
        self.encoded = bytearray(pdus(1, command, is_command=True, length=4096))
        self._id_at = self.encoded.index(_ANSWERED_ID) + len(_ANSWERED_ID)

    def prepare(self, context_id: int, message_id: int) -> None:
        self.encoded[10] = context_id
        _UINT16.pack_into(self.encoded, self._id_at, message_id)
