"""
Peers for the tests of C-GET and C-MOVE: requesters that do as they are told, and storage SCPs of DCMTK and pynetdicom.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pynetdicom import AE, evt

from pacs.dataset.part10 import read_file_meta
from pacs.dimse import CCancelRQ, CGetRQ, CMoveRQ, Command, CStoreRQ, Response, decode_command, encode_command
from pacs.dimse.messages import CGetRSP, CMoveRSP
from pacs.ul import (
    AAssociateAC,
    AAssociateRQ,
    AReleaseRQ,
    ExtendedNegotiation,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    UserInformation,
)
from tests.dicom import EXPLICIT, element, pdv
from tests.server import AE_TITLE, clean_environment

STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
PENDING: Final = 0xFF00

LEVEL: Final = 0x00080052
KEYS: Final = {"PATIENT": 0x00100020, "STUDY": 0x0020000D, "SERIES": 0x0020000E, "IMAGE": 0x00080018}


def identifier(level: str, **keys: str | Sequence[str]) -> bytes:
    """Give an identifier in Explicit VR Little Endian; keys by the names of their levels."""
    values = {LEVEL: ("CS", level)}
    for name, value in keys.items():
        text = value if isinstance(value, str) else "\\".join(value)
        values[KEYS[name.upper()]] = ("LO" if name == "patient" else "UI", text)
    return b"".join(element(tag, vr, text.encode()) for tag, (vr, text) in sorted(values.items()))


def data_set_of(path: Path) -> bytes:
    """Give a file's bytes behind its meta information."""
    with path.open("rb") as file:
        file.seek(read_file_meta(file).data_set_offset)
        return file.read()


@dataclass
class Retrieved:
    """
    What a retrieval gave.

    Attributes:
        data_sets: by SOP Instance UID; empty bytes where they were not kept.
        failed_uids: of the Failed SOP Instance UID List.
    """

    data_sets: dict[str, bytes] = field(default_factory=dict)
    requests: list[CStoreRQ] = field(default_factory=list)
    pending: list[CGetRSP | CMoveRSP] = field(default_factory=list)
    pending_times_s: list[float] = field(default_factory=list)
    final: CGetRSP | CMoveRSP | None = None
    failed_uids: list[str] = field(default_factory=list)

    @property
    def counters(self) -> tuple[int | None, int | None, int | None, int | None]:
        """Remaining, completed, failed, warning of the final response."""
        assert self.final is not None
        return counters_of(self.final)


def counters_of(response: CGetRSP | CMoveRSP) -> tuple[int | None, int | None, int | None, int | None]:
    """Give remaining, completed, failed, warning."""
    return (
        response.number_of_remaining_suboperations,
        response.number_of_completed_suboperations,
        response.number_of_failed_suboperations,
        response.number_of_warning_suboperations,
    )


