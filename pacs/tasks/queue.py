"""
The durable task queue: what the server still has to do for others, kept in the index, done at least once.

A task is run by one process at a time, which holds a lease on it and renews it; when the process dies the lease runs
out, and another one, or the next start, takes the task. An attempt that does not succeed is repeated with back-off
until the task is too old; then it stays visible as failed. A handler must bear being called again for what it has done
already.

`pacs.archive.index.tasks` has the statements; this module knows when to run them. Starting, ending and renewing an
attempt need not survive a power cut, because an attempt that is forgotten is made again; adding a task does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.errors import ArchiveError
from pacs.archive.index import tasks as rows
from pacs.archive.index.tasks import Task, TaskState
from pacs.archive.index.writer import IndexWriter
from pacs.events import Event, EventBus
from pacs.monitoring.metrics import Metrics
from pacs.tasks.kinds import Events, Failed, GiveUp, Handler, Kind, Policy, TryAgain
from pacs.tasks.periodically import Periodically

LEASE_S: Final = 60.0
RENEW_INTERVAL_S: Final = LEASE_S / 4
LOOK_INTERVAL_S: Final = 10.0
"""Another process may have added or left a task; what this one does it learns at once."""

PURGE_INTERVAL_S: Final = 3600.0
_MICROSECONDS: Final = 1_000_000

T = TypeVar("T")
Page = tuple[int, list[Task]]


class NoSuchTask(Exception):
    """There is no task with this id."""


class NotPossible(Exception):
    """The task's state does not allow it; the message says which it has."""


class Change(Protocol):
    """Runs a function with the index's writer, as `Archive.change`."""

    async def __call__(
        self,
        function: Callable[[IndexWriter], T],
        *,
        events: Callable[[T], Sequence[Event]] | None = None,
        is_durable: bool = True,
    ) -> T: ...


