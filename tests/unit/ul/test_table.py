"""
The state machine is PS3.8 Table 9-10, cell by cell, and the provider does what the table says.
"""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import pytest

from pacs.ul import (
    TRANSITIONS,
    AAbort,
    AAssociateAC,
    AAssociateRJ,
    AAssociateRQ,
    AReleaseRP,
    AReleaseRQ,
    Event,
    Limits,
    PresentationContextAC,
    PresentationContextRQ,
    Role,
    State,
    UpperLayer,
    UserInformation,
)

TABLE = Path(__file__).parent / "ps3_8_table_9_10.csv"
CELLS = [
    (Event(int(row["event"].removeprefix("Evt"))), State(number), row[f"Sta{number}"])
    for row in csv.DictReader(TABLE.open())
    for number in range(1, 14)
]
REQUEST = AAssociateRQ(
    "CALLED",
    "CALLING",
    (PresentationContextRQ(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),),
    UserInformation(0, "1.2"),
)
ACCEPT = AAssociateAC(
    "CALLED", "CALLING", (PresentationContextAC(1, 0, "1.2.840.10008.1.2"),), UserInformation(0, "1.2")
)
DATA = struct.pack(">BxLLBB", 4, 8, 4, 1, 3) + b"ab"


def test_the_table_has_247_cells() -> None:
    assert len(CELLS) == 19 * 13


@pytest.mark.parametrize(("event", "state", "cell"), CELLS)
def test_each_cell_of_the_standards_table_is_ours(event: Event, state: State, cell: str) -> None:
    transition = TRANSITIONS.get((event, state))
    if not cell:
        assert transition is None
        return
    action, _, states = cell.partition(">")
    assert transition is not None
    assert transition.action.value == action
    expected = [State(int(name.removeprefix("Sta"))) for name in states.split("|")]
    assert list(transition.next_states) == expected


def cause(layer: UpperLayer, event: Event) -> None:
    """Make an event happen."""
    received = {
        Event.ASSOCIATE_AC_RECEIVED: ACCEPT.encode(),
        Event.ASSOCIATE_RJ_RECEIVED: AAssociateRJ(1, 1, 1).encode(),
        Event.ASSOCIATE_RQ_RECEIVED: REQUEST.encode(),
        Event.DATA_TF_RECEIVED: DATA,
        Event.RELEASE_RQ_RECEIVED: AReleaseRQ().encode(),
        Event.RELEASE_RP_RECEIVED: AReleaseRP().encode(),
        Event.ABORT_RECEIVED: AAbort(0, 0).encode(),
        Event.INVALID_PDU_RECEIVED: b"\x99" + bytes(9),
    }
    if event in received:
        layer.receive_data(received[event])
        return
    {
        Event.ASSOCIATE_REQUEST: lambda: layer.associate(REQUEST),
        Event.TRANSPORT_CONNECT_CONFIRMATION: layer.transport_opened,
        Event.TRANSPORT_CONNECT_INDICATION: layer.transport_opened,
        Event.ASSOCIATE_RESPONSE_ACCEPT: lambda: layer.accept(ACCEPT),
        Event.ASSOCIATE_RESPONSE_REJECT: lambda: layer.reject(1, 1, 1),
        Event.DATA_REQUEST: lambda: layer.send_data(DATA),
        Event.RELEASE_REQUEST: layer.release,
        Event.RELEASE_RESPONSE: layer.respond_release,
        Event.ABORT_REQUEST: layer.abort,
        Event.TRANSPORT_CLOSED: layer.transport_closed,
        Event.ARTIM_EXPIRED: layer.artim_expired,
    }[event]()


@pytest.mark.parametrize(("event", "state"), [(event, state) for event, state, cell in CELLS if cell])
def test_the_provider_goes_where_the_table_says(event: Event, state: State) -> None:
    is_ours = event in (Event.ASSOCIATE_REQUEST, Event.TRANSPORT_CONNECT_CONFIRMATION)
    layer = UpperLayer(role=Role.REQUESTOR if is_ours else Role.ACCEPTOR, limits=Limits())
    layer._request = REQUEST
    layer.state = state
    cause(layer, event)
    assert layer.state in TRANSITIONS[event, state].next_states
