"""
From received bytes to PDUs, whatever their split (PS3.8 9.3).

P-DATA-TF is streamed: each of its presentation data values is handed on as views of the received bytes, so a PDU
costs no memory, however long. The other PDUs are short and are decoded whole. A length field is checked before
anything else happens, and allocates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, Protocol

from pacs.ul.errors import REASON_UNRECOGNIZED_PDU, RemoteProtocolError
from pacs.ul.indications import DataFragment, Indication
from pacs.ul.limits import Limits
from pacs.ul.pdu import (
    FIXED_BODY_BYTES,
    PDU,
    PDU_HEADER_BYTES,
    TYPE_ABORT,
    TYPE_ASSOCIATE_AC,
    TYPE_ASSOCIATE_RJ,
    TYPE_ASSOCIATE_RQ,
    TYPE_DATA_TF,
    TYPE_RELEASE_RP,
    TYPE_RELEASE_RQ,
    AAbort,
    AAssociateAC,
    AAssociateRJ,
    AAssociateRQ,
    AReleaseRP,
    AReleaseRQ,
)

PDV_HEADER_BYTES: Final = 6  # 32-bit length, presentation context id, message control header
TLS_HANDSHAKE: Final = 0x16  # the first byte of a client that expects TLS
_PDV_CONTROL_BYTES: Final = 2  # the part of the header that the length counts
_PDV_LENGTH_BYTES: Final = 4

_PDU_HEADER: Final = Struct(">BxL")
_PDV_HEADER: Final = Struct(">LBB")
_BOTH_HEADERS: Final = Struct(">BxLLBB")  # of a P-DATA-TF and of its first presentation data value
_new_fragment: Final = tuple.__new__  # a third of what the class itself takes

_DECODERS: Final[Mapping[int, Callable[[bytes], PDU]]] = {
    TYPE_ASSOCIATE_RQ: AAssociateRQ.decode,
    TYPE_ASSOCIATE_AC: AAssociateAC.decode,
    TYPE_ASSOCIATE_RJ: AAssociateRJ.decode,
    TYPE_RELEASE_RQ: AReleaseRQ.decode,
    TYPE_RELEASE_RP: AReleaseRP.decode,
    TYPE_ABORT: AAbort.decode,
}


class PDUSink(Protocol):
    """Who is told what the reader finds, in order."""

    def data_tf_begins(self) -> bool:
        """A P-DATA-TF PDU begins; tell whether its fragments are wanted."""

    def pdu_received(self, pdu: PDU) -> None:
        """Another PDU is complete."""


class PDUReader:
    """Reads the PDUs of one connection; knows nobody, so that nothing of a connection outlives it in a circle."""

    __slots__ = ("_body", "_body_length", "_head", "_is_wanted", "_limits", "_pdu_left", "_pdu_type", "_pdv")

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits
        self._head = b""  # the beginning of a PDU or PDV header whose rest has not come
        self._pdu_left = 0  # bytes of the current P-DATA-TF behind what was read
        self._is_wanted = True
        self._pdv = (0, 0, 0)  # bytes left, presentation context id, message control header of a PDV in progress
        self._pdu_type = 0  # of another PDU whose body is being gathered
        self._body = bytearray()
        self._body_length = 0

    @property
    def is_in_pdu(self) -> bool:
        """Some of a PDU has come, and not all of it."""
        return bool(self._pdu_left or self._pdu_type or self._head or self._pdv[0])

    def read(self, data: bytes | memoryview, indications: list[Indication], sink: PDUSink) -> None:
        """
        Read what was received; add fragments to `indications`, give other PDUs to `sink`.

        Raises:
            RemoteProtocolError: nothing after it can be read any more.
        """
        view = memoryview(data)
        position, end = 0, len(view)
        while position < end:
            if self._pdv[0]:
                position = self._read_pdv(view, position, end, indications)
            elif self._pdu_left:
                position = self._read_pdv_header(view, position, end, indications)
            elif self._pdu_type:
                position = self._read_body(view, position, end, sink)
            else:
                after = 0 if self._head else self._read_usual_pdu(view, position, end, indications, sink)
                position = after or self._read_pdu_header(view, position, end, sink)

    def _read_usual_pdu(
        self, view: memoryview, position: int, end: int, indications: list[Indication], sink: PDUSink
    ) -> int:
        """Take a P-DATA-TF of one presentation data value that has come whole; give the position behind it, else 0."""
        if end - position < _BOTH_HEADERS.size:
            return 0
        pdu_type, length, value_length, context_id, control = _BOTH_HEADERS.unpack_from(view, position)
        after: int = position + PDU_HEADER_BYTES + length
        if (
            pdu_type != TYPE_DATA_TF
            or length != value_length + _PDV_LENGTH_BYTES
            or value_length < _PDV_CONTROL_BYTES
            or length > self._limits.max_pdu_length
            or after > end
        ):
            return 0
        if sink.data_tf_begins():
            value = view[position + _BOTH_HEADERS.size : after]
            indications.append(_new_fragment(DataFragment, (context_id, control & 1 == 1, control & 2 == 2, value)))
        return after

    def _header(self, view: memoryview, position: int, end: int) -> tuple[bytes | memoryview | None, int]:
        """Give the 6 bytes of a header and the position behind them, or None when some are still to come."""
        if not self._head:
            if end - position >= PDU_HEADER_BYTES:
                return view[position : position + PDU_HEADER_BYTES], position + PDU_HEADER_BYTES
            self._head = bytes(view[position:end])
            return None, end
        missing = PDU_HEADER_BYTES - len(self._head)
        head = self._head + view[position : position + missing]
        if len(head) < PDU_HEADER_BYTES:
            self._head = head
            return None, end
        self._head = b""
        return head, position + missing

    def _read_pdu_header(self, view: memoryview, position: int, end: int, sink: PDUSink) -> int:
        header, position = self._header(view, position, end)
        if header is None:
            return position
        pdu_type, length = _PDU_HEADER.unpack(header)
        if pdu_type == TYPE_DATA_TF:
            if length > self._limits.max_pdu_length:
                raise RemoteProtocolError(f"P-DATA-TF of {length} bytes, {self._limits.max_pdu_length} were announced")
            if length < PDV_HEADER_BYTES:
                raise RemoteProtocolError(f"P-DATA-TF of {length} bytes has no presentation data value")
            self._is_wanted = sink.data_tf_begins()
            self._pdu_left = length
            return position
        self._check_length(pdu_type, length)
        self._pdu_type = pdu_type
        self._body_length = length
        return position

    def _check_length(self, pdu_type: int, length: int) -> None:
        if pdu_type in (TYPE_ASSOCIATE_RQ, TYPE_ASSOCIATE_AC):
            if length > self._limits.associate_pdu_bytes:
                raise RemoteProtocolError(
                    f"A-ASSOCIATE PDU of {length} bytes, the limit is {self._limits.associate_pdu_bytes}"
                )
            if length == 0:
                raise RemoteProtocolError("empty A-ASSOCIATE PDU")
        elif pdu_type not in _DECODERS:
            hint = ", a TLS handshake; this port is without TLS" if pdu_type == TLS_HANDSHAKE else ""
            raise RemoteProtocolError(f"unrecognized PDU type {pdu_type:02X}H{hint}", reason=REASON_UNRECOGNIZED_PDU)
        elif length != FIXED_BODY_BYTES:
            raise RemoteProtocolError(f"PDU of type {pdu_type:02X}H with {length} bytes instead of {FIXED_BODY_BYTES}")

    def _read_body(self, view: memoryview, position: int, end: int, sink: PDUSink) -> int:
        pdu_type = self._pdu_type
        if not self._body and end - position >= self._body_length:
            stop = position + self._body_length
            body = bytes(view[position:stop])
        else:
            stop = min(end, position + self._body_length - len(self._body))
            self._body += view[position:stop]
            if len(self._body) < self._body_length:
                return stop
            body, self._body = bytes(self._body), bytearray()
        self._pdu_type = 0
        sink.pdu_received(_DECODERS[pdu_type](body))
        return stop

    def _read_pdv_header(self, view: memoryview, position: int, end: int, indications: list[Indication]) -> int:
        header, position = self._header(view, position, end)
        if header is None:
            return position
        length, context_id, control = _PDV_HEADER.unpack(header)
        left = self._pdu_left - PDV_HEADER_BYTES
        value_length = length - _PDV_CONTROL_BYTES
        if left < 0 or value_length < 0 or value_length > left:
            raise RemoteProtocolError(
                f"presentation data value of {length} bytes in the last {self._pdu_left} bytes of a P-DATA-TF"
            )
        if 0 < left - value_length < PDV_HEADER_BYTES:
            raise RemoteProtocolError("stray bytes after the last presentation data value of a P-DATA-TF")
        self._pdu_left = left - value_length
        stop: int = position + value_length
        if stop <= end:
            if self._is_wanted:
                indications.append(DataFragment(context_id, control & 1 == 1, control & 2 == 2, view[position:stop]))
            return stop
        self._pdv = (value_length, context_id, control)
        return position

    def _read_pdv(self, view: memoryview, position: int, end: int, indications: list[Indication]) -> int:
        left, context_id, control = self._pdv
        stop = min(end, position + left)
        left -= stop - position
        self._pdv = (left, context_id, control)
        if self._is_wanted:
            is_last = left == 0 and control & 2 == 2
            indications.append(DataFragment(context_id, control & 1 == 1, is_last, view[position:stop]))
        return stop
