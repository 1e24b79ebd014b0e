"""
What can happen: the events of the server, immutable, and which of them are kept in the change feed.

Nothing but the standard library is imported: the configuration names events too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final


def _now() -> datetime:
    return datetime.now(UTC)


def _off_wire(default: Any) -> Any:
    """Give a field for subscribers within the server, the audit log for one; it is not part of the wire form."""
    return field(default=default, metadata={"wire": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    Something that happened.

    Attributes:
        timestamp: UTC.
    """

    timestamp: datetime = field(default_factory=_now)

    @classmethod
    def wire_name(cls) -> str:
        """Give the name that webhooks and event streams use."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def as_dict(self) -> dict[str, Any]:
        """Give the fields for JSON; the timestamp in ISO 8601."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.metadata.get("wire", True)}
        values["timestamp"] = self.timestamp.isoformat().replace("+00:00", "Z")
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReceived(Event):
    """An object is durable and visible."""

    sop_instance_uid: str
    sop_class_uid: str
    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    calling_ae: str
    size_bytes: int
    anonymized: bool = False
    peer_address: str = _off_wire("")
    is_replacement: bool = _off_wire(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryExecuted(Event):
    """
    A query was answered, whatever the protocol.

    Attributes:
        identifier: what was asked: the data set, or the request's URI.
    """

    query_level: str
    result_count: int
    calling_ae: str
    duration_ms: float
    protocol: str
    peer_address: str = _off_wire("")
    sop_class_uid: str = _off_wire("")
    transfer_syntax_uid: str = _off_wire("")
    identifier: bytes = _off_wire(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationEvent(Event):
    """What the events of associations have in common; `on_association_event` gets them all."""

    association_id: str
    calling_ae: str
    called_ae: str
    peer_address: str
    tls: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationOpened(AssociationEvent):
    """An association was accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationClosed(AssociationEvent):
    """An association ended, in whatever way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRejected(AssociationEvent):
    """
    An association was refused.

    Attributes:
        is_transient: for want of resources, not because of who asked.
    """

    is_transient: bool = _off_wire(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionAborted(Event):
    """A peer sent what the Upper Layer can't take; within the server only."""

    peer_address: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDenied(Event):
    """A right was missing."""

    calling_ae: str
    operation: str
    reason: str
    peer_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAuthenticated(Event):
    """
    Somebody logged in or out, or failed to; within the server only.

    Attributes:
        user: the name that was claimed, or that was found right.
        method: how, one of a closed set of words.
        is_success: the credentials were right.
        is_login: else it is a logout.
        is_one_too_many: that address has failed more often than is borne within a minute.
    """

    user: str
    peer_address: str
    method: str
    is_success: bool
    is_login: bool = True
    is_one_too_many: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityAlarm(Event):
    """
    What is kept, or was about to be, contradicts itself: a person must look; within the server only.

    Attributes:
        description: without patient data.
        subject: the UID of the object or the study.
    """

    description: str
    subject: str
    calling_ae: str = ""
    peer_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentificationRefused(Event):
    """
    An object was to be de-identified, and was not kept; within the server only.

    Attributes:
        rule: what refused it, one of a closed set of names.
        tag: of the attribute concerned, as (gggg,eeee), or empty.
    """

    rule: str
    tag: str
    calling_ae: str
    peer_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymResolved(Event):
    """
    The vault was asked for the person behind a pseudonym, or made to forget it; within the server only.

    Attributes:
        action: reidentify or forget.
        found: the vault knew the pseudonym.
        user: who asked.
    """

    action: str
    pseudonym: str
    found: bool
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChanged(Event):
    """
    An API token was made or revoked; within the server only.

    Attributes:
        token_id: which can be seen by everybody; never the token.
        change: what was done, with the role of a token that was made.
        user: who did it.
    """

    token_id: str
    change: str
    user: str
    peer_address: str = ""


@dataclass(frozen=True, slots=True)
class StudyInstances:
    """
    Objects of one study.

    Attributes:
        number_by_sop_class: how many of each SOP class.
    """

    study_instance_uid: str
    patient_id: str
    number_by_sop_class: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveStarted(Event):
    """
    Objects are about to leave; within the server only.

    Attributes:
        operation: C-GET, C-MOVE, WADO-RS, routing, …
        destination_ae: who receives them; that of the caller for C-GET.
    """

    operation: str
    calling_ae: str
    peer_address: str
    destination_ae: str
    destination_address: str
    studies: tuple[StudyInstances, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveCompleted(Event):
    """
    A retrieval has ended.

    Attributes:
        operation: C-GET, C-MOVE, WADO-RS, routing, …
        completed, failed, warning: sub-operations.
        outcome: success, warning, failure or canceled.
        studies: what was sent, sub-operations that failed left out.
    """

    operation: str
    calling_ae: str
    destination_ae: str
    completed: int
    failed: int
    warning: int
    outcome: str
    peer_address: str = _off_wire("")
    destination_address: str = _off_wire("")
    studies: tuple[StudyInstances, ...] = _off_wire(())


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceDeleted(Event):
    """
    Objects were deleted.

    Attributes:
        level: study, series or instance.
        user: who asked; the calling AE title or a user's name.
    """

    level: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    number_of_instances: int
    user: str
    patient_id: str = _off_wire("")
    peer_address: str = _off_wire("")
    number_by_sop_class: tuple[tuple[str, int], ...] = _off_wire(())


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesAccessed(Event):
    """
    Objects were looked at or changed without leaving over DICOM; within the server only.

    Attributes:
        action: C, R, U or D (PS3.15 A.5.3.5).
    """

    action: str
    user: str
    peer_address: str
    studies: tuple[StudyInstances, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistChanged(Event):
    """
    A worklist item was made, changed or removed.

    Attributes:
        status: of the item, now.
        action: created, replaced, deleted or status; the last one follows a performed step.
        user: who did it; the calling AE title or a user's name.
    """

    item_id: int
    step_id: str
    study_instance_uid: str
    status: str
    action: str
    user: str
    patient_id: str = _off_wire("")
    peer_address: str = _off_wire("")


@dataclass(frozen=True, slots=True, kw_only=True)
class MPPSChanged(Event):
    """
    A performed procedure step was made or changed.

    Attributes:
        status: IN PROGRESS, COMPLETED or DISCONTINUED.
        action: created or changed.
        worklist_items: how many scheduled steps it belongs to.
        instances: how many objects it names.
    """

    sop_instance_uid: str
    study_instance_uid: str
    status: str
    action: str
    calling_ae: str
    worklist_items: int
    instances: int
    patient_id: str = _off_wire("")
    peer_address: str = _off_wire("")

    @classmethod
    def wire_name(cls) -> str:
        """Give the contract's name: the acronym is one word."""
        return "mpps_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentCompleted(Event):
    """
    A request for storage commitment has ended.

    Attributes:
        committed, failed: of the objects that it names, as the report says.
        outcome: success, failures (the report names objects that are not committed) or unreported (nobody took it).
    """

    transaction_uid: str
    calling_ae: str
    committed: int
    failed: int
    outcome: str
    peer_address: str = _off_wire("")
    reason: str = _off_wire("")
    studies: tuple[StudyInstances, ...] = _off_wire(())


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged(Event):
    """A component became better or worse."""

    component: str
    health: str
    reason: str


DURABLE: Final[tuple[type[Event], ...]] = (
    ImageReceived,
    InstanceDeleted,
    WorklistChanged,
    MPPSChanged,
    CommitmentCompleted,
)
"""Noted in the change feed, with an id."""

LIVE: Final[tuple[type[Event], ...]] = (
    QueryExecuted,
    AssociationOpened,
    AssociationClosed,
    AssociationRejected,
    AccessDenied,
    RetrieveCompleted,
    HealthChanged,
)
"""Told as they happen, and not kept."""

EVENT_NAMES: Final = tuple(kind.wire_name() for kind in (*DURABLE, *LIVE))
"""What a subscriber can ask for."""
