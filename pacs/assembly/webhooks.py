"""
The webhooks' part of the assembly. It is imported only where there are some: an HTTP client costs memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from pacs.archive.archive import Archive
from pacs.archive.feed import ChangeFeed
from pacs.config import Configuration
from pacs.events import EVENT_NAMES, EventBus
from pacs.security.secret_files import SecretFileError, read_secret_file
from pacs.security.tls import TLSFault
from pacs.tasks.posting import Poster
from pacs.tasks.queue import TaskQueue
from pacs.tasks.webhooks import Webhook, Webhooks


class WebhookService(Service):
    """Follows the events while the archive is open; what is being posted ends with the queue, which stops before."""

    def __init__(self, webhooks: Webhooks, poster: Poster) -> None:
        self._webhooks = webhooks
        self._poster = poster

    def startService(self) -> Deferred[None]:
        super().startService()
        return Deferred.fromCoroutine(self._webhooks.start())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._webhooks.stop()
        await self._poster.close()


def make_webhooks(
    configuration: Configuration, *, archive: Archive, feed: ChangeFeed, queue: TaskQueue, bus: EventBus, reactor: Any
) -> WebhookService:
    """
    Build them.

    Raises:
        TLSFault: a secret can't be read.
    """
    poster = Poster(reactor=reactor)
    webhooks = Webhooks(
        hooks=[
            Webhook(hook.url, _secret(Path(hook.secret_file)), frozenset(hook.events or EVENT_NAMES))
            for hook in configuration.events.webhooks
        ],
        feed=feed,
        change=archive.change,
        queue=queue,
        bus=bus,
        post=poster.post,
        clock=reactor,
    )
    return WebhookService(webhooks, poster)


def _secret(path: Path) -> bytes:
    try:
        secret = read_secret_file(path, lambda _: None).strip()  # the configuration's reader has warned already
        if not secret:
            raise SecretFileError(f"'{path}' is empty")
    except SecretFileError as error:
        fault = TLSFault("secret_file", str(error))
        fault.section = ("events", "webhooks")
        raise fault from None
    return secret
