"""
The rows of the durable task queue: what a transaction does to them. `pacs.tasks.queue` gives them their meaning.

A task is added within the transaction of the change that causes it (`add_task`), so that neither is there without the
other. Kind and key are unique among tasks that have not ended. Times are microseconds since 1970, UTC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pacs.archive.index.changes import timestamp_of

Execute = Callable[[str, Sequence[Any]], Any]
"""Runs a statement; gives its rows."""

REASON_CHARACTERS: Final = 256
PURGED_AT_ONCE: Final = 1000
COMPLETE: Final = 100


class TaskState(Enum):
    """What has become of a task."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNENDED: Final = (TaskState.WAITING, TaskState.RUNNING, TaskState.PAUSED)


@dataclass(frozen=True, slots=True)
class Task:
    """
    One task.

    Attributes:
        key: what it is about; unique with the kind until the task has ended.
        payload: what its handler needs; shown to nobody.
        progress: percent.
        attempts: how often it was begun.
        not_before: when it is begun next, if it waits.
        last_error: of the last attempt that failed, without patient data.
        aged_from: since when it is tried: since it was added, or somebody asked to try it again.
        lease_owner, lease_until: who runs it, and until when nobody else does.
    """

    id: int
    kind: str
    key: str
    payload: Mapping[str, Any]
    state: TaskState
    progress: int
    attempts: int
    not_before: int
    last_error: str
    created_at: int
    updated_at: int
    aged_from: int
    lease_owner: str | None
    lease_until: int | None

    def as_dict(self) -> dict[str, Any]:
        """Give it as people are shown it."""
        return {
            "id": self.id,
            "type": self.kind,
            "subject": self.key,
            "status": self.state.value,
            "progress": self.progress,
            "attempts": self.attempts,
            "last_error": self.last_error or None,
            "created_at": timestamp_of(self.created_at),
            "updated_at": timestamp_of(self.updated_at),
            "next_attempt_at": timestamp_of(self.not_before) if self.state is TaskState.WAITING else None,
        }


_COLUMNS: Final = (
    "id, kind, key, payload, state, progress, attempts, not_before, last_error, created_at, updated_at, aged_from,"
    " lease_owner, lease_until"
)
_UNENDED: Final = "state IN ('waiting', 'running', 'paused')"


def _task(row: Sequence[Any]) -> Task:
    return Task(row[0], row[1], row[2], json.loads(row[3]), TaskState(row[4]), *row[5:])


def add_task(
    execute: Execute, kind: str, key: str, payload: Mapping[str, Any], *, now: int, not_before: int | None = None
) -> int:
    """
    Add a task, or find the one of this kind and key that has not ended.

    Returns:
        its id. Whoever calls this wakes the queue when the transaction is committed.
    """
    rows = list(
        execute(
            "INSERT INTO tasks (kind, key, payload, state, not_before, created_at, updated_at, aged_from)"
            f" VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?) ON CONFLICT (kind, key) WHERE {_UNENDED} DO NOTHING"
            " RETURNING id",
            (kind, key, json.dumps(payload), now if not_before is None else not_before, now, now, now),
        )
    ) or list(execute(f"SELECT id FROM tasks WHERE kind = ? AND key = ? AND {_UNENDED}", (kind, key)))
    return int(rows[0][0])


def get_task(execute: Execute, task_id: int) -> Task | None:
    """Give a task, or None when there is none."""
    rows = list(execute(f"SELECT {_COLUMNS} FROM tasks WHERE id = ?", (task_id,)))
    return _task(rows[0]) if rows else None


def list_tasks(
    execute: Execute, *, state: TaskState | None, kind: str | None, limit: int, offset: int
) -> tuple[int, list[Task]]:
    """
    Give how many tasks there are and a part of them, the newest first; without their payloads, which may be long.

    Args:
        kind: kinds that begin with it and a slash are meant as well.
    """
    conditions: list[str] = ["1 = 1"]
    parameters: list[Any] = []
    if state is not None:
        conditions.append("state = ?")
        parameters.append(state.value)
    if kind is not None:
        conditions.append("(kind = ? OR (kind > ? AND kind < ?))")  # "0" is what comes after "/"
        parameters += [kind, f"{kind}/", f"{kind}0"]
    where = " AND ".join(conditions)
    total = int(next(iter(execute(f"SELECT count(*) FROM tasks WHERE {where}", parameters)))[0])
    columns = _COLUMNS.replace("payload", "'{}'")
    rows = execute(
        f"SELECT {columns} FROM tasks WHERE {where} ORDER BY id DESC LIMIT ? OFFSET ?", (*parameters, limit, offset)
    )
    return total, [_task(row) for row in rows]


def count_waiting(execute: Execute) -> int:
    """Give how many tasks wait."""
    return int(next(iter(execute("SELECT count(*) FROM tasks WHERE state = 'waiting'", ())))[0])


def count_unended(execute: Execute, kind: str) -> int:
    """Give how many tasks of a kind have not ended."""
    return int(next(iter(execute(f"SELECT count(*) FROM tasks WHERE kind = ? AND {_UNENDED}", (kind,))))[0])


def cancel_others(execute: Execute, prefix: str, kinds: Sequence[str], now: int) -> int:
    """Cancel the tasks whose kind begins with a prefix and is none of some; give how many."""
    marks = ", ".join("?" * len(kinds))
    rows = execute(
        "UPDATE tasks SET state = 'cancelled', lease_owner = NULL, lease_until = NULL, updated_at = ?"
        f" WHERE substr(kind, 1, ?) = ? AND kind NOT IN ({marks}) AND {_UNENDED} RETURNING id",
        (now, len(prefix), prefix, *kinds),
    )
    return len(list(rows))


