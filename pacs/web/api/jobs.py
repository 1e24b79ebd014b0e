"""
`/api/v1/jobs`: what the server still has to do for others, has done, or has given up; shown and controlled.

Those that were given up are the dead letters: `?status=failed`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from pacs.archive.index.tasks import Task, TaskState
from pacs.security.access import Operation
from pacs.tasks.queue import NoSuchTask, NotPossible, TaskQueue
from pacs.web.answers import Answer, one, page, plain
from pacs.web.errors import HTTPError
from pacs.web.routes import PAGING, Call, Route, list_schema
from pacs.web.schema import Parameter, choice, integer

PATH: Final = "/api/v1/jobs"
LARGEST_ID: Final = 2**62

_TIME: Final = {"type": "string", "format": "date-time"}
JOB: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "type", "subject", "status", "progress", "attempts", "last_error", "created_at", "updated_at"],
    "properties": {
        "id": {"type": "integer"},
        "type": {"type": "string"},
        "subject": {"type": "string", "description": "what it is about"},
        "status": {"enum": [state.value for state in TaskState]},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "attempts": {"type": "integer"},
        "last_error": {"type": ["string", "null"]},
        "created_at": _TIME,
        "updated_at": _TIME,
        "next_attempt_at": {"type": ["string", "null"], "format": "date-time"},
    },
}


def job_error(error: Exception) -> HTTPError | None:
    """Give the answer that an error of the queue means."""
    if isinstance(error, NoSuchTask):
        return HTTPError(404, "there is no such job")
    return HTTPError(409, str(error)) if isinstance(error, NotPossible) else None


class JobRoutes:
    """Answers for jobs."""

    def __init__(self, *, queue: TaskQueue) -> None:
        self._queue = queue

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        of_job = (Parameter("id", integer(1, LARGEST_ID)),)
        common: dict[str, Any] = {"operation": Operation.MANAGE_JOBS, "tag": "jobs"}
        changes = (
            ("pause", self._queue.pause, "Leave a job alone until it is resumed"),
            ("resume", self._queue.resume, "Go on with a paused job"),
            ("cancel", self._queue.cancel, "Give a job up"),
            ("retry", self._queue.retry, "Try a job now that waits, has failed or was canceled"),
        )
        return (
            Route(
                "GET",
                PATH,
                handler=self._list,
                summary="Jobs, the newest first",
                query=(
                    Parameter("status", choice(*(state.value for state in TaskState))),
                    Parameter("type", description="its words before a slash mean all that begin with them"),
                    *PAGING,
                ),
                answer=list_schema(JOB),
                **common,
            ),
            Route(
                "GET",
                f"{PATH}/{{id}}",
                handler=self._get,
                summary="One job",
                path_parameters=of_job,
                answer=JOB,
                errors=(404,),
                **common,
            ),
            *(
                Route(
                    "POST",
                    f"{PATH}/{{id}}/{name}",
                    handler=_changing(change),
                    summary=summary,
                    path_parameters=of_job,
                    answer=JOB,
                    errors=(404, 409),
                    **common,
                )
                for name, change, summary in changes
            ),
        )

    async def _list(self, call: Call) -> Answer:
        query = call.query
        state = TaskState(query["status"]) if "status" in query else None
        limit, offset = query["limit"], query["offset"]
        total, tasks = await self._queue.list(state, query.get("type"), limit=limit, offset=offset)
        return page([task.as_dict() for task in tasks], total=total, limit=limit, offset=offset)

    async def _get(self, call: Call) -> Answer:
        return one((await self._queue.get(call.path["id"])).as_dict())


def _changing(change: Callable[[int], Awaitable[Task]]) -> Callable[[Call], Awaitable[Answer]]:
    async def answer(call: Call) -> Answer:
        return plain((await change(call.path["id"])).as_dict())

    return answer
