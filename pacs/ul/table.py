"""
The Upper Layer protocol machine as data: PS3.8 Table 9-10, its states (9.2.1), events and actions (9.2.2).

Names of states and actions are the standard's; an empty cell of the table is absent here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final, NamedTuple


class State(IntEnum):
    """The states of PS3.8 Tables 9-1 to 9-5."""

    STA1 = 1  # idle
    STA2 = 2  # transport connection open, awaiting A-ASSOCIATE-RQ
    STA3 = 3  # awaiting local A-ASSOCIATE response
    STA4 = 4  # awaiting transport connection opening to complete
    STA5 = 5  # awaiting A-ASSOCIATE-AC or -RJ
    STA6 = 6  # association established, ready for data transfer
    STA7 = 7  # awaiting A-RELEASE-RP
    STA8 = 8  # awaiting local A-RELEASE response
    STA9 = 9  # release collision, requestor: awaiting local A-RELEASE response
    STA10 = 10  # release collision, acceptor: awaiting A-RELEASE-RP
    STA11 = 11  # release collision, requestor: awaiting A-RELEASE-RP
    STA12 = 12  # release collision, acceptor: awaiting local A-RELEASE response
    STA13 = 13  # awaiting transport connection close


class Event(IntEnum):
    """The events of PS3.8 Table 9-10, Evt1 to Evt19."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONNECT_CONFIRMATION = 2
    ASSOCIATE_AC_RECEIVED = 3
    ASSOCIATE_RJ_RECEIVED = 4
    TRANSPORT_CONNECT_INDICATION = 5
    ASSOCIATE_RQ_RECEIVED = 6
    ASSOCIATE_RESPONSE_ACCEPT = 7
    ASSOCIATE_RESPONSE_REJECT = 8
    DATA_REQUEST = 9
    DATA_TF_RECEIVED = 10
    RELEASE_REQUEST = 11
    RELEASE_RQ_RECEIVED = 12
    RELEASE_RP_RECEIVED = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    ABORT_RECEIVED = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU_RECEIVED = 19


class Action(Enum):
    """The actions of PS3.8 Tables 9-6 to 9-9."""

    __hash__ = object.__hash__  # of Enum it is a function in Python

    AE_1 = "AE-1"
    AE_2 = "AE-2"
    AE_3 = "AE-3"
    AE_4 = "AE-4"
    AE_5 = "AE-5"
    AE_6 = "AE-6"
    AE_7 = "AE-7"
    AE_8 = "AE-8"
    DT_1 = "DT-1"
    DT_2 = "DT-2"
    AR_1 = "AR-1"
    AR_2 = "AR-2"
    AR_3 = "AR-3"
    AR_4 = "AR-4"
    AR_5 = "AR-5"
    AR_6 = "AR-6"
    AR_7 = "AR-7"
    AR_8 = "AR-8"
    AR_9 = "AR-9"
    AR_10 = "AR-10"
    AA_1 = "AA-1"
    AA_2 = "AA-2"
    AA_3 = "AA-3"
    AA_4 = "AA-4"
    AA_5 = "AA-5"
    AA_6 = "AA-6"
    AA_7 = "AA-7"
    AA_8 = "AA-8"


class Transition(NamedTuple):
    """A cell of the table: what to do, and the state or states that it may lead to."""

    action: Action
    next_states: tuple[State, ...]


_E, _S, _A = Event, State, Action