def next_due(execute: Execute, kinds: Sequence[str], owner: str) -> int | None:
    """Give when the next task of some kinds can be begun, or None when there is none."""
    found: list[int] = []
    for kind in kinds:
        for statement, parameters in (
            ("SELECT min(not_before) FROM tasks WHERE state = 'waiting' AND kind = ?", (kind,)),
            (
                "SELECT min(lease_until) FROM tasks WHERE state = 'running' AND kind = ? AND lease_owner <> ?",
                (kind, owner),
            ),
        ):
            for (due,) in execute(statement, parameters):
                if due is not None:
                    found.append(int(due))
    return min(found, default=None)


def claim_tasks(execute: Execute, kind: str, *, owner: str, now: int, lease_until: int, limit: int) -> list[Task]:
    """Take tasks that are due, the longest waiting first, or whose lease has run out."""
    claimed: list[Task] = []
    for which, parameters in (
        ("state = 'waiting' AND kind = ? AND not_before <= ? ORDER BY not_before, id", (kind, now)),
        ("state = 'running' AND kind = ? AND lease_until <= ? AND lease_owner <> ? ORDER BY id", (kind, now, owner)),
    ):
        rows = execute(
            "UPDATE tasks SET state = 'running', attempts = attempts + 1, lease_owner = ?, lease_until = ?,"
            f" updated_at = ? WHERE id IN (SELECT id FROM tasks WHERE {which} LIMIT ?) RETURNING {_COLUMNS}",
            (owner, lease_until, now, *parameters, limit - len(claimed)),
        )
        claimed += sorted((_task(row) for row in rows), key=lambda task: (task.not_before, task.id))
    return claimed


def renew_leases(execute: Execute, owner: str, lease_until: int) -> set[int]:
    """Go on running what an owner runs; give the ids that are still its own."""
    rows = execute(
        "UPDATE tasks SET lease_until = ? WHERE state = 'running' AND lease_owner = ? RETURNING id",
        (lease_until, owner),
    )
    return {int(row[0]) for row in rows}


def release_leases(execute: Execute, owner: str, now: int) -> int:
    """Let what an owner has begun wait again; give how many."""
    rows = execute(
        "UPDATE tasks SET state = 'waiting', lease_owner = NULL, lease_until = NULL, updated_at = ?"
        " WHERE state = 'running' AND lease_owner = ? RETURNING id",
        (now, owner),
    )
    return len(list(rows))


def leave_task(
    execute: Execute,
    task: Task,
    state: TaskState,
    *,
    owner: str,
    now: int,
    reason: str = "",
    not_before: int | None = None,
) -> bool:
    """
    End an attempt, if the task is still its owner's and has not been begun anew.

    Args:
        reason: why it did not succeed.
        not_before: of the next attempt.
    """
    rows = execute(
        "UPDATE tasks SET state = ?, last_error = CASE WHEN ? = '' THEN last_error ELSE ? END,"
        " not_before = coalesce(?, not_before), progress = CASE WHEN ? = 'done' THEN ? ELSE progress END,"
        " lease_owner = NULL, lease_until = NULL, updated_at = ?"
        " WHERE id = ? AND state = 'running' AND lease_owner = ? AND attempts = ? RETURNING id",
        (
            state.value,
            reason,
            reason[:REASON_CHARACTERS],
            not_before,
            state.value,
            COMPLETE,
            now,
            task.id,
            owner,
            task.attempts,
        ),
    )
    return bool(list(rows))


def note_progress(execute: Execute, task_id: int, percent: int, now: int) -> None:
    """Note how far a running task is."""
    execute(
        "UPDATE tasks SET progress = ?, updated_at = ? WHERE id = ? AND state = 'running'",
        (max(0, min(COMPLETE, percent)), now, task_id),
    )


def set_state(execute: Execute, task_id: int, state: TaskState, now: int) -> None:
    """Have a task stop, pause or go on; whoever runs it finds out when it renews its lease."""
    execute(
        "UPDATE tasks SET state = ?, not_before = CASE WHEN ? = 'waiting' THEN ? ELSE not_before END,"
        " aged_from = CASE WHEN ? = 'waiting' THEN ? ELSE aged_from END,"
        " lease_owner = NULL, lease_until = NULL, updated_at = ? WHERE id = ?",
        (state.value, state.value, now, state.value, now, now, task_id),
    )


def find_unended(execute: Execute, kind: str, key: str) -> Task | None:
    """Give the task of this kind and key that has not ended, or None when there is none."""
    rows = list(execute(f"SELECT {_COLUMNS} FROM tasks WHERE kind = ? AND key = ? AND {_UNENDED}", (kind, key)))
    return _task(rows[0]) if rows else None


def hasten_task(execute: Execute, task_id: int, now: int) -> None:
    """Let a task that waits be tried now."""
    execute("UPDATE tasks SET not_before = ? WHERE id = ? AND state = 'waiting'", (now, task_id))


def purge_tasks(execute: Execute, kind: str, states: Sequence[TaskState], before: int) -> int:
    """Remove old tasks that have ended; give how many, `PURGED_AT_ONCE` at most."""
    marks = ", ".join("?" * len(states))
    rows = execute(
        f"DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE kind = ? AND state IN ({marks})"
        " AND updated_at < ? LIMIT ?) RETURNING id",
        (kind, *(state.value for state in states), before, PURGED_AT_ONCE),
    )
    return len(list(rows))
