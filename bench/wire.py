"""
One association over TLS and a blocking socket, in several presentation contexts: any request of ours, and requests of
the peer's in between (what is stored to us by C-GET, reports of storage commitment).
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Final

from bench.load import Refused
from pacs.dimse import Command, Request, Response, decode_command, encode_message
from pacs.dimse.status import is_pending
from pacs.ul import (
    AAssociateAC,
    AAssociateRQ,
    AReleaseRQ,
    PresentationContextRQ,
    RoleSelection,
    UserInformation,
)

TIMEOUT_S: Final = 120.0
LONGEST_PDU: Final = 131072
EXPLICIT: Final = "1.2.840.10008.1.2.1"
P_DATA_TF: Final = 4
A_RELEASE_RQ: Final = 5
A_RELEASE_RP: Final = 6
_PDU: Final = struct.Struct(">BxL")
_PDV: Final = struct.Struct(">LBB")

Serve = Callable[[Command, bytes], Response]
"""Gives the response to a request of the peer's."""

Answers = list[tuple[Response, bytes]]


class Wire:
    """Messages over a connected socket, for either side of an association."""

    def __init__(self, connection: socket.socket, pdu_length: int = LONGEST_PDU) -> None:
        self.socket = connection
        self.pdu_length = pdu_length

    def pdu(self) -> tuple[int, bytes]:
        """Receive a PDU."""
        kind, length = _PDU.unpack(self._exactly(_PDU.size))
        return kind, self._exactly(length)

    def send(self, context_id: int, command: Command, data_set: bytes | None) -> None:
        """Send a message."""
        self.socket.sendall(encode_message(context_id, command, data_set, self.pdu_length))

    def receive(self) -> tuple[int, Command, bytes] | None:
        """Receive a message with its context and data set; None when the peer releases the association or agrees to."""
        command: Command | None = None
        gathered: list[bytes] = []
        while True:
            kind, body = self.pdu()
            if kind in (A_RELEASE_RQ, A_RELEASE_RP):
                return None
            if kind != P_DATA_TF:
                raise Refused(f"PDU type {kind}")
            at = 0
            while at < len(body):
                length, context_id, flags = _PDV.unpack_from(body, at)
                gathered.append(body[at + 6 : at + 4 + length])
                at += 4 + length
                if not flags & 2:
                    continue
                whole, gathered = b"".join(gathered), []
                if not flags & 1:
                    assert command is not None
                    return context_id, command, whole
                command = decode_command(whole)
                if not command.has_data_set:
                    return context_id, command, b""

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        data = bytearray(count)
        view, at = memoryview(data), 0
        while at < count:
            received = self.socket.recv_into(view[at:])
            if not received:
                raise Refused("the peer closed the connection")
            at += received
        return bytes(data)


class Association(Wire):
    """
    An association of ours.

    Args:
        abstract_syntaxes: each proposed in Explicit VR Little Endian.
        stores: those that are stored to us.
        serve: answers the peer's requests.
    """

    def __init__(
        self,
        port: int,
        *,
        called: str,
        calling: str,
        abstract_syntaxes: Sequence[str],
        tls: ssl.SSLContext,
        stores: Sequence[str] = (),
        serve: Serve | None = None,
    ) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(tls.wrap_socket(plain, server_hostname="localhost"))
        self._serve = serve
        proposed = (*abstract_syntaxes, *stores)
        self._context_of = {syntax: 2 * index + 1 for index, syntax in enumerate(proposed)}
        request = AAssociateRQ(
            called_ae_title=called,
            calling_ae_title=calling,
            presentation_contexts=tuple(
                PresentationContextRQ(context_id, syntax, (EXPLICIT,))
                for syntax, context_id in self._context_of.items()
            ),
            user_information=UserInformation(
                LONGEST_PDU,
                "2.25.1",
                "DEPARTMENT",
                role_selections=tuple(RoleSelection(syntax, False, True) for syntax in stores),
            ),
        )
        self.socket.sendall(request.encode())
        kind, body = self.pdu()
        if kind != 2:
            raise Refused(f"association: PDU type {kind}")
        accept = AAssociateAC.decode(body)
        if any(context.result for context in accept.presentation_contexts):
            raise Refused("a presentation context")
        self.pdu_length = min(accept.user_information.max_pdu_length or LONGEST_PDU, LONGEST_PDU)
        self._message_id = 0

    def next_message_id(self) -> int:
        """Give one that no request has had."""
        self._message_id += 1
        return self._message_id

    def call(self, abstract_syntax: str, request: Request, data_set: bytes | None = None) -> Answers:
        """Send a request; give its responses, the final one last. Requests of the peer's are served meanwhile."""
        self.send(self._context_of[abstract_syntax], request, data_set)
        answers: Answers = []
        while True:
            message = self.serve_one()
            if message is None:
                continue
            answers.append(message)
            if not is_pending(message[0].status):
                return answers

    def serve_one(self) -> tuple[Response, bytes] | None:
        """Take a message: a request is served, a response given."""
        received = self.receive()
        if received is None:
            raise Refused("the peer releases the association")
        context_id, command, data_set = received
        if isinstance(command, Response):
            return command, data_set
        if self._serve is None:
            raise Refused(f"{command.operation} of the peer's")
        self.send(context_id, self._serve(command, data_set), None)
        return None

    def release(self) -> None:
        """End the association in order; what the peer asks until then is served."""
        self.socket.sendall(AReleaseRQ().encode())
        while (received := self.receive()) is not None:
            if self._serve is not None and isinstance(received[1], Request):
                self._serve(received[1], received[2])  # it can't be answered any more
        self.close()