class Requester:
    """
    One association for C-GET or C-MOVE, over a plain socket.

    Args:
        contexts: SOP class and transfer syntax of what is stored to us by C-GET.
    """

    def __init__(
        self,
        port: int,
        model: str,
        contexts: Iterable[tuple[str, str]] = (),
        *,
        calling: str = "REQUESTER",
        max_pdu_length: int = 16384,
        has_role: bool = True,
        is_relational: bool = False,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.model = model
        contexts = tuple(contexts)
        proposed = ((model, EXPLICIT), *contexts)
        self.sop_class_of = {2 * i + 1: sop_class for i, (sop_class, _) in enumerate(proposed)}
        roles = tuple(RoleSelection(sop_class, False, True) for sop_class in dict(contexts)) if has_role else ()
        request = AAssociateRQ(
            called_ae_title=AE_TITLE,
            calling_ae_title=calling,
            presentation_contexts=tuple(
                PresentationContextRQ(2 * i + 1, sop_class, tuple(transfer.split("|")))
                for i, (sop_class, transfer) in enumerate(proposed)
            ),
            user_information=UserInformation(
                max_pdu_length,
                "2.25.1",
                "TESTER",
                role_selections=roles,
                extended_negotiations=(ExtendedNegotiation(model, b"\1"),) if is_relational else (),
            ),
        )
        self.socket.sendall(request.encode())
        kind, body = self.pdu()
        assert kind == 2, f"PDU type {kind}"
        self.accept = AAssociateAC.decode(body)

    def pdu(self) -> tuple[int, bytes]:
        """Receive a PDU; type 0 when the peer has closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                piece = self.socket.recv(min(count - len(data), 1 << 20))
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return bytes(data)

    def send(self, command: Command, data_set: bytes = b"", *, context_id: int = 1) -> None:
        """Send a message."""
        data = pdv(encode_command(command), context_id=context_id, is_command=True)
        self.socket.sendall(data + (pdv(data_set, context_id=context_id) if data_set else b""))

    def begin_get(self, what: bytes) -> None:
        """Send the C-GET request."""
        self.send(CGetRQ(message_id=7, affected_sop_class_uid=self.model, has_data_set=True), what)

    def begin_move(self, what: bytes, destination: str) -> None:
        """Send the C-MOVE request."""
        request = CMoveRQ(
            message_id=7, affected_sop_class_uid=self.model, move_destination=destination, has_data_set=True
        )
        self.send(request, what)

    def get(self, what: bytes, **more: Any) -> Retrieved:
        """Retrieve by C-GET."""
        self.begin_get(what)
        return self.follow(**more)

    def move(self, what: bytes, destination: str, **more: Any) -> Retrieved:
        """Retrieve by C-MOVE."""
        self.begin_move(what, destination)
        return self.follow(**more)

    def cancel(self) -> None:
        """Send C-CANCEL."""
        self.send(CCancelRQ(message_id_being_responded_to=7))

    def follow(
        self,
        *,
        status_of: Callable[[CStoreRQ], int] = lambda _: 0,
        stop_after: int | None = None,
        cancel_after: int | None = None,
        keeps: bool = True,
    ) -> Retrieved:
        """
        Take what comes up to the final response.

        Args:
            stop_after: as many objects; then nothing is read any more, and nothing answered.
            cancel_after: as many pending responses.
        """
        result = Retrieved()
        request: CStoreRQ | None = None
        pieces: list[bytes] = []
        heads: list[bytes] = []
        while True:
            kind, body = self.pdu()
            if kind != 4:
                return result
            context_id, control = body[4], body[5]
            if not control & 1:
                pieces.append(body[6:] if keeps or request is None else b"")
                if control & 2:
                    if request is None:
                        result.failed_uids = _failed_uids(b"".join(pieces))
                        return result
                    result.requests.append(request)
                    result.data_sets[request.affected_sop_instance_uid] = b"".join(pieces)
                    self.send(request.response(status_of(request)), context_id=context_id)
                    request, pieces = None, []
                continue
            heads.append(body[6:])
            if not control & 2:
                continue
            command = decode_command(b"".join(heads))
            heads = []
            if isinstance(command, CStoreRQ):
                if stop_after is not None and len(result.requests) >= stop_after:
                    return result
                request = command
                assert request.affected_sop_class_uid == self.sop_class_of[context_id]
                continue
            assert isinstance(command, CGetRSP | CMoveRSP)
            if command.status == PENDING:
                result.pending.append(command)
                result.pending_times_s.append(time.monotonic())
                if len(result.pending) == cancel_after:
                    self.cancel()
                continue
            result.final = command
            if not command.has_data_set:
                return result

    def release(self) -> None:
        """End the association in order."""
        self.socket.sendall(AReleaseRQ().encode())
        kind, _ = self.pdu()
        assert kind == 6, f"PDU type {kind} instead of A-RELEASE-RP"
        self.socket.close()


def _failed_uids(data_set: bytes) -> list[str]:
    group, tag, vr, length = struct.unpack_from("<HH2sH", data_set)
    assert (group, tag, vr) == (0x0008, 0x0058, b"UI")
    return data_set[8 : 8 + length].rstrip(b"\0").decode().split("\\")


@contextmanager
def storescp(directory: Path, port: int, *options: str, title: str = "DEST") -> Iterator[None]:
    """Run DCMTK's storescp until it is left."""
    directory.mkdir(exist_ok=True)
    with (directory.parent / f"{directory.name}.txt").open("wb") as output:
        process = subprocess.Popen(
            ["storescp", "--fork", *options, "-aet", title, "-od", str(directory), str(port)],
            env=clean_environment(),
            stdout=output,
            stderr=output,
        )
    try:
        wait_for_port(port)
        yield
    finally:
        process.kill()
        process.wait()


def wait_for_port(port: int) -> None:
    """Wait until somebody listens."""
    deadline_s = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline_s, "nobody listens"
            time.sleep(0.02)
        else:
            return


@contextmanager
def pynetdicom_scp(
    port: int, store: Callable[[Any], int], *sop_classes: str, transfer_syntax: str = EXPLICIT
) -> Iterator[Any]:
    """Run a storage SCP of pynetdicom that answers what `store` gives."""
    entity = AE(ae_title="DEST")
    for sop_class in sop_classes:
        entity.add_supported_context(sop_class, transfer_syntax)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    try:
        yield server
    finally:
        server.shutdown()


@contextmanager
def silent_listener() -> Iterator[int]:
    """Give a port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def full_listener() -> Iterator[int]:
    """Give a port where connections are never taken: its queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for one in waiting:
            one.close()


@contextmanager
def deaf_scp(says: bytes = b"") -> Iterator[int]:
    """Give a port where every context is accepted, and nothing is read any more then; `says` behind the first byte."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            accepted.append(connection)
            head = connection.recv(6, socket.MSG_WAITALL)
            body = connection.recv(int.from_bytes(head[2:6], "big"), socket.MSG_WAITALL)
            request = AAssociateRQ.decode(body)
            answer = AAssociateAC(
                called_ae_title=request.called_ae_title,
                calling_ae_title=request.calling_ae_title,
                presentation_contexts=tuple(
                    PresentationContextAC(context.id, 0, context.transfer_syntaxes[0])
                    for context in request.presentation_contexts
                ),
                user_information=UserInformation(16384, "2.25.1", "DEAF"),
            )
            connection.sendall(answer.encode())
            if says:
                connection.recv(1)
                connection.sendall(says)

    accepted: list[socket.socket] = []
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(10)
    for connection in accepted:
        connection.close()


def final(result: Retrieved) -> Response:
    """Give the final response, which must have come."""
    assert result.final is not None
    return result.final
