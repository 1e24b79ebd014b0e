"""
What is kept: patients, studies, series and objects, as lists and one by one, and each object's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from pacs.archive.archive import Archive
from pacs.archive.attributes import Level
from pacs.archive.index.listing import COLUMNS, Listing, ListPage
from pacs.archive.query import Condition, Equals
from pacs.archive.retrieval import StoredObject
from pacs.events import EventBus, InstancesAccessed, QueryExecuted, StudyInstances
from pacs.monitoring.metrics import Metrics
from pacs.security.access import Operation
from pacs.web.answers import Answer, Stream, one, page
from pacs.web.conditions import is_listed, wanted_range
from pacs.web.errors import HTTPError
from pacs.web.files import FileSender, entity_tag
from pacs.web.filters import listing_of, parameters_of
from pacs.web.routes import Call, Route, list_schema
from pacs.web.schema import ANY, TEXT, UID, Parameter

API: Final = "/api/v1"
PATIENT_ID: Final = 0x00100020
ISSUER: Final = 0x00100021
STUDY_UID: Final = 0x0020000D
SERIES_UID: Final = 0x0020000E
INSTANCE_UID: Final = 0x00080018

NAMES: Final = {Level.PATIENT: "patient", Level.STUDY: "study", Level.SERIES: "series", Level.IMAGE: "instance"}
_INTEGERS: Final = frozenset(("num_studies", "num_series", "num_instances", "size_bytes"))
_LISTS: Final = frozenset(("modalities_in_study",))
_NUMBERS: Final = frozenset(("series_number", "instance_number"))
_UID_PARAMETER: Final = (Parameter("uid", UID),)
_OF_A_FILE: Final = (
    Parameter("Range", ANY, "one range of bytes, bytes=FIRST-LAST; what is no such thing is passed over"),
    Parameter("If-Range", ANY, "the range counts only for this entity tag"),
    Parameter("If-None-Match", ANY, "entity tags that the client has"),
)
_ISSUER: Final = Parameter("issuer", TEXT, "Issuer of Patient ID, where several patients share an ID")


def _schema_of(name: str) -> dict[str, Any]:
    if name in _INTEGERS:
        return {"type": "integer"}
    if name in _LISTS:
        return {"type": "array", "items": {"type": "string"}}
    if name in _NUMBERS:
        return {"type": ["integer", "null"]}
    return {"type": ["string", "null"]} if name in ("sha256", "received_at") else {"type": "string"}


ITEMS: Final[Mapping[Level, dict[str, Any]]] = {
    level: {"type": "object", "required": list(columns), "properties": {name: _schema_of(name) for name in columns}}
    for level, columns in COLUMNS.items()
}

COPY: Final = ("transfer_syntax_uid", "size_bytes", "sha256", "received_at", "source_ae_title")
"""What is shown of a further object with the same UID."""

INSTANCE: Final[dict[str, Any]] = {
    **ITEMS[Level.IMAGE],
    "required": [*ITEMS[Level.IMAGE]["required"], "others"],
    "properties": {
        **ITEMS[Level.IMAGE]["properties"],
        "others": {
            "type": "array",
            "description": "further objects with this UID (storage.duplicate_policy rename)",
            "items": {"type": "object", "required": list(COPY), "properties": {n: _schema_of(n) for n in COPY}},
        },
    },
}


def _list_of(value: str) -> list[str]:
    if "\\" in value:
        return [part for part in value.split("\\") if part]
    return [value] if value else []


def _number(value: str) -> int | None:
    try:
        return int(value)
    except ValueError:
        return None


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_CONVERTED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "modalities_in_study": _list_of,
    "series_number": _number,
    "instance_number": _number,
    "received_at": _moment,
}
_MADE: Final = {
    level: [(name, i, _CONVERTED[name]) for i, name in enumerate(columns) if name in _CONVERTED]
    for level, columns in COLUMNS.items()
}
_FIELDS: Final = {level: tuple(columns) for level, columns in COLUMNS.items()}


def as_items(level: Level, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Give rows of the index as the API shows them."""
    fields, made = _FIELDS[level], _MADE[level]
    items = []
    for row in rows:
        item = dict(zip(fields, row, strict=True))
        for name, place, convert in made:
            item[name] = convert(row[place])
        items.append(item)
    return items


