"""
The items inside the A-ASSOCIATE PDUs: presentation contexts and user information (PS3.8 9.3.2, 9.3.3 and annex D,
PS3.7 annex D.3.3). Each encodes itself; `read_items` walks what a peer sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from pacs.ul.errors import REASON_INVALID_PDU_PARAMETER_VALUE, RemoteProtocolError

APPLICATION_CONTEXT_NAME: Final = "1.2.840.10008.3.1.1.1"

ITEM_APPLICATION_CONTEXT: Final = 0x10
ITEM_PRESENTATION_CONTEXT_RQ: Final = 0x20
ITEM_PRESENTATION_CONTEXT_AC: Final = 0x21
ITEM_ABSTRACT_SYNTAX: Final = 0x30
ITEM_TRANSFER_SYNTAX: Final = 0x40
ITEM_USER_INFORMATION: Final = 0x50
ITEM_MAXIMUM_LENGTH: Final = 0x51
ITEM_IMPLEMENTATION_CLASS_UID: Final = 0x52
ITEM_ASYNCHRONOUS_OPERATIONS_WINDOW: Final = 0x53
ITEM_ROLE_SELECTION: Final = 0x54
ITEM_IMPLEMENTATION_VERSION_NAME: Final = 0x55
ITEM_EXTENDED_NEGOTIATION: Final = 0x56
ITEM_COMMON_EXTENDED_NEGOTIATION: Final = 0x57
ITEM_USER_IDENTITY_RQ: Final = 0x58
ITEM_USER_IDENTITY_AC: Final = 0x59

MAX_PRESENTATION_CONTEXTS: Final = 128

_ITEM_HEADER: Final = Struct(">BxH")
_UINT16: Final = Struct(">H")
_UINT32: Final = Struct(">L")


def encode_item(item_type: int, value: bytes) -> bytes:
    """Give an item or sub-item with its header."""
    return _ITEM_HEADER.pack(item_type, len(value)) + value


def read_items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Give type and value of each item.

    Raises:
        RemoteProtocolError: an item reaches beyond the end.
    """
    position, end = 0, len(data)
    while position < end:
        if end - position < 4:
            raise RemoteProtocolError(f"{end - position} stray bytes after the last item")
        item_type, length = _ITEM_HEADER.unpack_from(data, position)
        position += 4
        if length > end - position:
            raise RemoteProtocolError(f"item {item_type:02X}H of {length} bytes in the last {end - position}")
        yield item_type, data[position : position + length]
        position += length


def decode_uid(data: bytes) -> str:
    """
    Give a UID or application context name as text; padding is tolerated.

    Raises:
        RemoteProtocolError: it is not ASCII, or too long.
    """
    stripped = data.rstrip(b"\0 ")
    if len(stripped) > 64 or not stripped.isascii():
        raise RemoteProtocolError("illegal UID in an item")
    return stripped.decode("ascii")


def _take(data: bytes, position: int, what: str) -> tuple[bytes, int]:
    """Give a field with a 16-bit length in front, and the position behind it."""
    if position + 2 > len(data):
        raise RemoteProtocolError(f"{what}: no length")
    (length,) = _UINT16.unpack_from(data, position)
    end = position + 2 + length
    if end > len(data):
        raise RemoteProtocolError(f"{what}: {length} bytes announced, {len(data) - position - 2} there")
    return data[position + 2 : end], end


@dataclass(frozen=True, slots=True)
class PresentationContextRQ:
    """A proposed presentation context, PS3.8 9.3.2.2; transfer syntaxes in the proposer's order."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]

    def encode(self) -> bytes:
        """Give the item."""
        value = bytes((self.id, 0, 0, 0)) + encode_item(ITEM_ABSTRACT_SYNTAX, self.abstract_syntax.encode("ascii"))
        for transfer_syntax in self.transfer_syntaxes:
            value += encode_item(ITEM_TRANSFER_SYNTAX, transfer_syntax.encode("ascii"))
        return encode_item(ITEM_PRESENTATION_CONTEXT_RQ, value)

    @classmethod
    def decode(cls, value: bytes) -> PresentationContextRQ:
        """Read the item's value; exactly one abstract syntax, at least one transfer syntax."""
        if len(value) < 4:
            raise RemoteProtocolError("presentation context item without an id")
        abstract_syntaxes: list[str] = []
        transfer_syntaxes: list[str] = []
        for item_type, item in read_items(value[4:]):
            if item_type == ITEM_ABSTRACT_SYNTAX:
                abstract_syntaxes.append(decode_uid(item))
            elif item_type == ITEM_TRANSFER_SYNTAX:
                transfer_syntaxes.append(decode_uid(item))
        if len(abstract_syntaxes) != 1 or not transfer_syntaxes:
            raise RemoteProtocolError(
                f"presentation context {value[0]} has {len(abstract_syntaxes)} abstract"
                f" and {len(transfer_syntaxes)} transfer syntaxes"
            )
        return cls(value[0], abstract_syntaxes[0], tuple(transfer_syntaxes))