TRANSITIONS: Final[Mapping[tuple[Event, State], Transition]] = {
    # Evt1: A-ASSOCIATE request (local user)
    (_E.ASSOCIATE_REQUEST, _S.STA1): Transition(_A.AE_1, (_S.STA4,)),
    # Evt2: Transport connect confirmation (local transport service)
    (_E.TRANSPORT_CONNECT_CONFIRMATION, _S.STA4): Transition(_A.AE_2, (_S.STA5,)),
    # Evt3: A-ASSOCIATE-AC PDU (received on transport connection)
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA2): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA3): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA5): Transition(_A.AE_3, (_S.STA6,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA6): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA7): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA8): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA9): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA10): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA11): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA12): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_AC_RECEIVED, _S.STA13): Transition(_A.AA_6, (_S.STA13,)),
    # Evt4: A-ASSOCIATE-RJ PDU (received on transport connection)
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA2): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA3): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA5): Transition(_A.AE_4, (_S.STA1,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA6): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA7): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA8): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA9): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA10): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA11): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA12): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RJ_RECEIVED, _S.STA13): Transition(_A.AA_6, (_S.STA13,)),
    # Evt5: Transport connection indication (local transport service)
    (_E.TRANSPORT_CONNECT_INDICATION, _S.STA1): Transition(_A.AE_5, (_S.STA2,)),
    # Evt6: A-ASSOCIATE-RQ PDU (on transport connection)
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA2): Transition(_A.AE_6, (_S.STA3, _S.STA13)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA3): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA5): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA6): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA7): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA8): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA9): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA10): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA11): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA12): Transition(_A.AA_8, (_S.STA13,)),
    (_E.ASSOCIATE_RQ_RECEIVED, _S.STA13): Transition(_A.AA_7, (_S.STA13,)),
    # Evt7: A-ASSOCIATE response primitive (accept)
    (_E.ASSOCIATE_RESPONSE_ACCEPT, _S.STA3): Transition(_A.AE_7, (_S.STA6,)),
    # Evt8: A-ASSOCIATE response primitive (reject)
    (_E.ASSOCIATE_RESPONSE_REJECT, _S.STA3): Transition(_A.AE_8, (_S.STA13,)),
    # Evt9: P-DATA request primitive
    (_E.DATA_REQUEST, _S.STA6): Transition(_A.DT_1, (_S.STA6,)),
    (_E.DATA_REQUEST, _S.STA8): Transition(_A.AR_7, (_S.STA8,)),
    # Evt10: P-DATA-TF PDU (on transport connection)
    (_E.DATA_TF_RECEIVED, _S.STA2): Transition(_A.AA_1, (_S.STA13,)),
    (_E.DATA_TF_RECEIVED, _S.STA3): Transition(_A.AA_8, (_S.STA13,)),
    (_E.DATA_TF_RECEIVED, _S.STA5): Transition(_A.AA_8, (_S.STA13,)),
    (_E.DATA_TF_RECEIVED, _S.STA6): Transition(_A.DT_2, (_S.STA6,)),
    (_E.DATA_TF_RECEIVED, _S.STA7): Transition(_A.AR_6, (_S.STA7,)),
    (_E.DATA_TF_RECEIVED, _S.STA8): Transition(_A.AA_8, (_S.STA13,)),
    (_E.DATA_TF_RECEIVED, _S.STA9): Transition(_A.AA_8, (_S.STA13,)),
    (_E.DATA_TF_RECEIVED, _S.STA10): Transition(_A.AA_8, (_S.STA13,)),
    (_E.DATA_TF_RECEIVED, _S.STA11): Transition(_A.AA_8, (_S.STA13,)),
    (_E.DATA_TF_RECEIVED, _S.STA12): Transition(_A.AA_8, (_S.STA13,)),
    (_E.DATA_TF_RECEIVED, _S.STA13): Transition(_A.AA_6, (_S.STA13,)),
    # Evt11: A-RELEASE request primitive
    (_E.RELEASE_REQUEST, _S.STA6): Transition(_A.AR_1, (_S.STA7,)),
    # Evt12: A-RELEASE-RQ PDU (on transport)
    (_E.RELEASE_RQ_RECEIVED, _S.STA2): Transition(_A.AA_1, (_S.STA13,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA3): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA5): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA6): Transition(_A.AR_2, (_S.STA8,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA7): Transition(_A.AR_8, (_S.STA9, _S.STA10)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA8): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA9): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA10): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA11): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA12): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RQ_RECEIVED, _S.STA13): Transition(_A.AA_6, (_S.STA13,)),
    # Evt13: A-RELEASE-RP PDU (on transport)
    (_E.RELEASE_RP_RECEIVED, _S.STA2): Transition(_A.AA_1, (_S.STA13,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA3): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA5): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA6): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA7): Transition(_A.AR_3, (_S.STA1,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA8): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA9): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA10): Transition(_A.AR_10, (_S.STA12,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA11): Transition(_A.AR_3, (_S.STA1,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA12): Transition(_A.AA_8, (_S.STA13,)),
    (_E.RELEASE_RP_RECEIVED, _S.STA13): Transition(_A.AA_6, (_S.STA13,)),
    # Evt14: A-RELEASE response primitive
    (_E.RELEASE_RESPONSE, _S.STA8): Transition(_A.AR_4, (_S.STA13,)),
    (_E.RELEASE_RESPONSE, _S.STA9): Transition(_A.AR_9, (_S.STA11,)),
    (_E.RELEASE_RESPONSE, _S.STA12): Transition(_A.AR_4, (_S.STA13,)),
    # Evt15: A-ABORT request primitive
    (_E.ABORT_REQUEST, _S.STA3): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ABORT_REQUEST, _S.STA4): Transition(_A.AA_2, (_S.STA1,)),
    (_E.ABORT_REQUEST, _S.STA5): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ABORT_REQUEST, _S.STA6): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ABORT_REQUEST, _S.STA7): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ABORT_REQUEST, _S.STA8): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ABORT_REQUEST, _S.STA9): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ABORT_REQUEST, _S.STA10): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ABORT_REQUEST, _S.STA11): Transition(_A.AA_1, (_S.STA13,)),
    (_E.ABORT_REQUEST, _S.STA12): Transition(_A.AA_1, (_S.STA13,)),
    # Evt16: A-ABORT PDU (on transport)
    (_E.ABORT_RECEIVED, _S.STA2): Transition(_A.AA_2, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA3): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA5): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA6): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA7): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA8): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA9): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA10): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA11): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA12): Transition(_A.AA_3, (_S.STA1,)),
    (_E.ABORT_RECEIVED, _S.STA13): Transition(_A.AA_2, (_S.STA1,)),
    # Evt17: Transport connection closed indication (local transport service)
    (_E.TRANSPORT_CLOSED, _S.STA2): Transition(_A.AA_5, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA3): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA4): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA5): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA6): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA7): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA8): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA9): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA10): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA11): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA12): Transition(_A.AA_4, (_S.STA1,)),
    (_E.TRANSPORT_CLOSED, _S.STA13): Transition(_A.AR_5, (_S.STA1,)),
    # Evt18: ARTIM timer expired (Association reject/release timer)
    (_E.ARTIM_EXPIRED, _S.STA2): Transition(_A.AA_2, (_S.STA1,)),
    (_E.ARTIM_EXPIRED, _S.STA13): Transition(_A.AA_2, (_S.STA1,)),
    # Evt19: Unrecognized or invalid PDU received
    (_E.INVALID_PDU_RECEIVED, _S.STA2): Transition(_A.AA_1, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA3): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA5): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA6): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA7): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA8): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA9): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA10): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA11): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA12): Transition(_A.AA_8, (_S.STA13,)),
    (_E.INVALID_PDU_RECEIVED, _S.STA13): Transition(_A.AA_7, (_S.STA13,)),
}
