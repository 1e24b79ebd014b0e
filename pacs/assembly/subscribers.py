"""
Third parties' subscribers: twisted plugins that implement `IEventSubscriber`, in whatever package is installed.
"""

from __future__ import annotations

from twisted.logger import Logger
from twisted.plugin import getPlugins

from pacs.events import EventBus
from pacs.interfaces import IEventSubscriber

_log = Logger(namespace="pacs.subscribers")


def subscribe_plugins(bus: EventBus) -> None:
    """Have every plugin subscribe; one that can't is logged and left out."""
    for subscriber in getPlugins(IEventSubscriber):
        name = str(getattr(subscriber, "name", type(subscriber).__name__))
        try:
            subscriber.subscribe(bus)
        except Exception:  # noqa: BLE001 - the border to whatever is installed
            _log.failure("the subscriber {name} is left out", name=name)
        else:
            _log.info("the subscriber {name} listens to events", name=name)
