"""
`/api/v1/session`: the pages' session. It is begun with credentials of any kind, and then a cookie stands for them.
"""

from __future__ import annotations

from typing import Any, Final

from pacs.security.access import Operation, Role
from pacs.security.logins import LoginReporter
from pacs.web.answers import Answer, plain
from pacs.web.errors import HTTPError
from pacs.web.routes import Call, Route
from pacs.web.sessions import Identity, SessionRegistry

PATH: Final = "/api/v1/session"
BY_COOKIE: Final = "HTTP session"
SESSION: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["user", "role", "is_session"],
    "properties": {
        "user": {"type": "string"},
        "role": {"enum": [role.value for role in Role]},
        "is_session": {"type": "boolean", "description": "a cookie said who asks"},
    },
}


class SessionRoutes:
    """Answers for sessions."""

    def __init__(self, *, sessions: SessionRegistry, logins: LoginReporter) -> None:
        self._sessions = sessions
        self._logins = logins

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        common: dict[str, Any] = {"operation": Operation.READ_STATUS, "tag": "session"}
        return (
            Route("GET", PATH, handler=self._show, summary="Who asks, and in which role", answer=SESSION, **common),
            Route(
                "POST",
                PATH,
                handler=self._begin,
                summary="Begin a session: a cookie will stand for the credentials of this request",
                answer=SESSION,
                status=201,
                errors=(409,),
                **common,
            ),
            Route("DELETE", PATH, handler=self._end, summary="End the session", status=204, **common),
        )

    async def _show(self, call: Call) -> Answer:
        return plain(_shown(call.identity))

    async def _begin(self, call: Call) -> Answer:
        if call.request.header("origin"):
            self._sessions.check_origin(call.request)
        if call.identity.session:
            raise HTTPError(409, "there is a session already; end it first")
        principal = call.principal
        self._logins.succeeded(principal.user or principal.name, principal.peer_address, BY_COOKIE)
        cookie = self._sessions.begin(call.identity)
        return plain(_shown(call.identity), status=201, headers={"Set-Cookie": cookie, "Location": PATH})

    async def _end(self, call: Call) -> Answer:
        principal = call.principal
        headers = {"Set-Cookie": self._sessions.end(call.identity)}
        if call.identity.session:
            self._logins.ended(principal.user or principal.name, principal.peer_address, BY_COOKIE)
        return Answer(b"", 204, content_type="", headers=headers)


def _shown(identity: Identity) -> dict[str, object]:
    principal = identity.principal
    return {"user": principal.name, "role": principal.role.value, "is_session": bool(identity.session)}
