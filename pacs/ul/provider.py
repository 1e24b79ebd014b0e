"""
The DICOM Upper Layer state machine, PS3.8 9.2.

`UpperLayer` turns received bytes into indications, and requests into bytes to send. It owns no socket and no clock:
it asks for the ARTIM timer with `StartARTIM`, and its user reports `artim_expired()`. The table that it walks is
`pacs.ul.table`; `docs/diagrams/upper_layer.dot` is drawn from the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from pacs.ul.errors import (
    REASON_NOT_SPECIFIED,
    REASON_UNEXPECTED_PDU,
    SOURCE_SERVICE_PROVIDER,
    SOURCE_SERVICE_USER,
    LocalProtocolError,
    RemoteProtocolError,
)
from pacs.ul.indications import (
    AbortIndication,
    AssociateConfirmation,
    AssociateIndication,
    AssociateRejection,
    CloseTransport,
    Indication,
    OpenTransport,
    ProviderAbortIndication,
    ReleaseConfirmation,
    ReleaseIndication,
    StartARTIM,
    StopARTIM,
)
from pacs.ul.limits import Limits
from pacs.ul.pdu import PDU, AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRP, AReleaseRQ
from pacs.ul.reader import PDUReader
from pacs.ul.table import TRANSITIONS, Action, Event, State

REJECTED_PERMANENT: Final = 1
REJECTION_SOURCE_ACSE: Final = 2
REJECTION_REASON_PROTOCOL_VERSION: Final = 2

_EVENT_OF_PDU: Final[Mapping[type[PDU], Event]] = {
    AAssociateRQ: Event.ASSOCIATE_RQ_RECEIVED,
    AAssociateAC: Event.ASSOCIATE_AC_RECEIVED,
    AAssociateRJ: Event.ASSOCIATE_RJ_RECEIVED,
    AReleaseRQ: Event.RELEASE_RQ_RECEIVED,
    AReleaseRP: Event.RELEASE_RP_RECEIVED,
    AAbort: Event.ABORT_RECEIVED,
}


class Role(Enum):
    """Who opened the association."""

    ACCEPTOR = "acceptor"
    REQUESTOR = "requestor"


class UpperLayer:
    """
    One connection of the Upper Layer.

    Its methods are the request and response primitives of PS3.8 section 7 and the transport's reports. Each gives
    the indications that follow, in order; bytes for the peer wait in `data_to_send`.

    Attributes:
        state: PS3.8 9.2.1.
        output: what waits for the peer, to be taken by `data_to_send`.

    Raises:
        LocalProtocolError: from a primitive that the state does not allow.
    """

    def __init__(self, *, role: Role, limits: Limits) -> None:
        self.role = role
        self.state = State.STA1
        self._reader = PDUReader(limits=limits)
        self.output: list[bytes] = []
        self._indications: list[Indication] = []
        self._request: AAssociateRQ | None = None
        self._is_unreadable = False

    # -- the transport's reports

    def transport_opened(self) -> list[Indication]:
        """The transport connection is open."""
        if self.role is Role.ACCEPTOR:
            return self._handle(Event.TRANSPORT_CONNECT_INDICATION)
        return self._handle(Event.TRANSPORT_CONNECT_CONFIRMATION)

    def transport_closed(self) -> list[Indication]:
        """The transport connection is gone, whoever closed it."""
        if self.state is State.STA1:
            return []
        return self._handle(Event.TRANSPORT_CLOSED)

    def artim_expired(self) -> list[Indication]:
        """The time that `StartARTIM` asked for is over."""
        if (Event.ARTIM_EXPIRED, self.state) not in TRANSITIONS:
            return []  # it expired while it was being stopped
        return self._handle(Event.ARTIM_EXPIRED)

    def receive_data(self, data: bytes | memoryview) -> list[Indication]:
        """Take bytes of the peer; whatever they are, no exception comes of them."""
        if self.state is State.STA1 or self._is_unreadable:
            return []
        try:
            self._reader.read(data, self._indications, self)
        except RemoteProtocolError as error:
            self._is_unreadable = True
            self._fire(Event.INVALID_PDU_RECEIVED, error.with_traceback(None))  # it holds what was read
        return self._taken()

    @property
    def is_in_pdu(self) -> bool:
        """A PDU has begun, and something of it is still to come."""
        return self._reader.is_in_pdu

    def data_to_send(self) -> bytes:
        """Give the bytes that wait for the peer, once."""
        output = self.output
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return data

    # -- the primitives of PS3.8 section 7

    def associate(self, request: AAssociateRQ) -> list[Indication]:
        """A-ASSOCIATE request; the PDU goes out when the transport is open."""
        self._request = request
        return self._handle(Event.ASSOCIATE_REQUEST)

    def accept(self, response: AAssociateAC) -> list[Indication]:
        """A-ASSOCIATE response, accepting."""
        return self._handle(Event.ASSOCIATE_RESPONSE_ACCEPT, response)

    def reject(self, result: int, source: int, reason: int) -> list[Indication]:
        """A-ASSOCIATE response, rejecting."""
        return self._handle(Event.ASSOCIATE_RESPONSE_REJECT, AAssociateRJ(result, source, reason))

    def send_data(self, pdus: bytes) -> list[Indication]:
        """P-DATA request: send encoded P-DATA-TF PDUs."""
        if self.state is State.STA6:  # DT-1, the common case
            self.output.append(pdus)
            return []
        return self._handle(Event.DATA_REQUEST, pdus)

    def release(self) -> list[Indication]:
        """A-RELEASE request."""
        return self._handle(Event.RELEASE_REQUEST)

    def respond_release(self) -> list[Indication]:
        """A-RELEASE response."""
        return self._handle(Event.RELEASE_RESPONSE)

    def abort(self, source: int = SOURCE_SERVICE_USER, reason: int = REASON_NOT_SPECIFIED) -> list[Indication]:
        """A-ABORT request; the source is the service-provider's when the server itself ends the association."""
        return self._handle(Event.ABORT_REQUEST, AAbort(source, reason))

    # -- the reader's side

    def data_tf_begins(self) -> bool:
        """Take Evt10; tell whether the fragments are for the user."""
        if self.state is State.STA6:  # DT-2, the common case
            return True
        return self._fire(Event.DATA_TF_RECEIVED, None) is Action.AR_6

    def pdu_received(self, pdu: PDU) -> None:
        """Take the event of any other PDU."""
        self._fire(_EVENT_OF_PDU[type(pdu)], pdu)

    # -- within

    def _handle(self, event: Event, argument: object = None) -> list[Indication]:
        self._fire(event, argument)
        return self._taken()

    def _taken(self) -> list[Indication]:
        indications, self._indications = self._indications, []
        return indications

    def _fire(self, event: Event, argument: object) -> Action:
        transition = TRANSITIONS.get((event, self.state))
        if transition is None:
            raise LocalProtocolError(f"{event.name} in {self.state.name}")
        next_state = transition.next_states[0]
        chosen = _ACTIONS[transition.action](self, argument)
        self.state = next_state if chosen is None else chosen
        return transition.action

    def _indicate(self, *indications: Indication) -> None:
        self._indications.extend(indications)

    def _ae_1(self, _: object) -> None:
        self._indicate(OpenTransport())

    def _ae_2(self, _: object) -> None:
        if self._request is None:
            raise LocalProtocolError("the transport was opened before A-ASSOCIATE was requested")
        self.output.append(self._request.encode())

    def _ae_3(self, pdu: object) -> None:
        assert isinstance(pdu, AAssociateAC)
        self._indicate(AssociateConfirmation(pdu))

    def _ae_4(self, pdu: object) -> None:
        assert isinstance(pdu, AAssociateRJ)
        self._indicate(AssociateRejection(pdu.result, pdu.source, pdu.reason), CloseTransport())

    def _ae_5(self, _: object) -> None:
        self._indicate(StartARTIM())

    def _ae_6(self, pdu: object) -> State | None:
        assert isinstance(pdu, AAssociateRQ)
        self._indicate(StopARTIM())
        if pdu.protocol_version & 1 == 0:
            rejection = AAssociateRJ(REJECTED_PERMANENT, REJECTION_SOURCE_ACSE, REJECTION_REASON_PROTOCOL_VERSION)
            self.output.append(rejection.encode())
            self._indicate(StartARTIM())
            return State.STA13
        self._indicate(AssociateIndication(pdu))
        return None

    def _send(self, pdu: object) -> None:
        assert isinstance(pdu, AAssociateAC)
        self.output.append(pdu.encode())

    def _ae_8(self, pdu: object) -> None:
        assert isinstance(pdu, AAssociateRJ)
        self.output.append(pdu.encode())
        self._indicate(StartARTIM())

    def _send_data(self, pdus: object) -> None:
        assert isinstance(pdus, bytes)
        self.output.append(pdus)

    def _nothing(self, _: object) -> None:
        """P-DATA indications are added by the reader; AA-6 and the like ignore the PDU."""

    def _ar_1(self, _: object) -> None:
        self.output.append(AReleaseRQ().encode())

    def _ar_2(self, _: object) -> None:
        self._indicate(ReleaseIndication())

    def _ar_3(self, _: object) -> None:
        self._indicate(ReleaseConfirmation(), CloseTransport())

    def _ar_4(self, _: object) -> None:
        self.output.append(AReleaseRP().encode())
        self._indicate(StartARTIM())

    def _ar_5(self, _: object) -> None:
        self._indicate(StopARTIM())

    def _ar_8(self, _: object) -> State:
        self._indicate(ReleaseIndication())
        return State.STA9 if self.role is Role.REQUESTOR else State.STA10

    def _ar_9(self, _: object) -> None:
        self.output.append(AReleaseRP().encode())

    def _ar_10(self, _: object) -> None:
        self._indicate(ReleaseConfirmation())

    def _aa_1(self, argument: object) -> None:
        abort = argument if isinstance(argument, AAbort) else AAbort(SOURCE_SERVICE_USER, REASON_NOT_SPECIFIED)
        self.output.append(abort.encode())
        self._indicate(StartARTIM())
        if not isinstance(argument, AAbort):
            self._indicate(ProviderAbortIndication(_fault_of(argument)))

    def _aa_2(self, _: object) -> None:
        self._indicate(StopARTIM(), CloseTransport())

    def _aa_3(self, pdu: object) -> None:
        assert isinstance(pdu, AAbort)
        self._indicate(AbortIndication(pdu.source, pdu.reason), CloseTransport())

    def _aa_4(self, _: object) -> None:
        self._indicate(ProviderAbortIndication(None))

    def _aa_7(self, _: object) -> None:
        self.output.append(AAbort(SOURCE_SERVICE_PROVIDER, REASON_UNEXPECTED_PDU).encode())

    def _aa_8(self, argument: object) -> None:
        error = _fault_of(argument)
        self.output.append(AAbort(error.source, error.reason).encode())
        self._indicate(ProviderAbortIndication(error), StartARTIM())