class ArchiveRoutes:
    """Answers for what is kept."""

    def __init__(self, *, archive: Archive, bus: EventBus, metrics: Metrics, clock: IReactorTime) -> None:
        self._archive = archive
        self._bus = bus
        self._metrics = metrics
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        of_patient = (Parameter("patient_id", TEXT),)
        found = [
            self._list_route("/patients", Level.PATIENT, self._all(Level.PATIENT), "Patients"),
            self._list_route("/studies", Level.STUDY, self._all(Level.STUDY), "Studies"),
            self._list_route("/series", Level.SERIES, self._all(Level.SERIES), "Series"),
            self._list_route(
                "/patients/{patient_id...}/studies",
                Level.STUDY,
                self._studies_of_patient,
                "Studies of a patient",
                path_parameters=of_patient,
                errors=(404, 409),
            ),
            self._one_route(
                "/patients/{patient_id...}", Level.PATIENT, self._patient, of_patient, query=(_ISSUER,), errors=(409,)
            ),
        ]
        for upper, tag, children in (
            ("studies", STUDY_UID, (("series", Level.SERIES), ("instances", Level.IMAGE))),
            ("series", SERIES_UID, (("instances", Level.IMAGE),)),
        ):
            level = Level.STUDY if upper == "studies" else Level.SERIES
            found.append(self._one_route(f"/{upper}/{{uid}}", level, self._single(level, tag), _UID_PARAMETER))
            for name, below in children:
                found.append(
                    self._list_route(
                        f"/{upper}/{{uid}}/{name}",
                        below,
                        self._children(level, tag, below),
                        f"{name.capitalize()} of a {NAMES[level]}",
                        path_parameters=_UID_PARAMETER,
                        errors=(404,),
                    )
                )
        found.append(self._one_route("/instances/{uid}", Level.IMAGE, self._instance, _UID_PARAMETER))
        found.append(
            Route(
                "GET",
                f"{API}/instances/{{uid}}/file",
                Operation.READ,
                self._file,
                "An object's Part 10 file, as it is stored",
                "archive",
                path_parameters=_UID_PARAMETER,
                headers=_OF_A_FILE,
                content_type="application/dicom",
                also={206: "the range that was asked for", 304: "the client has it already"},
                errors=(404, 416),
                is_patient_data=True,
            )
        )
        return tuple(found)

    # -- making routes

    def _list_route(self, path: str, level: Level, handler: Any, summary: str, **more: Any) -> Route:
        return Route(
            "GET",
            f"{API}{path}",
            Operation.READ,
            handler,
            summary,
            "archive",
            query=parameters_of(level),
            answer=list_schema(ITEMS[level]),
            is_patient_data=True,
            **more,
        )

    def _one_route(
        self, path: str, level: Level, handler: Any, parameters: Any, *, errors: tuple[int, ...] = (), **more: Any
    ) -> Route:
        return Route(
            "GET",
            f"{API}{path}",
            Operation.READ,
            handler,
            f"One {NAMES[level]}",
            "archive",
            path_parameters=parameters,
            answer=INSTANCE if level is Level.IMAGE else ITEMS[level],
            errors=(404, *errors),
            is_patient_data=True,
            **more,
        )

    # -- lists

    def _all(self, level: Level) -> Any:
        async def answer(call: Call) -> Answer:
            listing = listing_of(level, call.query)
            return _as_page(listing, await self._find(call, listing))

        return answer

    def _children(self, level: Level, tag: int, below: Level) -> Any:
        async def answer(call: Call) -> Answer:
            scope = Equals(tag, call.path["uid"])
            listing = listing_of(below, call.query, scope)
            found = await self._find(call, listing)
            if not found.total:
                await self._must_exist(level, scope)
            return _as_page(listing, found)

        return answer

    async def _studies_of_patient(self, call: Call) -> Answer:
        patients = await self._patients(call)
        if not patients:
            raise HTTPError(404, "there is no such patient")
        issuer = call.query.get("issuer")
        scope: list[Condition] = [Equals(PATIENT_ID, call.path["patient_id"])]
        if issuer is not None:
            scope.append(Equals(ISSUER, issuer))
        elif len(patients) > 1:
            raise _several(patients)
        query = {name: value for name, value in call.query.items() if name != "issuer"}
        return await self._page(call, listing_of(Level.STUDY, query, *scope))

    async def _page(self, call: Call, listing: Listing) -> Answer:
        return _as_page(listing, await self._find(call, listing))

    # -- one by one

    def _single(self, level: Level, tag: int) -> Any:
        async def answer(call: Call) -> Answer:
            return one((await self._existing(call, level, Equals(tag, call.path["uid"])))[0])

        return answer

    async def _patient(self, call: Call) -> Answer:
        patients = await self._patients(call)
        if not patients:
            raise HTTPError(404, "there is no such patient")
        if len(patients) > 1:
            raise _several(patients)
        return one(patients[0])

    async def _patients(self, call: Call) -> list[dict[str, Any]]:
        conditions: list[Condition] = [Equals(PATIENT_ID, call.path["patient_id"])]
        issuer = call.query.get("issuer")
        if issuer is not None:
            conditions.append(Equals(ISSUER, issuer))
        found = await self._find(call, Listing(Level.PATIENT, tuple(conditions)))
        return as_items(Level.PATIENT, found.rows)

    async def _instance(self, call: Call) -> Answer:
        uid = call.path["uid"]
        item = (await self._existing(call, Level.IMAGE, Equals(INSTANCE_UID, uid)))[0]
        others = await self._archive.run(
            lambda connection: connection.execute(
                f"SELECT {', '.join(COPY)} FROM instances"
                " WHERE sop_instance_uid = ? AND copy_number > 0 ORDER BY copy_number",
                (uid,),
            ).fetchall()
        )
        copies = [dict(zip(COPY, row, strict=True)) for row in others]
        for copy in copies:
            copy["received_at"] = _moment(copy["received_at"])
        return one({**item, "others": copies})

    async def _existing(self, call: Call, level: Level, scope: Condition) -> list[dict[str, Any]]:
        found = await self._find(call, Listing(level, (scope,), limit=2))
        if not found.rows:
            raise _missing(level)
        return as_items(level, found.rows)

    async def _must_exist(self, level: Level, scope: Condition) -> None:
        if not (await self._archive.list_page(Listing(level, (scope,), limit=2))).rows:
            raise _missing(level)

    async def _file(self, call: Call) -> Stream:
        stored = await self._archive.find_object(call.path["uid"])
        if stored is None:
            raise _missing(Level.IMAGE)
        file = await self._archive.open(stored)
        sender, etag = FileSender(archive=self._archive, file=file), entity_tag(stored, file)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'attachment; filename="{stored.sop_instance_uid}.dcm"',
        }
        status = 200
        if not is_listed(call.request.header("if-none-match"), etag):
            try:
                wanted = wanted_range(call.request, etag, stored.size_bytes)
            except HTTPError:
                sender.close()
                raise
            if wanted is not None:
                status, sender.wanted = 206, wanted
                headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{stored.size_bytes}"
            if call.request.method != b"HEAD":
                self._note_access(call, stored)
        return Stream(
            sender.send,
            "application/dicom",
            length=len(sender.wanted),
            etag=etag,
            headers=headers,
            status=status,
            close=sender.close,
        )

    # -- within

    def _note_access(self, call: Call, stored: StoredObject) -> None:
        self._metrics.retrieved_instances_total.inc()
        if self._bus.has_subscribers(InstancesAccessed):
            kind = stored.kind
            accessed = StudyInstances(kind.study_instance_uid, kind.patient_id, ((kind.sop_class_uid, 1),))
            self._bus.publish(
                InstancesAccessed(
                    action="R",
                    user=call.principal.name,
                    peer_address=call.principal.peer_address,
                    studies=(accessed,),
                )
            )

    async def _find(self, call: Call, listing: Listing) -> ListPage:
        started_s = self._clock.seconds()
        found = await self._archive.list_page(listing)
        self._metrics.query_results_total.inc(len(found.rows))
        if self._bus.has_subscribers(QueryExecuted):
            self._bus.publish(
                QueryExecuted(
                    query_level=listing.level.value,
                    result_count=len(found.rows),
                    calling_ae=call.principal.name,
                    duration_ms=(self._clock.seconds() - started_s) * 1000,
                    protocol="rest",
                    peer_address=call.principal.peer_address,
                    identifier=call.request.uri,
                )
            )
        return found


def _as_page(listing: Listing, found: ListPage) -> Answer:
    return page(as_items(listing.level, found.rows), total=found.total, limit=listing.limit, offset=listing.offset)


def _missing(level: Level) -> HTTPError:
    return HTTPError(404, f"there is no such {NAMES[level]}")


def _several(patients: list[dict[str, Any]]) -> HTTPError:
    return HTTPError(409, "several patients have this ID; give ?issuer=", details={"candidates": patients})
