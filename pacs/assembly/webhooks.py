"""
The webhooks' part of the assembly, with their secrets and these files' reload. It is imported only where there are
some: an HTTP client costs memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.archive import Archive
from pacs.archive.feed import ChangeFeed
from pacs.config import Configuration
from pacs.events import EVENT_NAMES, EventBus
from pacs.security.secret_files import SecretFileError, read_secret_file
from pacs.security.tls import TLSFault
from pacs.tasks.posting import Poster
from pacs.tasks.queue import TaskQueue
from pacs.tasks.webhooks import Webhook, Webhooks


class WebhookSecrets:
    """
    The contents of the secret files.

    Raises:
        TLSFault: one can't be read.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._secrets = self._load()

    def of(self, path: Path) -> bytes:
        """Give the secret that a file had when it was read last."""
        return self._secrets[path]

    def reload(self) -> Deferred[None]:
        """Read all files again; when one can't be used everything stays as it is."""
        return deferToThread(self._load).addCallbacks(self._reloaded, self._not_reloaded)

    def _load(self) -> dict[Path, bytes]:
        return {path: _secret(path) for path in self._paths}

    def _reloaded(self, secrets: dict[Path, bytes]) -> None:
        self._secrets = secrets
        self.log.info("the secrets of webhooks are read again")

    def _not_reloaded(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, TLSFault):
            self.log.error("the secrets of webhooks stay as they were: {reason}", reason=str(error))
        else:
            self.log.failure("the secrets of webhooks stay as they were", failure)


class WebhookService(Service):
    """
    Follows the events while the archive is open; what is being posted ends with the queue, which stops before.

    Attributes:
        reload: has the secrets read again.
    """

    def __init__(self, webhooks: Webhooks, poster: Poster, secrets: WebhookSecrets) -> None:
        self._webhooks = webhooks
        self._poster = poster
        self.reload = secrets.reload

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
    secrets = WebhookSecrets(Path(hook.secret_file) for hook in configuration.events.webhooks)
    webhooks = Webhooks(
        hooks=[
            Webhook(hook.url, partial(secrets.of, Path(hook.secret_file)), frozenset(hook.events or EVENT_NAMES))
            for hook in configuration.events.webhooks
        ],
        feed=feed,
        change=archive.change,
        queue=queue,
        bus=bus,
        post=poster.post,
        clock=reactor,
    )
    return WebhookService(webhooks, poster, secrets)


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
