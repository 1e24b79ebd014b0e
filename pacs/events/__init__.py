"""
The events of the server and the bus that delivers them, as the rooms and a subscriber's own code import them.

The bus is loaded when it is asked for: it needs Twisted, which what only names events does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pacs.events.kinds import (
    DURABLE,
    EVENT_NAMES,
    LIVE,
    AccessDenied,
    AssociationClosed,
    AssociationEvent,
    AssociationOpened,
    AssociationRejected,
    CommitmentCompleted,
    ConnectionAborted,
    DeidentificationRefused,
    Event,
    HealthChanged,
    ImageReceived,
    InstanceDeleted,
    InstancesAccessed,
    IntegrityAlarm,
    MPPSChanged,
    PseudonymResolved,
    QueryExecuted,
    RetrieveCompleted,
    RetrieveStarted,
    StudyInstances,
    TokenChanged,
    UserAuthenticated,
    WorklistChanged,
)

if TYPE_CHECKING:
    from pacs.events.bus import E, EventBus, Handler

__all__ = [
    "DURABLE",
    "EVENT_NAMES",
    "LIVE",
    "AccessDenied",
    "AssociationClosed",
    "AssociationEvent",
    "AssociationOpened",
    "AssociationRejected",
    "CommitmentCompleted",
    "ConnectionAborted",
    "DeidentificationRefused",
    "E",
    "Event",
    "EventBus",
    "Handler",
    "HealthChanged",
    "ImageReceived",
    "InstanceDeleted",
    "InstancesAccessed",
    "IntegrityAlarm",
    "MPPSChanged",
    "PseudonymResolved",
    "QueryExecuted",
    "RetrieveCompleted",
    "RetrieveStarted",
    "StudyInstances",
    "TokenChanged",
    "UserAuthenticated",
    "WorklistChanged",
]

_OF_THE_BUS: Final = frozenset(("E", "EventBus", "Handler"))


def __getattr__(name: str) -> object:
    """Give what `pacs.events.bus` has."""
    if name in _OF_THE_BUS:
        from pacs.events import bus

        return getattr(bus, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
