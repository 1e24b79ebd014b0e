"""
The events of the server and the bus that delivers them.

Events are immutable. A handler may be a plain function or a coroutine function; one that fails is logged and harms no
other. Handlers run in the reactor's thread; publishing is safe from any thread, and costs next to nothing when nobody
listens.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure


def _now() -> datetime:
    return datetime.now(UTC)


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
        values = {item.name: getattr(self, item.name) for item in fields(self)}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryExecuted(Event):
    """A query was answered, whatever the protocol."""

    query_level: str
    result_count: int
    calling_ae: str
    duration_ms: float
    protocol: str


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
    """An association was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDenied(Event):
    """A right was missing."""

    calling_ae: str
    operation: str
    reason: str
    peer_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged(Event):
    """A component became better or worse."""

    component: str
    health: str
    reason: str


E = TypeVar("E", bound=Event)
Handler = Callable[[E], object | Coroutine[Any, Any, object]]


class _Threads(Protocol):
    def callFromThread(self, f: Callable[..., object], *args: object) -> object: ...


class EventBus:
    """
    Delivers events to whoever subscribed to their class or to a base of it.

    Args:
        reactor: whose thread the handlers run in.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, reactor: _Threads) -> None:
        self._reactor = reactor
        self._reactor_thread = threading.get_ident()
        self._handlers: dict[type[Event], tuple[Handler[Any], ...]] = {}
        self._found: dict[type[Event], tuple[Handler[Any], ...]] = {}

    def subscribe(self, event_type: type[E], handler: Handler[E]) -> Callable[[], None]:
        """
        Have a handler called for each event of a class.

        Returns:
            ends the subscription.
        """
        self._handlers[event_type] = (*self._handlers.get(event_type, ()), handler)
        self._found = {}

        def unsubscribe() -> None:
            handlers = list(self._handlers.get(event_type, ()))
            if handler in handlers:
                handlers.remove(handler)
            self._handlers[event_type] = tuple(handlers)
            self._found = {}

        return unsubscribe

    def has_subscribers(self, event_type: type[Event]) -> bool:
        """Whether it is worth while to make an event of this class."""
        return bool(self._handlers_of(event_type))

    def publish(self, event: Event) -> None:
        """Deliver an event; may be called from any thread."""
        self.publish_all((event,))

    def publish_all(self, events: Sequence[Event]) -> None:
        """Deliver several events in order, with one visit to the reactor's thread."""
        if threading.get_ident() == self._reactor_thread:
            self._deliver(events)
        else:
            self._reactor.callFromThread(self._deliver, events)

    # -- shorthands

    def on_image_received(self, handler: Handler[ImageReceived]) -> Callable[[], None]:
        """Subscribe to stored objects."""
        return self.subscribe(ImageReceived, handler)

    def on_query_executed(self, handler: Handler[QueryExecuted]) -> Callable[[], None]:
        """Subscribe to answered queries."""
        return self.subscribe(QueryExecuted, handler)

    def on_association_event(self, handler: Handler[AssociationEvent]) -> Callable[[], None]:
        """Subscribe to associations that open, close or are refused."""
        return self.subscribe(AssociationEvent, handler)

    def on_access_denied(self, handler: Handler[AccessDenied]) -> Callable[[], None]:
        """Subscribe to missing rights."""
        return self.subscribe(AccessDenied, handler)

    # -- within

    def _handlers_of(self, event_type: type[Event]) -> tuple[Handler[Any], ...]:
        found = self._found.get(event_type)
        if found is None:
            found = tuple(h for base in event_type.__mro__ for h in self._handlers.get(base, ()))
            self._found[event_type] = found
        return found

    def _deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            for handler in self._handlers_of(type(event)):
                try:
                    result = handler(event)
                except Exception:  # noqa: BLE001 - the border to any subscriber
                    self._failed(Failure(), event)
                    continue
                if isinstance(result, Coroutine):
                    Deferred.fromCoroutine(result).addErrback(self._failed, event)

    def _failed(self, failure: Failure, event: Event) -> None:
        self.log.failure("a handler of {event_name} failed", failure, event_name=event.wire_name())
