"""
`/api/v1/worklist` and `/api/v1/mpps`: scheduled procedure steps are made, changed and removed; performed ones are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from pacs.events import EventBus, QueryExecuted
from pacs.monitoring.metrics import Metrics
from pacs.security.access import Operation
from pacs.web.answers import NOTHING, Answer, one, page
from pacs.web.errors import HTTPError
from pacs.web.routes import PAGING, Call, Route, list_schema, sort_parameter
from pacs.web.schema import DATE, UID, Body, Parameter, Property, Type, choice, integer, text_schema
from pacs.workflow.errors import InvalidValue, MissingValue, NotFound, WorkflowError
from pacs.workflow.item import FIELDS, SCHEDULED_DATETIME, ItemStatus
from pacs.workflow.step import StepStatus
from pacs.workflow.steps import PerformedSteps
from pacs.workflow.text import LONGEST, PATTERN, PATTERNS
from pacs.workflow.worklist import Worklist
from pacs.workflow.worklist_table import EQUAL, SORTABLE

WORKLIST: Final = "/api/v1/worklist"
MPPS: Final = "/api/v1/mpps"
LARGEST_ID: Final = 2**62

_TEXT: Final[dict[str, Any]] = {"type": "string"}
_STATUSES: Final = tuple(status.value for status in ItemStatus)
_STEP_STATUSES: Final = tuple(status.value for status in StepStatus)

ITEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "status", *(field.name for field in FIELDS), SCHEDULED_DATETIME],
    "properties": {
        "id": {"type": "integer"},
        "status": {"enum": list(_STATUSES)},
        **{field.name: _TEXT for field in FIELDS},
        SCHEDULED_DATETIME: {"type": "string", "description": "ISO 8601, in the server's own time"},
    },
}
STEP: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["sop_instance_uid", "status", "patient_id", "study_instance_uid", "step_ids", "num_instances"],
    "properties": {
        **dict.fromkeys(
            (
                "sop_instance_uid", "performed_step_id", "patient_id", "patient_name", "birth_date", "sex",
                "study_instance_uid", "accession_number", "modality", "station_ae_title", "station_name", "description",
                "started_at", "ended_at", "source_ae_title",
            ),
            _TEXT,
        ),
        "status": {"enum": list(_STEP_STATUSES)},
        "step_ids": {"type": "array", "items": _TEXT},
        "num_series": {"type": "integer"},
        "num_instances": {"type": "integer"},
    },
}  # fmt: skip


def _as_text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("a text is needed")
    return value


def _property(pattern: str, *, is_required: bool = False, **more: Any) -> Property:
    schema = text_schema(pattern, **more)
    if is_required:
        schema["minLength"] = 1
    else:
        schema["type"] = ["string", "null"]
    return Property(schema, _as_text, is_required=is_required)


def _members() -> dict[str, Property]:
    """Give the members of a body; whether their values make sense is the worklist's business."""
    members = {
        field.name: _property(
            PATTERNS.get(field.vr, PATTERN), is_required=field.is_required, maxLength=LONGEST.get(field.vr, 10)
        )
        for field in FIELDS
    }
    members[SCHEDULED_DATETIME] = _property(PATTERN, is_required=True, examples=["2026-01-31T08:30:00"])
    members["status"] = Property({"enum": [*_STATUSES, None]}, _as_text, is_required=False)
    return members


def _filters(names: frozenset[str], statuses: tuple[str, ...]) -> tuple[Parameter, ...]:
    types: dict[str, Type] = {"status": choice(*statuses), "study_instance_uid": UID}
    return tuple(Parameter(name, types[name]) if name in types else Parameter(name) for name in sorted(names))


def workflow_error(error: Exception) -> HTTPError | None:
    """Give the answer that an error of the workflow means."""
    if not isinstance(error, WorkflowError):
        return None
    if isinstance(error, NotFound):
        return HTTPError(404, error.comment)
    return HTTPError(422 if isinstance(error, InvalidValue | MissingValue) else 409, error.comment)


