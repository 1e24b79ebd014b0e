"""
Command sets to bytes and back: always Implicit VR Little Endian (PS3.7 6.3.1).

One walk over the table of `pacs.dimse.messages` serves all messages. C-STORE-RQ and C-ECHO-RQ as peers usually send
them, and the responses that go out by the thousand, have short ways of their own; tests hold them equal to the walk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from pacs.dimse.errors import DIMSEProtocolError
from pacs.dimse.messages import (
    COMMAND_DATA_SET_TYPE,
    COMMAND_ELEMENTS,
    COMMAND_FIELD,
    ERROR_COMMENT_CHARACTERS,
    MESSAGES,
    NO_DATA_SET,
    CEchoRQ,
    Command,
    CStoreRQ,
    Response,
    element_names,
)

_ELEMENT: Final = Struct("<HHL")
_US: Final = Struct("<H")
_US_ELEMENT: Final = Struct("<HHLH")
_GROUP_LENGTH: Final = Struct("<HHLL")
_AT: Final = Struct("<HH")
DATA_SET_FOLLOWS: Final = 0x0001

_NAMES: Final = {message: element_names(message) for message in MESSAGES.values()}
_REQUIRED: Final = {
    message: frozenset(field.name for field in fields(message) if field.default is MISSING)
    for message in MESSAGES.values()
}


def _encode_text(text: str, padding: bytes) -> bytes:
    value = text.encode("latin-1", "replace")
    return value + padding if len(value) % 2 else value


def _encode_value(vr: str, value: Any) -> bytes:
    if vr == "US":
        return _US.pack(value)
    if vr == "UI":
        return _encode_text(value, b"\0")
    if vr == "AT":
        return b"".join(_AT.pack(tag >> 16, tag & 0xFFFF) for tag in value)
    if vr == "LO":
        value = value[:ERROR_COMMENT_CHARACTERS]
    return _encode_text(value, b" ")


def encode_element(tag: int, value: bytes) -> bytes:
    """Give one element in Implicit VR Little Endian."""
    return _ELEMENT.pack(tag >> 16, tag & 0xFFFF, len(value)) + value


def encode_command(command: Command) -> bytes:
    """Give the command set of a message, its group length first (PS3.7 6.3.1)."""
    if command.is_response and type(command) in _PLAIN_RESPONSES:
        plain = _encode_plain_response(command)  # type: ignore[arg-type]
        if plain is not None:
            return plain
    elif isinstance(command, CStoreRQ):
        return _encode_store_request(command)
    return encode_command_by_table(command)


def encode_command_by_table(command: Command) -> bytes:
    """The same for any message, by the table."""
    elements = [
        (COMMAND_FIELD, _US.pack(command.command_field)),
        (COMMAND_DATA_SET_TYPE, _US.pack(DATA_SET_FOLLOWS if command.has_data_set else NO_DATA_SET)),
    ]
    for name in _NAMES[type(command)]:
        value = getattr(command, name)
        if value is None or value == ():
            continue
        tag, vr = COMMAND_ELEMENTS[name]
        elements.append((tag, _encode_value(vr, value)))
    elements.sort()
    body = b"".join([encode_element(tag, value) for tag, value in elements])
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


_STORE_MIDDLE: Final = Struct("<HHLH HHLH HHLH HHLH")
_ORIGINATOR: Final = Struct("<HHLH")


def _encode_store_request(command: CStoreRQ) -> bytes:
    middle = _STORE_MIDDLE.pack(
        0, 0x0100, 2, command.command_field,
        0, 0x0110, 2, command.message_id,
        0, 0x0700, 2, command.priority,
        0, 0x0800, 2, DATA_SET_FOLLOWS if command.has_data_set else NO_DATA_SET,
    )  # fmt: skip
    body = (
        _uid_element(0x00000002, command.affected_sop_class_uid)
        + middle
        + encode_element(0x00001000, _encode_text(command.affected_sop_instance_uid, b"\0"))
    )
    if command.move_originator_application_entity_title is not None:
        body += encode_element(0x00001030, _encode_text(command.move_originator_application_entity_title, b" "))
    if command.move_originator_message_id is not None:
        body += _ORIGINATOR.pack(0, 0x1031, 2, command.move_originator_message_id)
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


_PLAIN_RESPONSES: Final = frozenset(
    message
    for message in MESSAGES.values()
    if message.is_response and message.operation in ("C-STORE", "C-FIND", "C-ECHO")
)
_PLAIN_MIDDLE: Final = Struct("<HHLH HHLH HHLH HHLH")


@lru_cache(maxsize=256)
def _uid_element(tag: int, uid: str) -> bytes:
    return encode_element(tag, _encode_text(uid, b"\0"))


def _encode_plain_response(command: Response) -> bytes | None:
    """Give a C-STORE-, C-FIND- or C-ECHO-RSP that has nothing but its UIDs, ids and status; else None."""
    if command.error_comment is not None or command.offending_element:
        return None
    sop_class = command.affected_sop_class_uid  # type: ignore[attr-defined]
    head = _uid_element(0x00000002, sop_class) if sop_class is not None else b""
    instance = getattr(command, "affected_sop_instance_uid", None)
    tail = encode_element(0x00001000, _encode_text(instance, b"\0")) if instance is not None else b""
    middle = _PLAIN_MIDDLE.pack(
        0, 0x0100, 2, command.command_field,
        0, 0x0120, 2, command.message_id_being_responded_to,
        0, 0x0800, 2, DATA_SET_FOLLOWS if command.has_data_set else NO_DATA_SET,
        0, 0x0900, 2, command.status,
    )  # fmt: skip
    body = head + middle + tail
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def _decode_value(vr: str, value: bytes, name: str) -> Any:
    if vr == "US":
        if len(value) != 2:
            raise DIMSEProtocolError(f"{name} has {len(value)} bytes instead of 2")
        return _US.unpack(value)[0]
    if vr == "AT":
        if len(value) % 4:
            raise DIMSEProtocolError(f"{name} has {len(value)} bytes, no multiple of 4")
        return tuple(
            group << 16 | element for group, element in (_AT.unpack_from(value, i) for i in range(0, len(value), 4))
        )
    return value.decode("latin-1").strip("\0 ")


def read_elements(data: bytes) -> dict[int, bytes]:
    """
    Give the elements of a command set by their tags.

    Raises:
        DIMSEProtocolError: an element reaches beyond the end, or is not of group 0000.
    """
    elements: dict[int, bytes] = {}
    position, end = 0, len(data)
    unpack = _ELEMENT.unpack_from
    while position < end:
        if end - position < 8:
            raise DIMSEProtocolError(f"{end - position} stray bytes at the end of a command set")
        group, element, length = unpack(data, position)
        position += 8
        if group or length > end - position:
            raise DIMSEProtocolError(f"command element ({group:04X},{element:04X}) of {length} bytes does not fit")
        elements[element] = data[position : position + length]
        position += length
    return elements


def decode_command(data: bytes) -> Command:
    """
    Read a command set; group lengths are not looked at, unknown elements are skipped.

    Raises:
        DIMSEProtocolError: it is malformed, of no known message, or lacks what the message cannot be without.
    """
    return _decode_usual(data) or decode_elements(read_elements(data))


def decode_elements(elements: Mapping[int, bytes]) -> Command:
    """The same from the elements, for any message, by the table."""
    field = elements.get(COMMAND_FIELD, b"")
    data_set_type = elements.get(COMMAND_DATA_SET_TYPE, b"")
    if len(field) != 2 or len(data_set_type) != 2:
        raise DIMSEProtocolError("command set without Command Field or Command Data Set Type")
    message = MESSAGES.get(_US.unpack(field)[0])
    if message is None:
        raise DIMSEProtocolError(f"unknown Command Field {_US.unpack(field)[0]:04X}H")
    values: dict[str, Any] = {"has_data_set": _US.unpack(data_set_type)[0] != NO_DATA_SET}
    for name in _NAMES[message]:
        tag, vr = COMMAND_ELEMENTS[name]
        value = elements.get(tag)
        if value:
            values[name] = _decode_value(vr, value, name)
        elif name in _REQUIRED[message]:
            raise DIMSEProtocolError(f"{message.operation} without {name}")
    return message(**values)


def _head(element: int, length: int = 2) -> bytes:
    return _ELEMENT.pack(0, element, length)


_SOP_CLASS_TAG: Final = b"\0\0\2\0"
_ECHO: Final = Struct("<8sH8sH8sH")
_STORE: Final = Struct("<8sH8sH8sH8sH4sL")
_GROUP_LENGTH_HEAD: Final = _head(0, 4)
_FIELD_HEAD, _ID_HEAD, _PRIORITY_HEAD, _TYPE_HEAD = map(_head, (0x0100, 0x0110, 0x0700, 0x0800))
_INSTANCE_TAG: Final = b"\0\0\0\x10"


def _decode_usual(data: bytes) -> CStoreRQ | CEchoRQ | None:
    """Give a C-STORE-RQ or C-ECHO-RQ that has the usual elements and no others, in their order; else None."""
    if len(data) < 60 or data[:8] != _GROUP_LENGTH_HEAD or data[12:16] != _SOP_CLASS_TAG or data[17:20] != b"\0\0\0":
        return None
    behind_class = 20 + data[16]
    left = len(data) - behind_class
    if left == _ECHO.size:
        field_head, field, id_head, message_id, type_head, data_set_type = _ECHO.unpack_from(data, behind_class)
        if (field_head, field, id_head, type_head) != (_FIELD_HEAD, CEchoRQ.command_field, _ID_HEAD, _TYPE_HEAD):
            return None
        sop_class = _uid_text(data[20:behind_class])
        if not sop_class:
            return None
        return CEchoRQ(
            has_data_set=data_set_type != NO_DATA_SET, message_id=message_id, affected_sop_class_uid=sop_class
        )
    if left <= _STORE.size:
        return None
    field_head, field, id_head, message_id, priority_head, priority, type_head, data_set_type, tag, length = (
        _STORE.unpack_from(data, behind_class)
    )
    if (field_head, field, id_head, priority_head, type_head, tag) != _STORE_HEADS or length != left - _STORE.size:
        return None
    sop_class = _uid_text(data[20:behind_class])
    instance = data[behind_class + _STORE.size :].decode("latin-1").strip("\0 ")
    if not sop_class or not instance:
        return None
    return CStoreRQ(
        has_data_set=data_set_type != NO_DATA_SET,
        message_id=message_id,
        affected_sop_class_uid=sop_class,
        affected_sop_instance_uid=instance,
        priority=priority,
    )


_STORE_HEADS: Final = (
    _FIELD_HEAD, CStoreRQ.command_field, _ID_HEAD, _PRIORITY_HEAD, _TYPE_HEAD, _INSTANCE_TAG,
)  # fmt: skip


@lru_cache(maxsize=256)
def _uid_text(value: bytes) -> str:
    return value.decode("latin-1").strip("\0 ")