class TaskQueue:
    """
    The queue, as one process sees it.

    Args:
        change: writes the index.
        run: reads it, in a thread.
        owner: the name of this process among those that share the index; the same after a restart.
        now_s: the time of day, seconds since 1970.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        change: Change,
        run: Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]],
        owner: str,
        bus: EventBus,
        metrics: Metrics,
        now_s: Callable[[], float],
        clock: IReactorTime,
    ) -> None:
        self._change = change
        self._run = run
        self._owner = owner
        self._now_s = now_s
        self._clock = clock
        self._bus = bus
        self._metrics = metrics
        self._kinds: dict[str, Kind] = {}
        self._running: dict[int, tuple[str, Deferred[Any]]] = {}
        self._unnoted: list[Task] = []
        self._is_started = False
        self._is_looking = False
        self._looks_again = False
        self._looking: Deferred[None] = succeed(None)
        self._timer: IDelayedCall | None = None
        self._calls = [
            Periodically("counting tasks", self._count, LOOK_INTERVAL_S, clock=clock, log=self.log),
            Periodically("taking tasks back", self._take_back, LOOK_INTERVAL_S, clock=clock, log=self.log),
            Periodically("renewing leases", self._renew, RENEW_INTERVAL_S, clock=clock, log=self.log),
            Periodically("removing old tasks", self._purge, PURGE_INTERVAL_S, clock=clock, log=self.log),
        ]

    # -- what others use

    def handle(
        self, kind: str, handler: Handler, policy: Policy | None = None, *, failed: Failed = lambda *_: ()
    ) -> None:
        """Have tasks of a kind done; before the queue is started."""
        self._kinds[kind] = Kind(handler, policy or Policy(), failed)

    async def add(self, kind: str, key: str, payload: Mapping[str, Any], not_before_s: float | None = None) -> int:
        """
        Add a task; it is durable when this returns.

        Args:
            key: unique with the kind among tasks that have not ended; the one that is there already stays as it is.
            not_before_s: seconds since 1970.

        Returns:
            its id.
        """
        not_before = None if not_before_s is None else int(not_before_s * _MICROSECONDS)
        now = self._now()
        task_id = await self._change(
            lambda writer: rows.add_task(writer.execute, kind, key, payload, now=now, not_before=not_before)
        )
        self.wake()
        return task_id

    def wake(self) -> None:
        """Look for tasks; for whoever has added one within a transaction of its own (`add_task`)."""
        if not self._is_started:
            return
        if self._is_looking:
            self._looks_again = True
            return
        self._is_looking = True
        self._looking = Deferred.fromCoroutine(self._look())
        self._looking.addErrback(self._look_failed).addCallback(self._looked)

    async def list(
        self, state: TaskState | None = None, kind: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Page:
        """Give how many tasks there are and a part of them, the newest first, without their payloads."""
        found: Page = await self._run(
            lambda connection: rows.list_tasks(connection.execute, state=state, kind=kind, limit=limit, offset=offset)
        )
        return found

    async def get(self, task_id: int) -> Task:
        """
        Give a task.

        Raises:
            NoSuchTask: there is none.
        """
        task: Task | None = await self._run(lambda connection: rows.get_task(connection.execute, task_id))
        if task is None:
            raise NoSuchTask(f"there is no task {task_id}")
        return task

    async def note_progress(self, task: Task, percent: int) -> None:
        """Note how far a running task is."""
        now = self._now()
        await self._change(lambda writer: rows.note_progress(writer.execute, task.id, percent, now), is_durable=False)

    async def retry(self, task_id: int) -> Task:
        """
        Try a task now, whether it waits, has failed or was cancelled; its age begins anew.

        Raises:
            NoSuchTask, NotPossible: it is running, paused or done, or there is another one for the same.
        """
        return await self._set(task_id, TaskState.WAITING, (TaskState.WAITING, TaskState.FAILED, TaskState.CANCELLED))

    async def cancel(self, task_id: int) -> Task:
        """
        Give a task up; one that runs is interrupted.

        Raises:
            NoSuchTask, NotPossible: it has ended.
        """
        return await self._set(task_id, TaskState.CANCELLED, rows.UNENDED)

    async def pause(self, task_id: int) -> Task:
        """
        Leave a task alone until it is resumed; one that runs is interrupted.

        Raises:
            NoSuchTask, NotPossible: it has ended.
        """
        return await self._set(task_id, TaskState.PAUSED, rows.UNENDED)

    async def resume(self, task_id: int) -> Task:
        """
        Go on with a paused task.

        Raises:
            NoSuchTask, NotPossible: it is not paused.
        """
        return await self._set(task_id, TaskState.WAITING, (TaskState.PAUSED,))

    # -- life

    async def start(self) -> None:
        """Take up what an earlier run of this process had begun, then whatever is due."""
        now = self._now()
        left = await self._change(lambda writer: rows.release_leases(writer.execute, self._owner, now))
        if left:
            self.log.info("{count} tasks that an earlier run had begun are taken up again", count=left)
        self._is_started = True
        for call in self._calls:
            call.start()
        self.wake()

    async def stop(self) -> None:
        """Interrupt what runs, and let it wait for the next start."""
        if not self._is_started:
            return
        self._is_started = False
        for call in self._calls:
            call.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        looked: Deferred[None] = Deferred()
        self._looking.addCallback(looked.callback)
        await looked
        for _, attempt in list(self._running.values()):
            attempt.cancel()
        now = self._now()
        await self._change(lambda writer: rows.release_leases(writer.execute, self._owner, now))

    # -- within

    def _now(self) -> int:
        return int(self._now_s() * _MICROSECONDS)

    async def _set(self, task_id: int, state: TaskState, from_states: tuple[TaskState, ...]) -> Task:
        now = self._now()

        def in_transaction(writer: IndexWriter) -> Task:
            task = rows.get_task(writer.execute, task_id)
            if task is None:
                raise NoSuchTask(f"there is no task {task_id}")
            if task.state not in from_states:
                raise NotPossible(f"the task is {task.state.value}")
            if task.state not in rows.UNENDED and rows.find_unended(writer.execute, task.kind, task.key):
                raise NotPossible("there is another task for the same that has not ended")
            rows.set_state(writer.execute, task_id, state, now)
            changed = rows.get_task(writer.execute, task_id)
            assert changed is not None
            return changed

        events: list[Event] = []

        def given_up(changed: Task) -> Events:
            kind = self._kinds.get(changed.kind)
            if state is TaskState.CANCELLED and kind is not None:
                events.extend(kind.failed(changed, "canceled by an operator"))
            return events

        changed = await self._change(in_transaction, events=given_up)
        self._interrupt(task_id)
        if events:
            self._bus.publish_all(events)
        self.wake()
        return changed

    def _interrupt(self, task_id: int) -> None:
        found = self._running.get(task_id)
        if found is not None:
            found[1].cancel()

    async def _look(self) -> None:
        """Begin whatever is due and there is room for; come back when the next is due."""
        self._looks_again = True
        while self._looks_again and self._is_started:
            self._looks_again = False
            kinds = tuple(kind for kind in self._kinds if self._room(kind) > 0)
            due: int | None = await self._run(partial(_next_due, kinds, self._owner))
            now = self._now()
            if due is not None and due <= now:
                await self._claim(kinds, now)
                self._looks_again = True
            elif due is not None:
                self._come_back((due - now) / _MICROSECONDS)

    async def _claim(self, kinds: Sequence[str], now: int) -> None:
        rooms = [(kind, self._room(kind)) for kind in kinds]
        lease_until = now + int(LEASE_S * _MICROSECONDS)

        def in_transaction(writer: IndexWriter) -> Sequence[Task]:
            claim = partial(rows.claim_tasks, writer.execute, owner=self._owner, now=now, lease_until=lease_until)
            return [task for kind, limit in rooms for task in claim(kind, limit=limit)]

        for task in await self._change(in_transaction, is_durable=False):
            self._begin(task)

    def _room(self, kind: str) -> int:
        busy = sum(running == kind for running, _ in self._running.values())
        return self._kinds[kind].policy.concurrency - busy

    def _come_back(self, after_s: float) -> None:
        after_s = min(after_s, LOOK_INTERVAL_S)
        if self._timer is not None and self._timer.active():
            self._timer.reset(after_s)
        else:
            self._timer = self._clock.callLater(after_s, self.wake)

    def _look_failed(self, failure: Failure) -> None:
        if failure.check(ArchiveError):
            self.log.warn("tasks can't be looked for: {reason}", reason=failure.getErrorMessage())
        else:
            self.log.failure("tasks can't be looked for", failure)
        if self._is_started:
            self._come_back(LOOK_INTERVAL_S)

    def _looked(self, _: None) -> None:
        self._is_looking = False
        if self._looks_again:
            self.wake()

    def _begin(self, task: Task) -> None:
        kind = self._kinds[task.kind]
        attempt: Deferred[Any] = Deferred.fromCoroutine(_as_coroutine(kind.handler, task))
        attempt.addTimeout(kind.policy.attempt_timeout_s, self._clock, onTimeoutCancel=_timed_out)
        self._running[task.id] = (task.kind, attempt)
        attempt.addBoth(self._attempted, task, kind)
        attempt.addBoth(self._forget, task, attempt)

    def _attempted(self, result: Events | Failure | None, task: Task, kind: Kind) -> Deferred[None] | None:
        """Note how an attempt ended; an interrupted one is noted by whoever interrupted it."""
        if not isinstance(result, Failure):
            return self._leave(task, TaskState.DONE, events=result or ())
        if result.check(CancelledError):
            return None
        reason = result.getErrorMessage()
        if not result.check(GiveUp, TryAgain, ArchiveError):
            self.log.failure("task {task_id} ({kind}) failed", result, task_id=task.id, kind=task.kind)
            reason = "internal error, see the server's log"
        policy = kind.policy
        after_s = getattr(result.value, "after_s", None)
        not_before = self._now() + int((policy.delay_s(task.attempts) if after_s is None else after_s) * _MICROSECONDS)
        if result.check(GiveUp) or not_before > task.aged_from + policy.give_up_after_s * _MICROSECONDS:
            self.log.error(
                "task {task_id} ({kind}) is given up after {attempts} attempts: {reason}",
                task_id=task.id,
                kind=task.kind,
                attempts=task.attempts,
                reason=reason,
            )
            return self._leave(task, TaskState.FAILED, reason=reason, events=kind.failed(task, reason))
        return self._leave(task, TaskState.WAITING, reason=reason, not_before=not_before)

    def _leave(
        self,
        task: Task,
        state: TaskState,
        *,
        reason: str = "",
        not_before: int | None = None,
        events: Events = (),
    ) -> Deferred[None]:
        self._metrics.task_attempts_total.labels(kind=task.kind, outcome=state.value).inc()
        now = self._now()

        def in_transaction(writer: IndexWriter) -> bool:
            return rows.leave_task(
                writer.execute, task, state, owner=self._owner, now=now, reason=reason, not_before=not_before
            )

        async def leave() -> None:
            is_ours = await self._change(
                in_transaction, events=lambda is_ours: events if is_ours else (), is_durable=bool(events)
            )
            if is_ours and events:
                self._bus.publish_all(events)

        return Deferred.fromCoroutine(leave())

    def _forget(self, result: Failure | None, task: Task, attempt: Deferred[Any]) -> None:
        if isinstance(result, Failure) and not result.check(CancelledError):
            self.log.failure("the end of task {task_id} could not be noted; it is run again", result, task_id=task.id)
            self._unnoted.append(task)
        found = self._running.get(task.id)
        if found is not None and found[1] is attempt:
            del self._running[task.id]
        self.wake()

    # -- from time to time

    async def _count(self) -> None:
        waiting = await self._run(lambda connection: rows.count_waiting(connection.execute))
        self._metrics.queue_depth.labels(queue="tasks").set(waiting)
        self.wake()

    async def _take_back(self) -> None:
        """Let tasks wait again whose end could not be noted: to the index they still run, and are renewed as such."""
        unnoted, now = tuple(self._unnoted), self._now()
        if not unnoted:
            return

        def in_transaction(writer: IndexWriter) -> None:
            for task in unnoted:
                rows.leave_task(writer.execute, task, TaskState.WAITING, owner=self._owner, now=now)

        await self._change(in_transaction, is_durable=False)
        del self._unnoted[: len(unnoted)]
        self.wake()

    async def _renew(self) -> None:
        """Go on holding what runs; interrupt what is no longer ours."""
        if not self._running:
            return
        until = self._now() + int(LEASE_S * _MICROSECONDS)
        before = set(self._running)
        held = await self._change(
            lambda writer: rows.renew_leases(writer.execute, self._owner, until), is_durable=False
        )
        for task_id in before - held:
            self._interrupt(task_id)

    async def _purge(self) -> None:
        now = self._now()
        for kind, of_kind in self._kinds.items():
            policy = of_kind.policy
            for states, kept_s in (
                ((TaskState.DONE, TaskState.CANCELLED), policy.keeps_done_s),
                ((TaskState.FAILED,), policy.keeps_failed_s),
            ):
                before = now - int(kept_s * _MICROSECONDS)
                purge = partial(_purge, kind, states, before)
                while await self._change(purge, is_durable=False) >= rows.PURGED_AT_ONCE:
                    pass


def _next_due(kinds: Sequence[str], owner: str, connection: sqlite3.Connection) -> int | None:
    return rows.next_due(connection.execute, kinds, owner)


def _purge(kind: str, states: tuple[TaskState, ...], before: int, writer: IndexWriter) -> int:
    return rows.purge_tasks(writer.execute, kind, states, before)


async def _as_coroutine(handler: Handler, task: Task) -> Events | None:
    return await handler(task)


def _timed_out(_: object, timeout_s: float) -> None:
    raise TryAgain(f"not done within {timeout_s:g} s")
