"""
The messages of PS3.7 as classes: the command elements of annex E as one table, and for each message the elements
that sections 9.3 and 10.3 give it. The codec (`pacs.dimse.codec`) walks the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, NamedTuple

RESPONSE_BIT: Final = 0x8000
ERROR_COMMENT_CHARACTERS: Final = 64


class CommandElement(NamedTuple):
    """A command element, PS3.7 E.1: its tag and value representation."""

    tag: int
    vr: str


COMMAND_ELEMENTS: Final[Mapping[str, CommandElement]] = {
    "affected_sop_class_uid": CommandElement(0x00000002, "UI"),
    "requested_sop_class_uid": CommandElement(0x00000003, "UI"),
    "message_id": CommandElement(0x00000110, "US"),
    "message_id_being_responded_to": CommandElement(0x00000120, "US"),
    "move_destination": CommandElement(0x00000600, "AE"),
    "priority": CommandElement(0x00000700, "US"),
    "status": CommandElement(0x00000900, "US"),
    "offending_element": CommandElement(0x00000901, "AT"),
    "error_comment": CommandElement(0x00000902, "LO"),
    "error_id": CommandElement(0x00000903, "US"),
    "affected_sop_instance_uid": CommandElement(0x00001000, "UI"),
    "requested_sop_instance_uid": CommandElement(0x00001001, "UI"),
    "event_type_id": CommandElement(0x00001002, "US"),
    "attribute_identifier_list": CommandElement(0x00001005, "AT"),
    "action_type_id": CommandElement(0x00001008, "US"),
    "number_of_remaining_suboperations": CommandElement(0x00001020, "US"),
    "number_of_completed_suboperations": CommandElement(0x00001021, "US"),
    "number_of_failed_suboperations": CommandElement(0x00001022, "US"),
    "number_of_warning_suboperations": CommandElement(0x00001023, "US"),
    "move_originator_application_entity_title": CommandElement(0x00001030, "AE"),
    "move_originator_message_id": CommandElement(0x00001031, "US"),
}

COMMAND_FIELD: Final = 0x00000100
COMMAND_DATA_SET_TYPE: Final = 0x00000800
NO_DATA_SET: Final = 0x0101


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """
    A command set; the attributes of its subclasses are the keywords of the command elements.

    Attributes:
        command_field: PS3.7 E.1-1.
        operation: the name of the DIMSE service.
        has_data_set: a data set follows (Command Data Set Type).
    """

    command_field: ClassVar[int]
    operation: ClassVar[str]
    is_response: ClassVar[bool] = False
    carries_object: ClassVar[bool] = False

    has_data_set: bool = False

    @property
    def id_of_request(self) -> int:
        """The message id of a request, or the one that a response answers."""
        name = "message_id_being_responded_to" if self.is_response else "message_id"
        return int(getattr(self, name, None) or 0)

    def response(self, status: int, **more: Any) -> Response:
        """
        Give the response to this request, its identifiers filled in.

        Args:
            more: further elements, `has_data_set` among them.
        """
        response_class = RESPONSE_OF[type(self)]
        values: dict[str, Any] = {"message_id_being_responded_to": self.id_of_request, "status": status}
        for name in ("class", "instance"):
            target = f"affected_sop_{name}_uid"
            if target in response_class.__dataclass_fields__:
                uid = getattr(self, target, None) or getattr(self, f"requested_sop_{name}_uid", None)
                values[target] = uid
        for name in ("action_type_id", "event_type_id"):
            if name in response_class.__dataclass_fields__:
                values[name] = getattr(self, name, None)
        values.update(more)
        return response_class(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Command):
    """A request; answered by the message of `RESPONSE_OF`."""

    message_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Command):
    """A response."""

    is_response: ClassVar[bool] = True

    message_id_being_responded_to: int
    status: int
    error_comment: str | None = None
    offending_element: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreRQ(Request):
    """PS3.7 9.3.1.1."""

    command_field: ClassVar[int] = 0x0001
    operation: ClassVar[str] = "C-STORE"
    carries_object: ClassVar[bool] = True

    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    priority: int = 0
    move_originator_application_entity_title: str | None = None
    move_originator_message_id: int | None = None

    def stored(self) -> CStoreRSP:
        """Give the response of success, the short way."""
        return CStoreRSP(
            message_id_being_responded_to=self.message_id,
            status=0,
            affected_sop_class_uid=self.affected_sop_class_uid,
            affected_sop_instance_uid=self.affected_sop_instance_uid,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreRSP(Response):
    """PS3.7 9.3.1.2."""

    command_field: ClassVar[int] = 0x8001
    operation: ClassVar[str] = "C-STORE"

    affected_sop_class_uid: str | None = None
    affected_sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CFindRQ(Request):
    """PS3.7 9.3.2.1."""

    command_field: ClassVar[int] = 0x0020
    operation: ClassVar[str] = "C-FIND"

    affected_sop_class_uid: str
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CFindRSP(Response):
    """PS3.7 9.3.2.2."""

    command_field: ClassVar[int] = 0x8020
    operation: ClassVar[str] = "C-FIND"

    affected_sop_class_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CGetRQ(Request):
    """PS3.7 9.3.3.1."""

    command_field: ClassVar[int] = 0x0010
    operation: ClassVar[str] = "C-GET"

    affected_sop_class_uid: str
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _SuboperationsRSP(Response):
    affected_sop_class_uid: str | None = None
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CGetRSP(_SuboperationsRSP):
    """PS3.7 9.3.3.2."""

    command_field: ClassVar[int] = 0x8010
    operation: ClassVar[str] = "C-GET"


@dataclass(frozen=True, slots=True, kw_only=True)
class CMoveRQ(Request):
    """PS3.7 9.3.4.1."""

    command_field: ClassVar[int] = 0x0021
    operation: ClassVar[str] = "C-MOVE"

    affected_sop_class_uid: str
    move_destination: str
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CMoveRSP(_SuboperationsRSP):
    """PS3.7 9.3.4.2."""

    command_field: ClassVar[int] = 0x8021
    operation: ClassVar[str] = "C-MOVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoRQ(Request):
    """PS3.7 9.3.5.1."""

    command_field: ClassVar[int] = 0x0030
    operation: ClassVar[str] = "C-ECHO"

    affected_sop_class_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoRSP(Response):
    """PS3.7 9.3.5.2."""

    command_field: ClassVar[int] = 0x8030
    operation: ClassVar[str] = "C-ECHO"

    affected_sop_class_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CCancelRQ(Command):
    """PS3.7 9.3.2.3, 9.3.3.3 and 9.3.4.3; it has no response of its own."""

    command_field: ClassVar[int] = 0x0FFF
    operation: ClassVar[str] = "C-CANCEL"

    message_id_being_responded_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NEventReportRQ(Request):
    """PS3.7 10.3.1.1."""

    command_field: ClassVar[int] = 0x0100
    operation: ClassVar[str] = "N-EVENT-REPORT"

    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    event_type_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _NormalizedRSP(Response):
    error_id: int | None = None
    affected_sop_class_uid: str | None = None
    affected_sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NEventReportRSP(_NormalizedRSP):
    """PS3.7 10.3.1.2."""

    command_field: ClassVar[int] = 0x8100
    operation: ClassVar[str] = "N-EVENT-REPORT"

    event_type_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _RequestedRQ(Request):
    requested_sop_class_uid: str
    requested_sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NGetRQ(_RequestedRQ):
    """PS3.7 10.3.2.1."""

    command_field: ClassVar[int] = 0x0110
    operation: ClassVar[str] = "N-GET"

    attribute_identifier_list: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NGetRSP(_NormalizedRSP):
    """PS3.7 10.3.2.2."""

    command_field: ClassVar[int] = 0x8110
    operation: ClassVar[str] = "N-GET"

    attribute_identifier_list: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NSetRQ(_RequestedRQ):
    """PS3.7 10.3.3.1."""

    command_field: ClassVar[int] = 0x0120
    operation: ClassVar[str] = "N-SET"


@dataclass(frozen=True, slots=True, kw_only=True)
class NSetRSP(_NormalizedRSP):
    """PS3.7 10.3.3.2."""

    command_field: ClassVar[int] = 0x8120
    operation: ClassVar[str] = "N-SET"

    attribute_identifier_list: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NActionRQ(_RequestedRQ):
    """PS3.7 10.3.4.1."""

    command_field: ClassVar[int] = 0x0130
    operation: ClassVar[str] = "N-ACTION"

    action_type_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NActionRSP(_NormalizedRSP):
    """PS3.7 10.3.4.2."""

    command_field: ClassVar[int] = 0x8130
    operation: ClassVar[str] = "N-ACTION"

    action_type_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NCreateRQ(Request):
    """PS3.7 10.3.5.1; the instance UID may be left to the SCP."""

    command_field: ClassVar[int] = 0x0140
    operation: ClassVar[str] = "N-CREATE"

    affected_sop_class_uid: str
    affected_sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NCreateRSP(_NormalizedRSP):
    """PS3.7 10.3.5.2."""

    command_field: ClassVar[int] = 0x8140
    operation: ClassVar[str] = "N-CREATE"

    attribute_identifier_list: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NDeleteRQ(_RequestedRQ):
    """PS3.7 10.3.6.1."""

    command_field: ClassVar[int] = 0x0150
    operation: ClassVar[str] = "N-DELETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class NDeleteRSP(_NormalizedRSP):
    """PS3.7 10.3.6.2."""

    command_field: ClassVar[int] = 0x8150
    operation: ClassVar[str] = "N-DELETE"


REQUESTS: Final[tuple[tuple[type[Request], type[Response]], ...]] = (
    (CStoreRQ, CStoreRSP),
    (CFindRQ, CFindRSP),
    (CGetRQ, CGetRSP),
    (CMoveRQ, CMoveRSP),
    (CEchoRQ, CEchoRSP),
    (NEventReportRQ, NEventReportRSP),
    (NGetRQ, NGetRSP),
    (NSetRQ, NSetRSP),
    (NActionRQ, NActionRSP),
    (NCreateRQ, NCreateRSP),
    (NDeleteRQ, NDeleteRSP),
)

RESPONSE_OF: Final[Mapping[type[Command], type[Response]]] = dict(REQUESTS)

MESSAGES: Final[Mapping[int, type[Command]]] = {
    message.command_field: message for message in (*(m for pair in REQUESTS for m in pair), CCancelRQ)
}


def element_names(message: type[Command]) -> tuple[str, ...]:
    """Give the attributes of a message that are command elements, in the order of their tags."""
    names = [field.name for field in fields(message) if field.name in COMMAND_ELEMENTS]
    return tuple(sorted(names, key=lambda name: COMMAND_ELEMENTS[name].tag))
