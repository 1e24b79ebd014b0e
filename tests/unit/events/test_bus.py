"""
The bus delivers to any number of handlers; one that fails harms no other.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from pacs.events import (
    AssociationClosed,
    EventBus,
    ImageReceived,
    QueryExecuted,
)


class Reactor:
    """Takes calls from other threads."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def callFromThread(self, f: Callable[..., object], *args: object) -> None:
        self.calls.append(lambda: f(*args))


def image(uid: str = "1.2") -> ImageReceived:
    return ImageReceived(
        sop_instance_uid=uid,
        sop_class_uid="1",
        patient_id="ID",
        study_instance_uid="2",
        series_instance_uid="3",
        calling_ae="AE",
        size_bytes=4,
    )


def closed() -> AssociationClosed:
    return AssociationClosed(
        association_id="1", calling_ae="A", called_ae="B", peer_address="127.0.0.1", tls=False, reason="released"
    )


class EventBusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.bus = EventBus(reactor=self.reactor)
        self.seen: list[object] = []

    def test_handlers_get_the_events_of_their_class_and_of_its_subclasses(self) -> None:
        self.bus.on_image_received(self.seen.append)
        self.bus.on_association_event(self.seen.append)
        events = [image(), closed()]
        for event in events:
            self.bus.publish(event)
        self.assertEqual(self.seen, events)

    def test_a_handler_that_fails_is_logged_and_harms_no_other(self) -> None:
        def fail(event: ImageReceived) -> None:
            raise ValueError("no")

        async def fail_later(event: ImageReceived) -> None:
            raise ValueError("not later either")

        self.bus.on_image_received(fail)
        self.bus.on_image_received(fail_later)
        self.bus.on_image_received(self.seen.append)
        self.bus.publish(image())
        self.assertEqual(len(self.seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_nobody_is_told_after_the_subscription_ended(self) -> None:
        end = self.bus.subscribe(QueryExecuted, self.seen.append)
        self.assertTrue(self.bus.has_subscribers(QueryExecuted))
        end()
        end()
        self.assertFalse(self.bus.has_subscribers(QueryExecuted))

    def test_another_thread_publishes_through_the_reactor(self) -> None:
        from threading import Thread

        self.bus.on_image_received(self.seen.append)
        thread = Thread(target=self.bus.publish_all, args=([image("1"), image("2")],))
        thread.start()
        thread.join()
        self.assertEqual(self.seen, [])
        (call,) = self.reactor.calls
        call()
        self.assertEqual(len(self.seen), 2)