class WorkflowRoutes:
    """Answers for scheduled and performed procedure steps."""

    def __init__(
        self, *, worklist: Worklist, steps: PerformedSteps, bus: EventBus, metrics: Metrics, clock: IReactorTime
    ) -> None:
        self._worklist = worklist
        self._steps = steps
        self._bus = bus
        self._metrics = metrics
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        one_item = (Parameter("id", integer(1, LARGEST_ID)),)
        members = _members()
        made = Body(members)
        written = Body({"id": Property({"type": ["integer", "null"]}, _as_id, is_required=False), **members})
        reads: dict[str, Any] = {"operation": Operation.QUERY_WORKLIST, "tag": "worklist", "is_patient_data": True}
        changes: dict[str, Any] = {**reads, "operation": Operation.CHANGE_WORKLIST}
        steps: dict[str, Any] = {"operation": Operation.READ_MPPS, "tag": "mpps", "is_patient_data": True}
        listed = (
            *_filters(EQUAL, _STATUSES),
            Parameter("scheduled_date_from", DATE, "included"),
            Parameter("scheduled_date_to", DATE, "included"),
            sort_parameter(tuple(SORTABLE)),
            *PAGING,
        )
        listed_steps = (*_filters(frozenset(("status", "study_instance_uid", "patient_id")), _STEP_STATUSES), *PAGING)
        return (
            Route(
                "GET",
                WORKLIST,
                handler=self._list,
                summary="Scheduled procedure steps, in the order of schedule",
                query=listed,
                answer=list_schema(ITEM),
                errors=(422,),
                **reads,
            ),
            Route(
                "POST",
                WORKLIST,
                handler=self._create,
                summary="Schedule a procedure step; identifiers that are not given are made",
                body=made,
                answer=ITEM,
                status=201,
                **changes,
            ),
            Route(
                "GET",
                f"{WORKLIST}/{{id}}",
                handler=self._get,
                summary="One scheduled procedure step",
                path_parameters=one_item,
                answer=ITEM,
                errors=(404,),
                **reads,
            ),
            Route(
                "PUT",
                f"{WORKLIST}/{{id}}",
                handler=self._replace,
                summary="Write a scheduled procedure step anew; what the fields do not reach stays",
                path_parameters=one_item,
                body=written,
                answer=ITEM,
                errors=(404,),
                **changes,
            ),
            Route(
                "DELETE",
                f"{WORKLIST}/{{id}}",
                handler=self._delete,
                summary="Remove a scheduled procedure step",
                path_parameters=one_item,
                status=204,
                errors=(404,),
                **changes,
            ),
            Route(
                "GET",
                MPPS,
                handler=self._list_steps,
                summary="Performed procedure steps, the newest first",
                query=listed_steps,
                answer=list_schema(STEP),
                **steps,
            ),
            Route(
                "GET",
                f"{MPPS}/{{uid}}",
                handler=self._get_step,
                summary="One performed procedure step",
                path_parameters=(Parameter("uid", UID),),
                answer=STEP,
                errors=(404,),
                **steps,
            ),
        )

    # -- scheduled

    async def _list(self, call: Call) -> Answer:
        query = dict(call.query)
        limit, offset, sort = query.pop("limit"), query.pop("offset"), query.pop("sort", SCHEDULED_DATETIME)
        looked = self._looking("WORKLIST", call)
        total, items = await self._worklist.list(query, limit=limit, offset=offset, sort=sort)
        looked(len(items))
        return page(items, total=total, limit=limit, offset=offset)

    async def _create(self, call: Call) -> Answer:
        item = await self._worklist.create(call.body, call.principal)
        return one(item, status=201, headers={"Location": f"{WORKLIST}/{item['id']}"})

    async def _get(self, call: Call) -> Answer:
        looked = self._looking("WORKLIST", call)
        item = await self._worklist.get(call.path["id"])
        looked(1)
        return one(item)

    async def _replace(self, call: Call) -> Answer:
        fields = dict(call.body)
        if fields.pop("id") not in (None, call.path["id"]):
            raise HTTPError(422, "id: is another one than in the path")
        return one(await self._worklist.replace(call.path["id"], fields, call.principal))

    async def _delete(self, call: Call) -> Answer:
        await self._worklist.delete(call.path["id"], call.principal)
        return NOTHING

    # -- performed

    async def _list_steps(self, call: Call) -> Answer:
        query = dict(call.query)
        limit, offset = query.pop("limit"), query.pop("offset")
        looked = self._looking("MPPS", call)
        total, steps = await self._steps.list(query, limit=limit, offset=offset)
        looked(len(steps))
        return page(steps, total=total, limit=limit, offset=offset)

    async def _get_step(self, call: Call) -> Answer:
        looked = self._looking("MPPS", call)
        step = await self._steps.get(call.path["uid"])
        looked(1)
        return one(step.as_dict())

    # -- within

    def _looking(self, level: str, call: Call) -> Callable[[int], None]:
        """Give what is to be told how many were found: patient data was read, and that is counted and audited."""
        started_s = self._clock.seconds()

        def looked(count: int) -> None:
            self._metrics.query_results_total.inc(count)
            if self._bus.has_subscribers(QueryExecuted):
                self._bus.publish(
                    QueryExecuted(
                        query_level=level,
                        result_count=count,
                        calling_ae=call.principal.name,
                        duration_ms=(self._clock.seconds() - started_s) * 1000,
                        protocol="rest",
                        peer_address=call.principal.peer_address,
                        identifier=call.request.uri,
                    )
                )

        return looked


def _as_id(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError("an integer is needed")
    return value
