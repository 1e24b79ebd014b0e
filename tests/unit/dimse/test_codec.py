"""
Every message of the table is encoded and read back; the short ways give what the table gives (PS3.7 6.3, annex E).
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode

from pacs.dimse import (
    CCancelRQ,
    CEchoRQ,
    CFindRSP,
    Command,
    CStoreRQ,
    CStoreRSP,
    DIMSEProtocolError,
    MessageReader,
    decode_command,
    encode_command,
    encode_message,
)
from pacs.dimse.codec import decode_elements, encode_command_by_table, read_elements
from pacs.dimse.messages import COMMAND_ELEMENTS, MESSAGES, REQUESTS, element_names
from pacs.ul import DataFragment, Limits, Role, State, UpperLayer

SAMPLE: dict[str, Any] = {"US": 7, "UI": "1.2.840.1", "AE": "TITLE", "LO": "comment", "AT": (0x00100010, 0x00100020)}


def a_request(instance: str = "1.2.3") -> CStoreRQ:
    return CStoreRQ(message_id=5, affected_sop_class_uid="1.2", affected_sop_instance_uid=instance, has_data_set=True)


def full(message: type[Command]) -> Command:
    """Give a message with every element."""
    values = {name: SAMPLE[COMMAND_ELEMENTS[name].vr] for name in element_names(message)}
    return message(**values, has_data_set=True)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=lambda m: m.__name__)
def test_a_message_with_every_element_is_read_back(message: type[Command]) -> None:
    command = full(message)
    assert decode_command(encode_command(command)) == command
    assert encode_command(command) == encode_command_by_table(command)


@pytest.mark.parametrize(("request_class", "response_class"), REQUESTS)
def test_a_response_repeats_the_identifiers_of_its_request(
    request_class: type[Command], response_class: type[Command]
) -> None:
    response = full(request_class).response(0x0110)
    assert type(response) is response_class
    assert response.message_id_being_responded_to == 7
    assert decode_command(encode_command(response)) == response


def test_the_short_ways_give_what_the_table_gives() -> None:
    request = a_request()
    encoded = encode_command(request)
    assert decode_command(encoded) == decode_elements(read_elements(encoded)) == request
    for response in (
        CStoreRSP(
            message_id_being_responded_to=5, status=0, affected_sop_class_uid="1.2", affected_sop_instance_uid="1"
        ),
        CFindRSP(message_id_being_responded_to=5, status=0xFF00, affected_sop_class_uid="1.2.3", has_data_set=True),
        CStoreRSP(message_id_being_responded_to=5, status=0xA700, error_comment="why"),
    ):
        assert encode_command(response) == encode_command_by_table(response)
    for originator, message_id in ((None, None), ("ASKER", 9), ("ABC", 65535)):
        store = replace(
            request,
            move_originator_application_entity_title=originator,
            move_originator_message_id=message_id,
        )
        assert encode_command(store) == encode_command_by_table(store)


def test_pynetdicom_reads_our_c_store_rq() -> None:
    request = CStoreRQ(
        message_id=5, affected_sop_class_uid="1.2.3", affected_sop_instance_uid="1.2.3.4", has_data_set=True
    )
    message = C_STORE_RQ()
    message.command_set = decode(BytesIO(encode_command(request)), True, True)
    primitive = message.message_to_primitive()
    assert isinstance(primitive, C_STORE)
    assert (primitive.MessageID, str(primitive.AffectedSOPInstanceUID)) == (5, "1.2.3.4")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        struct.pack("<HHLH", 0, 0x0100, 2, 0x7777),
        struct.pack("<HHL", 0, 0x0002, 1000),
        struct.pack("<HHLH", 8, 0x0100, 2, 1),
        struct.pack("<HHLH", 0, 0x0100, 2, 0x0030) + struct.pack("<HHLH", 0, 0x0800, 2, 0x0101),
    ],
)
def test_what_is_no_command_is_refused(data: bytes) -> None:
    with pytest.raises(DIMSEProtocolError):
        decode_command(data)


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_read_and_nothing_else(data: bytes) -> None:
    with suppress(DIMSEProtocolError):
        decode_command(data)


@given(
    encoded=st.sampled_from(
        [
            encode_command(a_request()),
            encode_command(CEchoRQ(message_id=300, affected_sop_class_uid="1.2.840.10008.1.1")),
        ]
    ),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 20),
)
def test_the_short_ways_read_what_the_table_reads(encoded: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    changed = bytearray(encoded)
    for place, value in changes:
        changed[place % len(changed)] = value
    data = bytes(changed[: len(changed) - cut])
    try:
        by_table: Command | None = decode_elements(read_elements(data))
    except DIMSEProtocolError:
        by_table = None
    try:
        read: Command | None = decode_command(data)
    except DIMSEProtocolError:
        read = None
    assert read == by_table


@given(length=st.integers(0, 100), data_set=st.binary(max_size=2000))
def test_messages_survive_fragmentation(length: int, data_set: bytes) -> None:
    request = a_request()
    layer = UpperLayer(role=Role.ACCEPTOR, limits=Limits())
    layer.transport_opened()
    layer.state = State.STA6
    reader = MessageReader()
    received, commands = b"", []
    for fragment in layer.receive_data(encode_message(1, request, data_set, length)):
        assert isinstance(fragment, DataFragment)
        command = reader.receive(fragment)
        if command is not None:
            commands.append(command)
        elif not fragment.is_command:
            received += fragment.data
    assert commands == [request]
    assert received == data_set
    assert not reader.is_in_message


def test_the_order_of_fragments_is_watched() -> None:
    cancel = encode_command(CCancelRQ(message_id_being_responded_to=1))
    with pytest.raises(DIMSEProtocolError):
        MessageReader().receive(DataFragment(1, False, True, memoryview(b"")))
    with pytest.raises(DIMSEProtocolError):
        MessageReader(command_set_bytes=10).receive(DataFragment(1, True, False, memoryview(bytes(11))))
    reader = MessageReader()
    reader.receive(DataFragment(1, True, False, memoryview(cancel[:5])))
    with pytest.raises(DIMSEProtocolError):
        reader.receive(DataFragment(3, True, True, memoryview(cancel[5:])))
