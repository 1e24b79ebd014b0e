"""
Messages to P-DATA-TF PDUs and back (PS3.7 annex F and PS3.8 annex E).

Each presentation data value has a PDU of its own, as DCMTK sends them: a receiver that reads PDU by PDU then needs
no second look.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, Protocol

from pacs.dimse.codec import decode_command, encode_command
from pacs.dimse.errors import DIMSEProtocolError
from pacs.dimse.messages import Command

UNLIMITED_PDU_LENGTH: Final = 1 << 20  # what we send to a peer that announced 0
SMALLEST_PDU_LENGTH: Final = 64  # a peer that announces less can't be served otherwise
_PDV_OVERHEAD: Final = 6  # length, presentation context id, message control header

PDV_HEADER: Final = Struct(">BxLLBB")  # PDU type and length, item length, context id, message control header
PDV_LAST: Final = 2
_HEADER: Final = PDV_HEADER
_COMMAND: Final = 1
_LAST: Final = PDV_LAST


class Fragment(Protocol):
    """A piece of a message, as the Upper Layer gives it."""

    @property
    def context_id(self) -> int: ...

    @property
    def is_command(self) -> bool: ...

    @property
    def is_last(self) -> bool: ...

    @property
    def data(self) -> memoryview: ...


def fragment_bytes(max_pdu_length: int) -> int:
    """Give how much of a message fits into one PDU; an even number (PS3.8 9.3.5.1)."""
    length = max_pdu_length or UNLIMITED_PDU_LENGTH
    return max(SMALLEST_PDU_LENGTH, min(length, UNLIMITED_PDU_LENGTH)) - _PDV_OVERHEAD & ~1


def _pdus(context_id: int, data: bytes | memoryview, size: int, control: int, is_last: bool) -> Iterator[bytes]:
    end = len(data)
    position = 0
    while True:
        piece = data[position : position + size]
        position += size
        last = _LAST if is_last and position >= end else 0
        length = len(piece)
        yield _HEADER.pack(4, length + 6, length + 2, context_id, control | last)
        yield bytes(piece)
        if position >= end:
            return


def encode_message(context_id: int, command: Command, data_set: bytes | None, max_pdu_length: int) -> bytes:
    """
    Give a whole message as P-DATA-TF PDUs.

    Args:
        data_set: encoded in the context's transfer syntax; None when the command says that none follows.
        max_pdu_length: the peer's; 0 is unlimited.
    """
    size = fragment_bytes(max_pdu_length)
    encoded = encode_command(command)
    length = len(encoded)
    if length <= size:
        head = _HEADER.pack(4, length + 6, length + 2, context_id, _COMMAND | _LAST)
        if data_set is None:
            return head + encoded
        length = len(data_set)
        if length <= size:
            return b"".join((head, encoded, _HEADER.pack(4, length + 6, length + 2, context_id, _LAST), data_set))
    parts = list(_pdus(context_id, encoded, size, _COMMAND, True))
    if data_set is not None:
        parts += _pdus(context_id, data_set, size, 0, True)
    return b"".join(parts)


class MessageEncoder:
    """
    Encodes many messages of one command set, as the pending responses of a C-FIND are.

    Args:
        max_pdu_length: the peer's; 0 is unlimited.
    """

    def __init__(self, context_id: int, command: Command, max_pdu_length: int) -> None:
        self._context_id = context_id
        self._command = command
        self._max_pdu_length = max_pdu_length
        self._size = fragment_bytes(max_pdu_length)
        encoded = encode_command(command)
        self._head = b"".join(_pdus(context_id, encoded, self._size, _COMMAND, True))

    def before(self, length: int) -> bytes | None:
        """Give what stands before a data set of some length, or None when it does not fit into one PDU."""
        if length > self._size:
            return None
        return self._head + _HEADER.pack(4, length + 6, length + 2, self._context_id, _LAST)

    def message(self, data_set: bytes) -> bytes:
        """Give the message with one data set."""
        before = self.before(len(data_set))
        if before is None:
            return encode_message(self._context_id, self._command, data_set, self._max_pdu_length)
        return before + data_set


def encode_data_set_fragments(
    context_id: int, data: bytes | memoryview, max_pdu_length: int, *, is_last: bool
) -> Iterator[bytes]:
    """Give a part of a data set as P-DATA-TF PDUs, for one that is too large to be held."""
    return _pdus(context_id, data, fragment_bytes(max_pdu_length), 0, is_last)


class MessageReader:
    """
    Makes commands of fragments, and watches over the order of what belongs together.

    Attributes:
        expects_data_set: a data set, or the rest of one, is to come.
    """

    __slots__ = ("_command", "_context_id", "_is_in_command", "_limit_bytes", "expects_data_set")

    def __init__(self, *, command_set_bytes: int = 64 * 1024) -> None:
        self._limit_bytes = command_set_bytes
        self._command = bytearray()
        self._is_in_command = False
        self._context_id = 0
        self.expects_data_set = False

    @property
    def is_in_message(self) -> bool:
        """Something of a message has come, and something is missing."""
        return self.expects_data_set or self._is_in_command

    def receive(self, fragment: Fragment) -> Command | None:
        """
        Take a fragment; give the command that it completes. A data set's fragments remain the caller's.

        Raises:
            DIMSEProtocolError: it does not belong here; the association cannot go on.
        """
        if not fragment.is_command:
            if not self.expects_data_set:
                raise DIMSEProtocolError("data set fragment without a command that announced it")
            if fragment.context_id != self._context_id:
                raise DIMSEProtocolError("data set fragment in another presentation context than its command")
            if fragment.is_last:
                self.expects_data_set = False
            return None
        if self.expects_data_set:
            raise DIMSEProtocolError("command fragment before the end of the data set")
        if self._is_in_command:
            if fragment.context_id != self._context_id:
                raise DIMSEProtocolError("command fragments in several presentation contexts")
        elif fragment.is_last and len(fragment.data) <= self._limit_bytes:
            return self._completed(fragment.context_id, bytes(fragment.data))
        self._context_id = fragment.context_id
        self._is_in_command = True
        if len(self._command) + len(fragment.data) > self._limit_bytes:
            raise DIMSEProtocolError(f"command set of more than {self._limit_bytes} bytes")
        self._command += fragment.data
        if not fragment.is_last:
            return None
        data = bytes(self._command)
        self._command.clear()
        self._is_in_command = False
        return self._completed(fragment.context_id, data)

    def _completed(self, context_id: int, data: bytes) -> Command:
        command = decode_command(data)
        self._context_id = context_id
        self.expects_data_set = command.has_data_set
        return command
