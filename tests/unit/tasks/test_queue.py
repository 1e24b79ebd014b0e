"""
The durable queue on a real index: who runs a task, how often, and what remains of it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pacs.archive.errors import StorageFull
from pacs.archive.feed import note_events
from pacs.archive.index.changes import changes_in_thread
from pacs.archive.index.database import connect_writer, migrate
from pacs.archive.index.tasks import Task, TaskState, add_task
from pacs.archive.index.writer import IndexWriter
from pacs.events import Event, EventBus, HealthChanged
from pacs.monitoring.metrics import Metrics
from pacs.tasks.kinds import GiveUp, Handler, Policy, TryAgain
from pacs.tasks.queue import (
    LEASE_S,
    LOOK_INTERVAL_S,
    PURGE_INTERVAL_S,
    NoSuchTask,
    NotPossible,
    TaskQueue,
)

T = TypeVar("T")
START_S = 1_800_000_000.0
MINUTE_S = 60.0
DAY_S = 86400.0


class Index:
    """
    An index, read and written at once.

    Attributes:
        is_full: it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.is_full = False
        self.bus = EventBus(reactor=Clock())  # type: ignore[arg-type]
        self.writer = IndexWriter(connect_writer(path), conflict_noticed=lambda: None)

    async def change(
        self,
        function: Callable[[IndexWriter], T],
        *,
        events: Callable[[T], Sequence[Event]] | None = None,
        is_durable: bool = True,
    ) -> T:
        if self.is_full:
            raise StorageFull("storage full")
        self.writer.begin()
        try:
            result = function(self.writer)
            if events is not None:
                note_events(self.writer, events(result))
        except BaseException:
            self.writer.rollback()
            raise
        self.writer.commit()
        return result

    async def run(self, function: Callable[[sqlite3.Connection], Any]) -> Any:
        return function(self.writer._connection)


