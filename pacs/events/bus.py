"""
The bus that delivers events.

A handler may be a plain function or a coroutine function; one that fails is logged and harms no other. Handlers run in
the reactor's thread; publishing is safe from any thread, and costs next to nothing when nobody listens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.events.kinds import AccessDenied, AssociationEvent, Event, ImageReceived, QueryExecuted

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
        if threading.get_ident() == self._reactor_thread:
            self._deliver((event,))
        else:
            self._reactor.callFromThread(self._deliver, (event,))

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
