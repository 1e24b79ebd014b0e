"""
DELETE of patients, studies, series and instances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pacs.archive.archive import Archive
from pacs.archive.attributes import Level
from pacs.archive.index.listing import COLUMNS, Listing
from pacs.archive.index.removal import Doomed
from pacs.archive.query import Condition, Equals
from pacs.security.access import Operation
from pacs.web.answers import NOTHING, Answer
from pacs.web.api.archive import API, ISSUER, NAMES, PATIENT_ID, as_items
from pacs.web.errors import HTTPError
from pacs.web.routes import Call, Route
from pacs.web.schema import TEXT, UID, Parameter

PATHS: Final = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
_ISSUER_COLUMN: Final = list(COLUMNS[Level.PATIENT]).index("issuer")


class DeletionRoutes:
    """Deletes; the archive tells the change feed and the audit log."""

    def __init__(self, *, archive: Archive) -> None:
        self._archive = archive

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        common: dict[str, Any] = {
            "operation": Operation.DELETE,
            "tag": "archive",
            "status": 204,
            "is_patient_data": True,
        }
        patient = Route(
            "DELETE",
            f"{API}/patients/{{patient_id...}}",
            handler=self._patient,
            summary="Delete a patient with all studies",
            path_parameters=(Parameter("patient_id", TEXT),),
            query=(Parameter("issuer", TEXT, "Issuer of Patient ID, where several patients share an ID"),),
            errors=(404, 409),
            **common,
        )
        others = [
            Route(
                "DELETE",
                f"{API}/{path}/{{uid}}",
                handler=self._by_uid(level),
                summary=f"Delete {'an' if level is Level.IMAGE else 'a'} {NAMES[level]}, all copies included",
                path_parameters=(Parameter("uid", UID),),
                errors=(404,),
                **common,
            )
            for level, path in PATHS.items()
        ]
        return (patient, *others)

    def _by_uid(self, level: Level) -> Callable[[Call], Any]:
        async def answer(call: Call) -> Answer:
            return await self._delete(Doomed(level, (call.path["uid"],)), call)

        return answer

    async def _patient(self, call: Call) -> Answer:
        patient_id, issuer = call.path["patient_id"], call.query.get("issuer")
        conditions: list[Condition] = [Equals(PATIENT_ID, patient_id)]
        if issuer is not None:
            conditions.append(Equals(ISSUER, issuer))
        rows = (await self._archive.list_page(Listing(Level.PATIENT, tuple(conditions)))).rows
        if len(rows) > 1:
            candidates = as_items(Level.PATIENT, rows)
            raise HTTPError(409, "several patients have this ID; give ?issuer=", details={"candidates": candidates})
        if not rows:
            raise _missing(Level.PATIENT)
        return await self._delete(Doomed(Level.PATIENT, (patient_id,), issuer=rows[0][_ISSUER_COLUMN]), call)

    async def _delete(self, doomed: Doomed, call: Call) -> Answer:
        deleted = await self._archive.delete(doomed, call.principal)
        if not deleted.instances:
            raise _missing(doomed.level)
        return NOTHING


def _missing(level: Level) -> HTTPError:
    return HTTPError(404, f"there is no such {NAMES[level]}")