def result_of(coroutine: Any) -> Any:
    """Give what a coroutine that waits for nothing returns, or raise what it raises."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    assert results, "it waits"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


class Process:
    """One of the processes that share the index."""

    def __init__(self, index: Index, clock: Clock, owner: str = "one") -> None:
        self.metrics = Metrics()
        self.queue = TaskQueue(
            change=index.change,
            run=index.run,
            owner=owner,
            bus=index.bus,
            metrics=self.metrics,
            now_s=lambda: START_S + clock.seconds(),
            clock=clock,
        )

    def start(self, handler: Handler, policy: Policy | None = None, kind: str = "kind") -> TaskQueue:
        self.queue.handle(kind, handler, policy)
        result_of(self.queue.start())
        return self.queue

    def stop(self) -> None:
        result_of(self.queue.stop())


class Work:
    """A handler that notes its tasks and waits to be told how each ends."""

    def __init__(self) -> None:
        self.begun: list[Task] = []
        self.ends: list[Deferred[None]] = []

    async def __call__(self, task: Task) -> None:
        self.begun.append(task)
        end: Deferred[None] = Deferred()
        self.ends.append(end)
        await end

    @property
    def keys(self) -> list[str]:
        return [task.key for task in self.begun]


@pytest.fixture(scope="module")
def empty_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "index.db"
    migrate(path)
    return path


@pytest.fixture
def index(tmp_path: Path, empty_index: Path) -> Iterator[Index]:
    index = Index(Path(shutil.copy(empty_index, tmp_path)))
    yield index
    index.writer.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def add(queue: TaskQueue, key: str = "key", kind: str = "kind", **more: Any) -> int:
    return int(result_of(queue.add(kind, key, {"about": key}, **more)))


def state_of(queue: TaskQueue, task_id: int) -> TaskState:
    task: Task = result_of(queue.get(task_id))
    return task.state


def test_a_task_is_run_with_its_payload_and_ends_as_done(index: Index, clock: Clock) -> None:
    work = Work()
    process = Process(index, clock)
    queue = process.start(work)
    task_id = add(queue)
    assert [task.payload for task in work.begun] == [{"about": "key"}]
    assert state_of(queue, task_id) is TaskState.RUNNING
    work.ends[0].callback(None)
    task: Task = result_of(queue.get(task_id))
    assert (task.state, task.attempts, task.progress, task.lease_owner) == (TaskState.DONE, 1, 100, None)
    shown = task.as_dict()
    assert shown["created_at"] == "2027-01-15T08:00:00Z"
    assert (shown["type"], shown["status"], shown["last_error"]) == ("kind", "done", None)
    assert b'pacs_task_attempts_total{kind="kind",outcome="done"} 1.0' in process.metrics.text()


def test_kind_and_key_are_one_task_until_it_has_ended(index: Index, clock: Clock) -> None:
    work = Work()
    queue = Process(index, clock).start(work)
    first = add(queue)
    assert add(queue) == first
    work.ends[0].callback(None)
    second = add(queue)
    assert second > first
    assert len(work.begun) == 2


def test_a_task_waits_until_it_may_be_run(index: Index, clock: Clock) -> None:
    work = Work()
    queue = Process(index, clock).start(work)
    add(queue, not_before_s=START_S + 25)
    for _ in range(24):
        clock.advance(1)
    assert not work.begun
    clock.advance(1)
    assert work.keys == ["key"]


def test_a_task_added_within_a_transaction_is_there_or_not_as_the_rest_of_it(index: Index, clock: Clock) -> None:
    work = Work()
    queue = Process(index, clock).start(work)
    now = int(START_S * 1e6)

    def change(writer: IndexWriter) -> None:
        add_task(writer.execute, "kind", "dropped", {}, now=now)
        raise ValueError("the rest fails")

    with pytest.raises(ValueError, match="the rest fails"):
        result_of(index.change(change))
    result_of(index.change(lambda writer: add_task(writer.execute, "kind", "kept", {}, now=now)))
    queue.wake()
    assert work.keys == ["kept"]


def test_no_more_tasks_are_run_at_once_than_the_kind_allows(index: Index, clock: Clock) -> None:
    work = Work()
    queue = Process(index, clock).start(work, Policy(concurrency=2))
    for number in range(5):
        add(queue, f"key{number}")
    assert work.keys == ["key0", "key1"]
    work.ends[1].callback(None)
    assert work.keys == ["key0", "key1", "key2"]
    for end in (0, 2, 3, 4):
        work.ends[end].callback(None)
    assert result_of(queue.list(TaskState.DONE))[0] == 5


def test_a_failed_attempt_comes_back_later_and_later_until_the_task_is_too_old(index: Index, clock: Clock) -> None:
    attempts: list[float] = []

    async def refuse(_: Task) -> None:
        attempts.append(clock.seconds())
        raise TryAgain("the peer is away")

    policy = Policy(first_delay_s=10, longest_delay_s=300, give_up_after_s=3600)
    queue = Process(index, clock).start(refuse, policy)
    task_id = add(queue)
    waiting: Task = result_of(queue.get(task_id))
    assert (waiting.state, waiting.last_error) == (TaskState.WAITING, "the peer is away")
    clock.pump([1.0] * 4000)
    delays = [later - earlier for earlier, later in pairwise(attempts)]
    assert all(8 <= delay <= 13 for delay in delays[:1])
    assert all(240 <= delay <= 361 for delay in delays[6:])
    failed: Task = result_of(queue.get(task_id))
    assert (failed.state, failed.attempts, failed.last_error) == (TaskState.FAILED, len(attempts), "the peer is away")
    assert attempts[-1] <= 3600


def test_a_handler_says_when_to_try_again(index: Index, clock: Clock) -> None:
    attempts: list[float] = []

    async def refuse(_: Task) -> None:
        attempts.append(clock.seconds())
        raise TryAgain("busy", after_s=77)

    add(Process(index, clock).start(refuse))
    clock.pump([1.0] * 80)
    assert attempts == [0.0, 77.0]


def test_what_is_given_up_is_failed_at_once_and_can_be_retried(index: Index, clock: Clock) -> None:
    outcomes: list[Exception | None] = [GiveUp("no such node"), None]

    async def handler(_: Task) -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    queue = Process(index, clock).start(handler)
    task_id = add(queue)
    assert state_of(queue, task_id) is TaskState.FAILED
    assert result_of(queue.get(task_id)).last_error == "no such node"
    clock.advance(DAY_S)
    result_of(queue.retry(task_id))
    assert state_of(queue, task_id) is TaskState.DONE
    with pytest.raises(NotPossible, match="the task is done"):
        result_of(queue.retry(task_id))


def test_a_failed_task_is_not_retried_beside_another_for_the_same(index: Index, clock: Clock) -> None:
    async def handler(_: Task) -> None:
        raise GiveUp("never")

    queue = Process(index, clock).start(handler)
    failed = add(queue)
    waiting = add(queue, not_before_s=START_S + DAY_S)
    assert waiting != failed
    with pytest.raises(NotPossible, match="another task"):
        result_of(queue.retry(failed))


def test_an_unexpected_failure_is_tried_again_and_its_words_are_not_shown(index: Index, clock: Clock) -> None:
    async def handler(_: Task) -> None:
        raise RuntimeError("Doe^Jane")

    queue = Process(index, clock).start(handler)
    task: Task = result_of(queue.get(add(queue)))
    assert (task.state, task.last_error) == (TaskState.WAITING, "internal error, see the server's log")


def test_an_attempt_that_takes_too_long_has_failed(index: Index, clock: Clock) -> None:
    work = Work()
    queue = Process(index, clock).start(work, Policy(attempt_timeout_s=30))
    task_id = add(queue)
    clock.advance(31)
    assert result_of(queue.get(task_id)).last_error == "not done within 30 s"
    assert state_of(queue, task_id) is TaskState.WAITING


@pytest.mark.parametrize("how", ["cancel", "pause"])
def test_a_running_task_is_interrupted_and_can_go_on_later(index: Index, clock: Clock, how: str) -> None:
    work = Work()
    queue = Process(index, clock).start(work)
    task_id = add(queue)
    result_of(getattr(queue, how)(task_id))
    assert work.ends[0].called, "the handler goes on"
    clock.advance(MINUTE_S)
    assert len(work.begun) == 1
    result_of(queue.retry(task_id) if how == "cancel" else queue.resume(task_id))
    work.ends[1].callback(None)
    assert state_of(queue, task_id) is TaskState.DONE


def test_what_the_state_does_not_allow_is_refused(index: Index, clock: Clock) -> None:
    work = Work()
    queue = Process(index, clock).start(work)
    task_id = add(queue)
    with pytest.raises(NotPossible, match="running"):
        result_of(queue.resume(task_id))
    work.ends[0].callback(None)
    for refused in (queue.cancel, queue.pause, queue.resume):
        with pytest.raises(NotPossible, match="done"):
            result_of(refused(task_id))
    with pytest.raises(NoSuchTask):
        result_of(queue.cancel(task_id + 1))
    with pytest.raises(NoSuchTask):
        result_of(queue.get(task_id + 1))


def test_tasks_of_a_process_that_died_are_taken_when_their_lease_has_run_out(index: Index, clock: Clock) -> None:
    dead_clock, first, second = Clock(), Work(), Work()
    task_id = add(Process(index, dead_clock, "dead").start(first))
    queue = Process(index, clock, "alive").start(second)
    clock.pump([1.0] * int(LEASE_S - 1))
    assert not second.begun
    clock.pump([1.0] * int(LOOK_INTERVAL_S + 1))
    assert second.keys == ["key"]
    first.ends[0].callback(None)  # it was not dead: what it thinks of the task no longer counts
    assert state_of(queue, task_id) is TaskState.RUNNING
    second.ends[0].callback(None)
    assert state_of(queue, task_id) is TaskState.DONE


def test_a_lease_is_renewed_while_the_task_runs(index: Index, clock: Clock) -> None:
    first, second = Work(), Work()
    queue = Process(index, clock, "one").start(first)
    Process(index, clock, "other").start(second)
    task_id = add(queue)
    clock.pump([1.0] * int(5 * LEASE_S))
    assert not second.begun
    first.ends[0].callback(None)
    assert state_of(queue, task_id) is TaskState.DONE


def test_a_task_cancelled_by_another_process_is_interrupted(index: Index, clock: Clock) -> None:
    work = Work()
    queue = Process(index, clock, "one").start(work)
    other = Process(index, clock, "other").start(Work())
    task_id = add(queue)
    result_of(other.cancel(task_id))
    assert not work.ends[0].called
    clock.pump([1.0] * int(LEASE_S))
    assert work.ends[0].called
    assert state_of(queue, task_id) is TaskState.CANCELLED


def test_two_processes_do_each_task_once(index: Index, clock: Clock) -> None:
    first, second = Work(), Work()
    queue = Process(index, clock, "one").start(first, Policy(concurrency=3))
    Process(index, clock, "other").start(second, Policy(concurrency=3))
    for number in range(6):
        add(queue, f"key{number}")
    clock.advance(LOOK_INTERVAL_S)
    assert sorted(first.keys + second.keys) == [f"key{number}" for number in range(6)]
    assert len(first.keys) == len(second.keys) == 3


def test_a_start_takes_up_at_once_what_the_last_run_had_begun(index: Index, clock: Clock) -> None:
    add(Process(index, Clock()).start(Work()))
    work = Work()
    Process(index, clock).start(work)
    assert work.keys == ["key"]
    assert work.begun[0].attempts == 2


def test_a_stop_interrupts_what_runs_and_leaves_it_for_the_next_start(index: Index, clock: Clock) -> None:
    work = Work()
    process = Process(index, clock)
    task_id = add(process.start(work))
    process.stop()
    assert work.ends[0].called
    assert state_of(process.queue, task_id) is TaskState.WAITING
    assert not clock.getDelayedCalls()


def test_a_task_whose_end_could_not_be_noted_is_run_again(index: Index, clock: Clock) -> None:
    """The disk is full for a while, and other tasks run meanwhile, which renew the leases."""
    work = Work()
    queue = Process(index, clock).start(work)
    task_id = add(queue, "first")
    add(queue, "second")
    index.is_full = True
    work.ends[0].callback(None)
    clock.pump([1.0] * 30)
    assert work.keys == ["first", "second"]
    index.is_full = False
    clock.pump([1.0] * 30)
    assert work.keys == ["first", "second", "first"]
    work.ends[2].callback(None)
    assert state_of(queue, task_id) is TaskState.DONE


def test_what_nobody_handles_stays(index: Index, clock: Clock) -> None:
    queue = Process(index, clock).start(Work())
    task_id = add(queue, kind="of a later version")
    clock.advance(DAY_S)
    assert state_of(queue, task_id) is TaskState.WAITING


def test_ended_tasks_are_removed_after_their_time_failed_ones_later(index: Index, clock: Clock) -> None:
    async def handler(task: Task) -> None:
        if task.key == "bad":
            raise GiveUp("bad")

    queue = Process(index, clock).start(handler, Policy(keeps_done_s=DAY_S, keeps_failed_s=3 * DAY_S))
    add(queue, "good")
    add(queue, "bad")
    clock.advance(DAY_S - PURGE_INTERVAL_S)
    assert result_of(queue.list())[0] == 2
    clock.advance(2 * PURGE_INTERVAL_S)
    total, left = result_of(queue.list())
    assert (total, [task.key for task in left]) == (1, ["bad"])
    clock.advance(3 * DAY_S)
    assert result_of(queue.list())[0] == 0


def test_a_list_is_filtered_and_cut(index: Index, clock: Clock) -> None:
    queue = Process(index, clock).start(Work(), Policy(concurrency=1))
    add(queue, "a")
    add(queue, "b")
    add(queue, "c", kind="other")
    assert [task.key for task in result_of(queue.list())[1]] == ["c", "b", "a"]
    assert [task.key for task in result_of(queue.list(TaskState.RUNNING))[1]] == ["a"]
    total, page = result_of(queue.list(kind="kind", limit=1, offset=1))
    assert (total, [task.key for task in page]) == (2, ["a"])


def test_progress_is_noted_while_a_task_runs(index: Index, clock: Clock) -> None:
    work = Work()
    queue = Process(index, clock).start(work)
    task_id = add(queue)
    result_of(queue.note_progress(work.begun[0], 40))
    assert result_of(queue.get(task_id)).progress == 40


def health(component: str) -> HealthChanged:
    return HealthChanged(component=component, health="healthy", reason="")


def test_the_events_of_an_end_are_noted_with_it_and_once(index: Index, clock: Clock) -> None:
    published: list[str] = []
    index.bus.subscribe(HealthChanged, lambda event: published.append(event.component))

    async def handler(task: Task) -> list[Event]:
        if task.attempts == 1:
            raise TryAgain("not yet")
        if task.key == "bad":
            raise GiveUp("never")
        return [health(f"done {task.key}")]

    queue = Process(index, clock).queue
    queue.handle("kind", handler, failed=lambda task, reason: [health(f"{reason} {task.key}")])
    result_of(queue.start())
    add(queue, "good")
    add(queue, "bad")
    clock.pump([1.0] * 10)
    result_of(queue.cancel(add(queue, "unwanted", not_before_s=START_S + DAY_S)))
    noted = [change.data for change in result_of(index.run(lambda connection: changes_in_thread(connection, 0, 10)))]
    assert sorted(published) == ["canceled by an operator unwanted", "done good", "never bad"]
    assert len(noted) == 3
    assert all(any(name in data for data in noted) for name in published)
