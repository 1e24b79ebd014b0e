"""
`/api/v1/tokens`: making, listing and revoking API tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pacs.security.access import Operation, Role
from pacs.security.tokens import LONGEST_NAME, check_name, parse_expiry
from pacs.web.answers import NOTHING, Answer, page, plain
from pacs.web.errors import HTTPError
from pacs.web.routes import PAGING, Call, Route, list_schema
from pacs.web.schema import Body, Parameter, Property, choice
from pacs.web.tokens import TokenRegistry

PATH: Final = "/api/v1/tokens"
_ROLES: Final = [role.value for role in Role]
_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
TOKEN: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "name", "role"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "role": {"enum": _ROLES},
        "created_at": _TIME,
        "expires_at": _TIME,
        "last_used_at": _TIME,
    },
}
NEW_TOKEN: Final[dict[str, Any]] = {
    **TOKEN,
    "required": [*TOKEN["required"], "token"],
    "properties": {**TOKEN["properties"], "token": {"type": "string", "description": "shown this once"}},
}


class TokenRoutes:
    """Answers for tokens."""

    def __init__(self, *, registry: TokenRegistry, now_s: Callable[[], float]) -> None:
        self._registry = registry
        self._now_s = now_s

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        body = Body(
            {
                "name": Property({"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}, check_name),
                "role": Property({"enum": _ROLES}, _role),
                "expires_at": Property(_TIME, lambda value: parse_expiry(value, self._now_s()), is_required=False),
            }
        )
        common: dict[str, Any] = {"operation": Operation.MANAGE_TOKENS, "tag": "tokens"}
        return (
            Route(
                "GET", PATH, handler=self._list, summary="API tokens", query=PAGING, answer=list_schema(TOKEN), **common
            ),
            Route(
                "POST",
                PATH,
                handler=self._create,
                summary="Make an API token; it is shown this once",
                body=body,
                answer=NEW_TOKEN,
                status=201,
                **common,
            ),
            Route(
                "DELETE",
                f"{PATH}/{{id}}",
                handler=self._revoke,
                summary="Revoke an API token",
                path_parameters=(Parameter("id"),),
                status=204,
                errors=(404,),
                **common,
            ),
        )

    async def _list(self, call: Call) -> Answer:
        tokens = [token.shown() for token in await self._registry.all()]
        limit, offset = call.query["limit"], call.query["offset"]
        return page(tokens[offset : offset + limit], total=len(tokens), limit=limit, offset=offset)

    async def _create(self, call: Call) -> Answer:
        body, principal = call.body, call.principal
        token, secret = await self._registry.create(
            body["name"], body["role"], body["expires_at"], by=principal.name, peer_address=principal.peer_address
        )
        return plain({**token.shown(), "token": secret}, status=201, headers={"Location": f"{PATH}/{token.id}"})

    async def _revoke(self, call: Call) -> Answer:
        principal = call.principal
        if not await self._registry.revoke(call.path["id"], by=principal.name, peer_address=principal.peer_address):
            raise HTTPError(404, "there is no such token")
        return NOTHING


def _role(value: object) -> Role:
    return Role(choice(*_ROLES).parse(value if isinstance(value, str) else ""))
