"""
Limits are checked at the length field; malformed PDUs are the peer's error, and nothing else (PS3.8 9.3).
"""

from __future__ import annotations

import struct

import pytest
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE

from pacs.ul import (
    AAssociateRQ,
    AssociateIndication,
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    DataFragment,
    ExtendedNegotiation,
    Limits,
    PresentationContextRQ,
    ProviderAbortIndication,
    Role,
    RoleSelection,
    State,
    UpperLayer,
    UserIdentity,
    UserInformation,
)

FULL = AAssociateRQ(
    "CALLED",
    "CALLING",
    (
        PresentationContextRQ(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),
        PresentationContextRQ(3, "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")),
    ),
    UserInformation(
        16384,
        "1.2.3.4",
        "VERSION_1",
        AsynchronousOperationsWindow(5, 6),
        (RoleSelection("1.2.840.10008.5.1.4.1.1.2", True, True),),
        (ExtendedNegotiation("1.2.840.10008.5.1.4.1.2.1.1", b"\1\1"),),
        (CommonExtendedNegotiation("1.2.3", "1.2.4", ("1.2.5",)),),
        UserIdentity(2, True, b"user", b"secret"),
    ),
)


def acceptor() -> UpperLayer:
    layer = UpperLayer(role=Role.ACCEPTOR, limits=Limits())
    layer.transport_opened()
    return layer


def established() -> UpperLayer:
    layer = acceptor()
    layer.state = State.STA6
    return layer


def error_of(layer: UpperLayer, data: bytes) -> tuple[int, int]:
    """Give source and reason of the abort that the bytes lead to."""
    aborts = [i for i in layer.receive_data(data) if isinstance(i, ProviderAbortIndication)]
    assert len(aborts) == 1
    assert aborts[0].error is not None
    assert layer.state is State.STA13
    sent = layer.data_to_send()
    assert sent[0] == 7
    return sent[8], sent[9]


def test_every_item_of_a_request_is_read_back() -> None:
    (_, indication) = acceptor().receive_data(FULL.encode())
    assert indication == AssociateIndication(FULL)


def test_pynetdicom_reads_our_request_as_we_mean_it() -> None:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(FULL.encode())
    primitive = pdu.to_primitive()
    assert isinstance(primitive, A_ASSOCIATE)
    assert primitive.called_ae_title == "CALLED"
    assert [context.context_id for context in primitive.presentation_context_definition_list] == [1, 3]
    assert pdu.encode() == FULL.encode()


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(FULL)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack(">BxL", 1, 256 * 1024 + 1),
        struct.pack(">BxL", 1, 0xFFFFFFFF),
        struct.pack(">BxL", 5, 5),
        struct.pack(">BxL", 7, 0),
        struct.pack(">BxL", 9, 4),
    ],
)
def test_a_length_or_type_is_refused_at_the_header(header: bytes) -> None:
    assert error_of(acceptor(), header) == (0, 0), "AA-1: the service-user's abort"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack(">BxL", 4, 131073), 6),
        (struct.pack(">BxL", 4, 0), 6),
        (struct.pack(">BxLLBB", 4, 8, 100, 1, 3), 6),
        (struct.pack(">BxLLBB", 4, 8, 1, 1, 3), 6),
        (struct.pack(">BxLLBB", 4, 10, 4, 1, 3) + b"abcd", 6),
        (struct.pack(">BxL", 8, 4), 1),
        (struct.pack(">BxLL", 6, 4, 0), 2),
    ],
)
def test_what_makes_no_sense_in_an_association_is_aborted_with_its_reason(data: bytes, reason: int) -> None:
    assert error_of(established(), data) == (2, reason)


@pytest.mark.parametrize("ids", [(), (2,), (1, 1), tuple(range(1, 259, 2))])
def test_presentation_contexts_must_be_1_to_128_odd_and_unique(ids: tuple[int, ...]) -> None:
    body = FULL.encode()[6:]
    fixed = body[:68]
    items = b"".join(PresentationContextRQ(i % 256, "1.2", ("1.2",)).encode() for i in ids)
    if len(ids) > 128:
        items = b"".join(PresentationContextRQ(2 * (i % 128) + 1, "1.2", ("1.2",)).encode() for i in range(129))
    pdu_body = fixed + items + FULL.user_information.encode()
    assert error_of(acceptor(), struct.pack(">BxL", 1, len(pdu_body)) + pdu_body) == (0, 0)


def test_bulk_is_a_view_of_what_was_received_not_a_copy() -> None:
    chunk = struct.pack(">BxLLBB", 4, 106, 102, 1, 2) + bytes(100)
    (fragment,) = established().receive_data(chunk)
    assert isinstance(fragment, DataFragment)
    assert fragment.data.obj is chunk
    assert (fragment.is_command, fragment.is_last) == (False, True)