def _fault_of(argument: object) -> RemoteProtocolError:
    """Give what the peer did wrong: bytes that make no PDU, or a PDU that the state does not allow."""
    if isinstance(argument, RemoteProtocolError):
        return argument
    what = "P-DATA-TF" if argument is None else type(argument).__name__
    return RemoteProtocolError(f"unexpected {what}", reason=REASON_UNEXPECTED_PDU)


_ACTIONS: Final[Mapping[Action, Callable[[UpperLayer, object], State | None]]] = {
    Action.AE_1: UpperLayer._ae_1,
    Action.AE_2: UpperLayer._ae_2,
    Action.AE_3: UpperLayer._ae_3,
    Action.AE_4: UpperLayer._ae_4,
    Action.AE_5: UpperLayer._ae_5,
    Action.AE_6: UpperLayer._ae_6,
    Action.AE_7: UpperLayer._send,
    Action.AE_8: UpperLayer._ae_8,
    Action.DT_1: UpperLayer._send_data,
    Action.DT_2: UpperLayer._nothing,
    Action.AR_1: UpperLayer._ar_1,
    Action.AR_2: UpperLayer._ar_2,
    Action.AR_3: UpperLayer._ar_3,
    Action.AR_4: UpperLayer._ar_4,
    Action.AR_5: UpperLayer._ar_5,
    Action.AR_6: UpperLayer._nothing,
    Action.AR_7: UpperLayer._send_data,
    Action.AR_8: UpperLayer._ar_8,
    Action.AR_9: UpperLayer._ar_9,
    Action.AR_10: UpperLayer._ar_10,
    Action.AA_1: UpperLayer._aa_1,
    Action.AA_2: UpperLayer._aa_2,
    Action.AA_3: UpperLayer._aa_3,
    Action.AA_4: UpperLayer._aa_4,
    Action.AA_5: UpperLayer._ar_5,
    Action.AA_6: UpperLayer._nothing,
    Action.AA_7: UpperLayer._aa_7,
    Action.AA_8: UpperLayer._aa_8,
}
