"""
Webhooks: events are posted to whoever is configured, each as a task of the durable queue (CONTRACT.md section 6).

Each webhook follows the change feed by itself: what it has not seen becomes tasks, in the transaction that moves it on,
so that nothing is left out and nothing is made twice. It stops following while many of its tasks wait; what is to come
stays in the feed. Events that are not in the feed become tasks as they happen, as long as there is room.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.errors import ArchiveError
from pacs.archive.feed import ChangeFeed
from pacs.archive.index import followers
from pacs.archive.index.changes import Change
from pacs.archive.index.tasks import Task, add_task, cancel_others, count_unended
from pacs.archive.index.writer import IndexWriter
from pacs.events import DURABLE, LIVE, Event, EventBus
from pacs.tasks.kinds import Policy, TryAgain
from pacs.tasks.periodically import Periodically
from pacs.tasks.posting import Answered, NotPosted, signature
from pacs.tasks.queue import Change as ChangeIndex
from pacs.tasks.queue import TaskQueue

KIND: Final = "webhook"
POLICY: Final = Policy(concurrency=4, first_delay_s=1.0, attempt_timeout_s=30.0, keeps_done_s=3600.0)
MOST_WAITING: Final = 1000
CHANGES_AT_ONCE: Final = 100
NOTED_EVERY: Final = 10_000
"""How many changes of no interest a webhook passes before that is written down."""

WAITING_EVENTS: Final = 10_000
"""As many that are not in the feed wait for a webhook; who is away for days would fill the disk else."""

LOOK_INTERVAL_S: Final = 10.0


class Post(Protocol):
    """Posts a body (`Poster.post`)."""

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Awaitable[Answered]: ...


@dataclass(frozen=True, slots=True)
class Webhook:
    """
    Where events are sent.

    Attributes:
        secret: gives what bodies are signed with, as it is now.
        kinds: wire names of the wanted events.
    """

    url: str
    secret: Callable[[], bytes]
    kinds: frozenset[str]

    @property
    def id(self) -> str:
        """Its name in the index: the same as long as the URL is."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:12]

    @property
    def task_kind(self) -> str:
        """The kind of its tasks."""
        return f"{KIND}/{self.id}"

    @property
    def origin(self) -> str:
        """What people are shown of the URL: the rest may be secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


class Webhooks:
    """All webhooks."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        hooks: Sequence[Webhook],
        feed: ChangeFeed,
        change: ChangeIndex,
        queue: TaskQueue,
        bus: EventBus,
        post: Post,
        clock: IReactorTime,
    ) -> None:
        self._hooks = hooks
        self._feed = feed
        self._change = change
        self._queue = queue
        self._bus = bus
        self._post = post
        self._noted: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._is_full: set[str] = set()
        self._is_failing: set[str] = set()
        self._is_dropping: set[str] = set()
        self._happened: list[tuple[Webhook, Event]] = []
        self._is_busy = False
        self._has_news = False
        self._is_started = False
        self._unsubscribe: list[Callable[[], None]] = []
        self._looking: Deferred[None] = succeed(None)
        self._calls = Periodically("looking for events", self._look_again, LOOK_INTERVAL_S, clock=clock, log=self.log)
        for hook in hooks:
            queue.handle(hook.task_kind, partial(self._deliver, hook), POLICY)

    async def start(self) -> None:
        """Begin where each webhook was; a new one begins now."""
        bounds = await self._feed.bounds()
        ids = {hook.id for hook in self._hooks}
        kinds = [hook.task_kind for hook in self._hooks]

        def in_transaction(writer: IndexWriter) -> tuple[dict[str, int], int]:
            known = followers.positions(writer.execute)
            for gone in known.keys() - ids:
                followers.forget_follower(writer.execute, gone)
            for new in ids - {name for name, position in known.items() if position <= bounds.newest}:
                followers.set_position(writer.execute, new, bounds.newest)
            canceled = cancel_others(writer.execute, f"{KIND}/", kinds, time.time_ns() // 1000)
            return followers.positions(writer.execute), canceled

        self._noted, canceled = await self._change(in_transaction)
        if canceled:
            self.log.warn("{count} events for webhooks that are no longer configured are dropped", count=canceled)
        self._seen = dict(self._noted)
        for hook in self._hooks:
            if self._seen[hook.id] < bounds.purged_to:
                self.log.error(
                    "webhook {origin} has missed events: they were older than events.retention_days",
                    origin=hook.origin,
                )
        self._is_started = True
        self._subscribe()
        self._calls.start()

    async def stop(self) -> None:
        """Follow no longer; the queue ends what is being posted."""
        self._is_started = False
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe = []
        self._calls.stop()
        looked: Deferred[None] = Deferred()
        self._looking.addCallback(looked.callback)
        await looked

    # -- from events to tasks

    def _subscribe(self) -> None:
        for kind in DURABLE:
            if any(kind.wire_name() in hook.kinds for hook in self._hooks):
                self._unsubscribe.append(self._bus.subscribe(kind, lambda _: self._wake()))
        for kind in LIVE:
            hooks = [hook for hook in self._hooks if kind.wire_name() in hook.kinds]
            if hooks:
                self._unsubscribe.append(self._bus.subscribe(kind, partial(self._note, hooks)))

    def _note(self, hooks: Sequence[Webhook], event: Event) -> None:
        if len(self._happened) >= WAITING_EVENTS:
            return  # the index can't be written; that is told elsewhere
        self._happened += [(hook, event) for hook in hooks]
        self._wake()

    def _wake(self) -> None:
        self._has_news = True
        if self._is_busy or not self._is_started:
            return
        self._is_busy = True
        self._looking = Deferred.fromCoroutine(self._look())
        self._looking.addErrback(self._failed).addCallback(self._looked)

    async def _look_again(self) -> None:
        self._wake()

    async def _look(self) -> None:
        while self._has_news and self._is_started:
            self._has_news = False
            if self._happened:
                await self._keep_happened()
            for hook in self._hooks:
                await self._follow(hook)

    def _looked(self, _: None) -> None:
        self._is_busy = False
        if self._has_news and not self._happened:
            self._wake()

    def _failed(self, failure: Failure) -> None:
        """It is looked again in a while."""
        if not failure.check(ArchiveError):
            self.log.failure("events could not be queued for webhooks", failure)

    async def _keep_happened(self) -> None:
        happened, self._happened = self._happened, []
        now = time.time_ns() // 1000

        def in_transaction(writer: IndexWriter) -> list[Webhook]:
            room = {
                hook.id: WAITING_EVENTS - count_unended(writer.execute, hook.task_kind)
                for hook in {hook.id: hook for hook, _ in happened}.values()
            }
            full = []
            for hook, event in happened:
                if room[hook.id] > 0:
                    room[hook.id] -= 1
                    _add(writer, hook, event.wire_name(), str(uuid.uuid4()), event.as_dict(), now)
                else:
                    full.append(hook)
            return full

        try:
            full = await self._change(in_transaction, is_durable=False)
        except ArchiveError:
            self._happened = [*happened, *self._happened]
            raise
        for hook in full:
            self._drops(hook)
        self._queue.wake()

    async def _follow(self, hook: Webhook) -> None:
        """Make tasks of what a webhook has not seen."""
        kinds = sorted(hook.kinds & {kind.wire_name() for kind in DURABLE})
        while kinds and self._is_started:
            changes, seen = await self._feed.news(self._seen[hook.id], kinds, CHANGES_AT_ONCE)
            before = self._noted[hook.id]
            if not changes and seen - before < NOTED_EVERY:
                self._seen[hook.id] = seen
                return
            moved_to, count = await self._change(partial(_advance, hook, changes, before, seen), is_durable=False)
            self._seen[hook.id] = self._noted[hook.id] = moved_to
            if count:
                self._queue.wake()
            if count < len(changes):
                self._is_full.add(hook.id)
                return

    # -- one task

    async def _deliver(self, hook: Webhook, task: Task) -> None:
        body = str(task.payload["body"]).encode()
        headers = {
            "X-PACS-Event": str(task.payload["event"]),
            "X-PACS-Delivery": str(task.payload["delivery"]),
            "X-PACS-Signature": signature(hook.secret(), body),
        }
        try:
            answered = await self._post(hook.url, body, headers)
        except NotPosted as error:
            self._fails(hook, str(error))
            raise TryAgain(str(error)) from None
        if not answered.is_success:
            reason = f"it answered {answered.status}"
            self._fails(hook, reason)
            raise TryAgain(reason, answered.retry_after_s)
        if hook.id in self._is_failing:
            self._is_failing.discard(hook.id)
            self.log.info("webhook {origin} takes events again", origin=hook.origin)
        self._is_dropping.discard(hook.id)
        if hook.id in self._is_full:
            self._is_full.discard(hook.id)
            self._wake()

    def _drops(self, hook: Webhook) -> None:
        if hook.id not in self._is_dropping:
            self._is_dropping.add(hook.id)
            self.log.warn(
                "{count} events wait for webhook {origin}: further ones that are not in the change feed are dropped",
                count=WAITING_EVENTS,
                origin=hook.origin,
            )

    def _fails(self, hook: Webhook, reason: str) -> None:
        if hook.id not in self._is_failing:
            self._is_failing.add(hook.id)
            self.log.warn(
                "webhook {origin} does not take events: {reason}; they are sent again later",
                origin=hook.origin,
                reason=reason,
            )


def _advance(hook: Webhook, changes: Sequence[Change], before: int, seen: int, writer: IndexWriter) -> tuple[int, int]:
    """Make tasks of as many changes as there is room for; give how far that goes, and how many they are."""
    room = MOST_WAITING - count_unended(writer.execute, hook.task_kind)
    taken = changes[: max(0, room)]
    moved_to = seen if len(taken) == len(changes) else taken[-1].id if taken else before
    if not followers.advance(writer.execute, hook.id, before, moved_to):
        return followers.positions(writer.execute).get(hook.id, seen), len(changes)  # another process was faster
    now = time.time_ns() // 1000
    for change in taken:
        delivery = uuid.uuid5(uuid.NAMESPACE_URL, f"{hook.url}#{change.id}.{change.happened_at}")
        _add(writer, hook, change.kind, str(delivery), json.loads(change.data), now)
    return moved_to, len(taken)


def _add(writer: IndexWriter, hook: Webhook, event: str, delivery: str, fields: dict[str, Any], now: int) -> None:
    timestamp = fields.pop("timestamp")
    body = json.dumps({"event": event, "timestamp": timestamp, "data": fields}, ensure_ascii=False)
    payload = {"event": event, "delivery": delivery, "body": body}
    add_task(writer.execute, hook.task_kind, f"{event} {delivery} to {hook.origin}", payload, now=now)
