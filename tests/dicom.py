"""
A client for tests: raw messages over a socket, right ones and wrong ones.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from pacs.dimse import CEchoRQ, Command, CStoreRQ, Response, decode_command, encode_command
from pacs.ul import (
    AAssociateAC,
    AAssociateRQ,
    AReleaseRQ,
    ExtendedNegotiation,
    PresentationContextRQ,
    UserIdentity,
    UserInformation,
)
from tests.server import AE_TITLE

VERIFICATION: Final = "1.2.840.10008.1.1"
CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
PIECE_BYTES: Final = 65536

_PDV: Final = struct.Struct(">BxLLBB")


def pdv(data: bytes, *, context_id: int = 1, is_command: bool = False, is_last: bool = True) -> bytes:
    """Give a P-DATA-TF with one presentation data value."""
    return _PDV.pack(4, len(data) + 6, len(data) + 2, context_id, is_command | is_last << 1) + data


class Rejected(Exception):
    """The association was rejected; result, source, reason."""


class Client:
    """
    One association; a context manager that releases it.

    Attributes:
        context_id: of what is sent; the first one at the beginning.
    """

    def __init__(
        self,
        port: int,
        *contexts: tuple[str, str],
        called: str = AE_TITLE,
        calling: str = "TESTER",
        max_pdu_length: int = 16384,
        user_identity: UserIdentity | None = None,
        tls: ssl.SSLContext | None = None,
        extended: tuple[ExtendedNegotiation, ...] = (),
    ) -> None:
        self.begin(
            port,
            *contexts,
            called=called,
            calling=calling,
            max_pdu_length=max_pdu_length,
            user_identity=user_identity,
            tls=tls,
            extended=extended,
        )
        kind, body = self.pdu()
        if kind == 3:
            self.socket.close()
            raise Rejected(*body[1:4])
        self.accept = AAssociateAC.decode(body)

    def begin(
        self,
        port: int,
        *contexts: tuple[str, str],
        called: str = AE_TITLE,
        calling: str = "TESTER",
        max_pdu_length: int = 16384,
        user_identity: UserIdentity | None = None,
        tls: ssl.SSLContext | None = None,
        extended: tuple[ExtendedNegotiation, ...] = (),
    ) -> None:
        """Connect and send the A-ASSOCIATE-RQ; do not wait for its answer."""
        self.calling = calling
        self.context_id = 1
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        proposed = contexts or ((VERIFICATION, IMPLICIT),)
        request = AAssociateRQ(
            called_ae_title=called,
            calling_ae_title=calling,
            presentation_contexts=tuple(
                PresentationContextRQ(2 * i + 1, abstract, tuple(transfer.split("|")))
                for i, (abstract, transfer) in enumerate(proposed)
            ),
            user_information=UserInformation(
                max_pdu_length, "2.25.1", "TESTER", user_identity=user_identity, extended_negotiations=extended
            ),
        )
        self.socket.sendall(request.encode())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        self.socket.close()

    def pdu(self) -> tuple[int, bytes]:
        """Receive a PDU; 0 when the peer has closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                return data
            data += piece
        return data

    def send_command(self, command: Command) -> None:
        """Send a command set."""
        self.socket.sendall(pdv(encode_command(command), context_id=self.context_id, is_command=True))

    def response(self) -> Response:
        """Receive a response without a data set."""
        kind, body = self.pdu()
        assert kind == 4, f"PDU type {kind}"
        command = decode_command(body[6:])
        assert isinstance(command, Response)
        return command

    def request(self, *, within_s: float = 60.0) -> Command | None:
        """Receive a request of the server's, without its data set; None when none comes."""
        self.socket.settimeout(within_s)
        try:
            while True:
                kind, body = self.pdu()
                assert kind == 4, f"PDU type {kind}"
                if body[5] & 1:
                    return decode_command(body[6:])
        except TimeoutError:
            return None
        finally:
            self.socket.settimeout(60)

    def echo(self) -> int:
        """Give the status of a C-ECHO."""
        self.send_command(CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION))
        return self.response().status

    def store(
        self,
        data_set: bytes | Iterator[bytes],
        sop_instance_uid: str,
        *,
        sop_class_uid: str = CT_IMAGE_STORAGE,
        message_id: int = 1,
    ) -> Response:
        """Store an object; give the response."""
        self.send_command(
            CStoreRQ(
                message_id=message_id,
                affected_sop_class_uid=sop_class_uid,
                affected_sop_instance_uid=sop_instance_uid,
                has_data_set=True,
            )
        )
        pieces = (
            iter([data_set[i : i + PIECE_BYTES] for i in range(0, len(data_set), PIECE_BYTES)] or [b""])
            if isinstance(data_set, bytes)
            else data_set
        )
        held = next(pieces)
        for piece in pieces:
            self.socket.sendall(pdv(held, context_id=self.context_id, is_last=False))
            held = piece
        self.socket.sendall(pdv(held, context_id=self.context_id))
        return self.response()

    def release(self) -> None:
        """End the association in order."""
        self.socket.sendall(AReleaseRQ().encode())
        kind, _ = self.pdu()
        assert kind == 6, f"PDU type {kind} instead of A-RELEASE-RP"


def element(tag: int, vr: str, value: bytes) -> bytes:
    """Give an element in Explicit VR Little Endian."""
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return struct.pack("<HH2sxxL", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


def ct_data_set(
    instance: str,
    *,
    study: str = "1.2.3",
    series: str = "1.2.3.4",
    patient_id: str = "ID1",
    name: str = "Doe^Jane",
    birth_date: str = "",
    study_date: str = "20240102",
    pixels: bytes = bytes(64),
    sop_class: str = CT_IMAGE_STORAGE,
) -> bytes:
    """Give a small CT object in Explicit VR Little Endian."""
    values = (
        (0x00080016, "UI", sop_class),
        (0x00080018, "UI", instance),
        (0x00080020, "DA", study_date),
        (0x00080060, "CS", "CT"),
        (0x00100010, "PN", name),
        (0x00100020, "LO", patient_id),
        (0x00100030, "DA", birth_date),
        (0x0020000D, "UI", study),
        (0x0020000E, "UI", series),
        (0x00200013, "IS", "1"),
    )
    return b"".join(element(tag, vr, text.encode()) for tag, vr, text in values) + element(0x7FE00010, "OW", pixels)