@dataclass(frozen=True, slots=True)
class PresentationContextAC:
    """The answer to a proposed presentation context, PS3.8 9.3.3.2; the result is 0 for acceptance."""

    id: int
    result: int
    transfer_syntax: str

    def encode(self) -> bytes:
        """Give the item."""
        value = bytes((self.id, 0, self.result, 0))
        value += encode_item(ITEM_TRANSFER_SYNTAX, self.transfer_syntax.encode("ascii"))
        return encode_item(ITEM_PRESENTATION_CONTEXT_AC, value)

    @classmethod
    def decode(cls, value: bytes) -> PresentationContextAC:
        """Read the item's value; the transfer syntax counts only when the context is accepted."""
        if len(value) < 4:
            raise RemoteProtocolError("presentation context item without an id")
        transfer_syntax = ""
        if value[2] == 0:
            for item_type, item in read_items(value[4:]):
                if item_type == ITEM_TRANSFER_SYNTAX:
                    transfer_syntax = decode_uid(item)
        return cls(value[0], value[2], transfer_syntax)


@dataclass(frozen=True, slots=True)
class AsynchronousOperationsWindow:
    """PS3.7 D.3.3.3; 0 is unlimited."""

    max_operations_invoked: int
    max_operations_performed: int

    def encode(self) -> bytes:
        """Give the sub-item."""
        value = _UINT16.pack(self.max_operations_invoked) + _UINT16.pack(self.max_operations_performed)
        return encode_item(ITEM_ASYNCHRONOUS_OPERATIONS_WINDOW, value)

    @classmethod
    def decode(cls, value: bytes) -> AsynchronousOperationsWindow:
        """Read the sub-item's value."""
        if len(value) != 4:
            raise RemoteProtocolError("asynchronous operations window of another length than 4")
        return cls(_UINT16.unpack_from(value, 0)[0], _UINT16.unpack_from(value, 2)[0])


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """SCP/SCU role selection for a SOP class, PS3.7 D.3.3.4: the roles of the association's requestor."""

    sop_class_uid: str
    scu_role: bool
    scp_role: bool

    def encode(self) -> bytes:
        """Give the sub-item."""
        uid = self.sop_class_uid.encode("ascii")
        return encode_item(ITEM_ROLE_SELECTION, _UINT16.pack(len(uid)) + uid + bytes((self.scu_role, self.scp_role)))

    @classmethod
    def decode(cls, value: bytes) -> RoleSelection:
        """Read the sub-item's value."""
        uid, position = _take(value, 0, "role selection")
        if len(value) - position != 2:
            raise RemoteProtocolError("role selection without its two roles")
        return cls(decode_uid(uid), value[position] == 1, value[position + 1] == 1)


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """SOP class extended negotiation, PS3.7 D.3.3.5; the information is the service class's own."""

    sop_class_uid: str
    information: bytes

    def encode(self) -> bytes:
        """Give the sub-item."""
        uid = self.sop_class_uid.encode("ascii")
        return encode_item(ITEM_EXTENDED_NEGOTIATION, _UINT16.pack(len(uid)) + uid + self.information)

    @classmethod
    def decode(cls, value: bytes) -> ExtendedNegotiation:
        """Read the sub-item's value."""
        uid, position = _take(value, 0, "extended negotiation")
        return cls(decode_uid(uid), value[position:])


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """SOP class common extended negotiation, PS3.7 D.3.3.6."""

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_classes: tuple[str, ...]

    def encode(self) -> bytes:
        """Give the sub-item."""
        related = b""
        for related_uid in self.related_general_sop_classes:
            encoded = related_uid.encode("ascii")
            related += _UINT16.pack(len(encoded)) + encoded
        value = b""
        for uid in (self.sop_class_uid.encode("ascii"), self.service_class_uid.encode("ascii")):
            value += _UINT16.pack(len(uid)) + uid
        return encode_item(ITEM_COMMON_EXTENDED_NEGOTIATION, value + _UINT16.pack(len(related)) + related)

    @classmethod
    def decode(cls, value: bytes) -> CommonExtendedNegotiation:
        """Read the sub-item's value."""
        what = "common extended negotiation"
        sop_class, position = _take(value, 0, what)
        service_class, position = _take(value, position, what)
        related_field = _take(value, position, what)[0] if position < len(value) else b""
        related: list[str] = []
        position = 0
        while position < len(related_field):
            uid, position = _take(related_field, position, what)
            related.append(decode_uid(uid))
        return cls(decode_uid(sop_class), decode_uid(service_class), tuple(related))


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """
    User identity, PS3.7 D.3.3.7.1.

    Attributes:
        type: 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JSON Web Token.
        primary_field, secondary_field: secrets; not shown by repr.
    """

    type: int
    is_response_requested: bool
    primary_field: bytes = field(repr=False)
    secondary_field: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Give the sub-item."""
        value = bytes((self.type, self.is_response_requested))
        for part in (self.primary_field, self.secondary_field):
            value += _UINT16.pack(len(part)) + part
        return encode_item(ITEM_USER_IDENTITY_RQ, value)

    @classmethod
    def decode(cls, value: bytes) -> UserIdentity:
        """Read the sub-item's value."""
        if len(value) < 2:
            raise RemoteProtocolError("user identity without a type")
        primary, position = _take(value, 2, "user identity")
        secondary = _take(value, position, "user identity")[0] if position < len(value) else b""
        return cls(value[0], value[1] == 1, primary, secondary)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """
    The user information item, PS3.8 9.3.2.3 and annex D; unknown sub-items are ignored.

    Attributes:
        max_pdu_length: the longest P-DATA-TF that its sender wants to receive; 0 is unlimited (PS3.8 D.1).
        user_identity_response: of an A-ASSOCIATE-AC (PS3.7 D.3.3.7.2).
    """

    max_pdu_length: int
    implementation_class_uid: str
    implementation_version_name: str | None = None
    asynchronous_operations_window: AsynchronousOperationsWindow | None = None
    role_selections: tuple[RoleSelection, ...] = ()
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[CommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentity | None = None
    user_identity_response: bytes | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """Give the item, its sub-items in the order of their types."""
        parts = [
            encode_item(ITEM_MAXIMUM_LENGTH, _UINT32.pack(self.max_pdu_length)),
            encode_item(ITEM_IMPLEMENTATION_CLASS_UID, self.implementation_class_uid.encode("ascii")),
        ]
        if self.asynchronous_operations_window is not None:
            parts.append(self.asynchronous_operations_window.encode())
        parts += [selection.encode() for selection in self.role_selections]
        if self.implementation_version_name is not None:
            name = self.implementation_version_name.encode("ascii")
            parts.append(encode_item(ITEM_IMPLEMENTATION_VERSION_NAME, name))
        parts += [negotiation.encode() for negotiation in self.extended_negotiations]
        parts += [negotiation.encode() for negotiation in self.common_extended_negotiations]
        if self.user_identity is not None:
            parts.append(self.user_identity.encode())
        if self.user_identity_response is not None:
            response = self.user_identity_response
            parts.append(encode_item(ITEM_USER_IDENTITY_AC, _UINT16.pack(len(response)) + response))
        return encode_item(ITEM_USER_INFORMATION, b"".join(parts))

    @classmethod
    def decode(cls, value: bytes) -> UserInformation:
        """
        Read the item's value.

        Raises:
            RemoteProtocolError: a sub-item is malformed. A missing maximum length is taken as unlimited.
        """
        single: dict[int, bytes] = {}
        roles: list[RoleSelection] = []
        extended: list[ExtendedNegotiation] = []
        common: list[CommonExtendedNegotiation] = []
        for item_type, item in read_items(value):
            if item_type == ITEM_ROLE_SELECTION:
                roles.append(RoleSelection.decode(item))
            elif item_type == ITEM_EXTENDED_NEGOTIATION:
                extended.append(ExtendedNegotiation.decode(item))
            elif item_type == ITEM_COMMON_EXTENDED_NEGOTIATION:
                common.append(CommonExtendedNegotiation.decode(item))
            else:
                single[item_type] = item
        window = single.get(ITEM_ASYNCHRONOUS_OPERATIONS_WINDOW)
        version = single.get(ITEM_IMPLEMENTATION_VERSION_NAME)
        identity = single.get(ITEM_USER_IDENTITY_RQ)
        identity_response = single.get(ITEM_USER_IDENTITY_AC)
        return cls(
            max_pdu_length=_decode_max_length(single.get(ITEM_MAXIMUM_LENGTH)),
            implementation_class_uid=decode_uid(single.get(ITEM_IMPLEMENTATION_CLASS_UID, b"")),
            implementation_version_name=None if version is None else version.decode("latin-1").strip("\0 "),
            asynchronous_operations_window=None if window is None else AsynchronousOperationsWindow.decode(window),
            role_selections=tuple(roles),
            extended_negotiations=tuple(extended),
            common_extended_negotiations=tuple(common),
            user_identity=None if identity is None else UserIdentity.decode(identity),
            user_identity_response=(
                None if identity_response is None else _take(identity_response, 0, "user identity response")[0]
            ),
        )


def _decode_max_length(value: bytes | None) -> int:
    if value is None:
        return 0
    if len(value) != 4:
        raise RemoteProtocolError(
            "maximum length item of another length than 4", reason=REASON_INVALID_PDU_PARAMETER_VALUE
        )
    length: int = _UINT32.unpack(value)[0]
    return length
