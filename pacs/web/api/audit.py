"""
`/api/v1/audit/logs`: records of the audit log, newest first, with the verdict on its chain. Who reads it is recorded.
"""

from __future__ import annotations

import re
from typing import Any, Final

from twisted.internet.threads import deferToThread

from pacs.security.access import Operation
from pacs.security.audit import AuditLog
from pacs.security.audit.reading import Filter, Found, read_records
from pacs.security.audit.records import AuditKeyError, Record, load_key
from pacs.security.audit.verify import Verdict, verify
from pacs.web.answers import Answer, plain
from pacs.web.errors import HTTPError
from pacs.web.routes import PAGING, Call, Route, list_schema
from pacs.web.schema import TEXT, Parameter, Type, text_schema

PATH: Final = "/api/v1/audit/logs"
_BEGINNING: Final = r"[0-9TZ.:-]{0,32}"


def _moment(value: str) -> str:
    if not re.fullmatch(_BEGINNING, value):
        raise ValueError("is not a UTC time in ISO 8601, or a beginning of one such as a date")
    return value


_MOMENT: Final = Type(text_schema(_BEGINNING, examples=["2026-01-31", "2026-01-31T08:00:00Z"]), _moment)
_TEXT: Final = {"type": "string"}
RECORD: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["sequence", "time", "event", "outcome", "users", "message"],
    "properties": {
        "sequence": {"type": "integer"},
        "time": _TEXT,
        "event": {"type": "string", "description": "code of PS3.15 A.5.3"},
        "outcome": _TEXT,
        "users": {"type": "array", "items": _TEXT},
        "message": {"type": "string", "description": "the audit message, XML"},
    },
}


class AuditRoutes:
    """Answers for the audit log."""

    def __init__(self, *, audit: AuditLog) -> None:
        self._audit = audit

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        schema = list_schema(RECORD)
        chain = {
            "type": "object",
            "properties": {"is_intact": {"type": "boolean"}, "records": {"type": "integer"}, "fault": _TEXT},
        }
        schema["properties"]["chain"] = chain
        return (
            Route(
                "GET",
                PATH,
                Operation.READ_AUDIT_LOG,
                self._list,
                "Audit records, newest first",
                "audit",
                query=(
                    Parameter("from", _MOMENT, "included"),
                    Parameter("to", _MOMENT, "included"),
                    Parameter("user", TEXT, "a user, AE title or address that took part"),
                    Parameter("event", TEXT, "a code of PS3.15 A.5.3, such as 110112"),
                    *PAGING,
                ),
                answer=schema,
                errors=(503,),
            ),
        )

    async def _list(self, call: Call) -> Answer:
        query = call.query
        wanted = Filter(query.get("from", ""), query.get("to", ""), query.get("user", ""), query.get("event", ""))
        limit, offset = query["limit"], query["offset"]
        try:
            found, verdict = await deferToThread(self._read_in_thread, wanted, limit, offset)
        except (OSError, AuditKeyError):
            raise HTTPError(503, "the audit log can't be read") from None
        self._audit.audit_log_used(call.principal.name, peer_address=call.principal.peer_address)
        records = [_record(record) for record in found.records]
        return plain(
            {
                "data": records,
                "pagination": {"total": found.total, "count": len(records), "limit": limit, "offset": offset},
                "chain": {"is_intact": verdict.is_intact, "records": verdict.records, "fault": verdict.fault},
            }
        )

    def _read_in_thread(self, wanted: Filter, limit: int, offset: int) -> tuple[Found, Verdict]:
        settings = self._audit.settings
        found = read_records(settings.log_path, wanted, limit=limit, offset=offset)
        key = load_key(settings.key_path, may_make=False)
        return found, verify(settings.log_path, key=key, head_path=settings.head_path, is_live=True)


def _record(record: Record) -> dict[str, Any]:
    return {
        "sequence": record.position.sequence,
        "time": record.time,
        "event": record.event,
        "outcome": record.outcome,
        "users": list(record.users),
        "message": record.message,
    }
