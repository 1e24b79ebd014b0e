"""
The DICOM side as an operator sees it: live associations, and the nodes that we may send to.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from pacs.net.association import Association
from pacs.net.nodes import NodeUnavailable, RemoteNode, RemoteNodes
from pacs.net.registry import AssociationRegistry
from pacs.security.access import Operation
from pacs.web.answers import NOTHING, Answer, page, plain
from pacs.web.errors import HTTPError
from pacs.web.routes import PAGING, Call, Route, list_schema
from pacs.web.schema import Parameter

API: Final = "/api/v1"
_TEXT: Final = {"type": "string"}
ASSOCIATION: Final[dict[str, Any]] = {
    "type": "object",
    "required": [
        "id", "calling_ae_title", "called_ae_title", "peer_address", "tls", "role", "duration_seconds", "requests",
        "contexts",
    ],
    "properties": {
        **dict.fromkeys(("id", "calling_ae_title", "called_ae_title", "peer_address", "role", "user"), _TEXT),
        "tls": {"type": "boolean"},
        "is_busy": {"type": "boolean"},
        "implementation_version_name": _TEXT,
        "duration_seconds": {"type": "number"},
        "requests": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "by operation"},
        "unsuccessful_requests": {"type": "integer", "description": "answered with another status than 0000"},
        "contexts": {"type": "array", "items": {"type": "object"}},
    },
}  # fmt: skip
NODE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["ae_title", "host", "port", "tls"],
    "properties": {"ae_title": _TEXT, "host": _TEXT, "port": {"type": "integer"}, "tls": {"type": "boolean"}},
}
VERIFICATION: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["ae_title", "is_reachable"],
    "properties": {
        "ae_title": _TEXT,
        "is_reachable": {"type": "boolean", "description": "it answered C-ECHO with success"},
        "status": {"type": ["string", "null"], "description": "of the C-ECHO response, hexadecimal"},
        "reason": _TEXT,
        "duration_ms": {"type": "number"},
    },
}


class NetworkRoutes:
    """Answers for associations and nodes."""

    def __init__(self, *, associations: AssociationRegistry, nodes: RemoteNodes, clock: IReactorTime) -> None:
        self._associations = associations
        self._nodes = nodes
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        return (
            Route(
                "GET",
                f"{API}/associations/active",
                Operation.READ_ASSOCIATIONS,
                self._list,
                "Live associations",
                "associations",
                query=PAGING,
                answer=list_schema(ASSOCIATION),
            ),
            Route(
                "DELETE",
                f"{API}/associations/{{id}}",
                Operation.ABORT_ASSOCIATION,
                self._abort,
                "Abort an association",
                "associations",
                path_parameters=(Parameter("id"),),
                status=204,
                errors=(404,),
            ),
            Route(
                "GET",
                f"{API}/remote-nodes",
                Operation.READ_STATUS,
                self._list_nodes,
                "Nodes of server.remote_nodes",
                "nodes",
                query=PAGING,
                answer=list_schema(NODE),
            ),
            Route(
                "POST",
                f"{API}/remote-nodes/{{ae}}/verify",
                Operation.VERIFY_NODE,
                self._verify,
                "C-ECHO to a node",
                "nodes",
                path_parameters=(Parameter("ae"),),
                answer=VERIFICATION,
                errors=(404,),
            ),
        )

    async def _list(self, call: Call) -> Answer:
        return _page(call, [_association(each, self._associations.age_s(each)) for each in self._associations])

    async def _abort(self, call: Call) -> Answer:
        association = next((a for a in self._associations if a.association_id == call.path["id"]), None)
        if association is None:
            raise HTTPError(404, "there is no such association")
        association.abort()
        return NOTHING

    async def _list_nodes(self, call: Call) -> Answer:
        return _page(call, [_node(node) for node in self._nodes])

    async def _verify(self, call: Call) -> Answer:
        node = self._nodes.get(call.path["ae"])
        if node is None:
            raise HTTPError(404, "there is no such node in server.remote_nodes")
        started_s = self._clock.seconds()
        status, reason = None, ""
        try:
            status = await self._nodes.verify(node, call.principal)
        except NodeUnavailable as error:
            reason = str(error)
        return plain(
            {
                "ae_title": node.ae_title,
                "is_reachable": status == 0,
                "status": None if status is None else f"{status:04X}",
                "reason": reason,
                "duration_ms": round((self._clock.seconds() - started_s) * 1000, 3),
            }
        )


def _page(call: Call, items: list[dict[str, Any]]) -> Answer:
    limit, offset = call.query["limit"], call.query["offset"]
    return page(items[offset : offset + limit], total=len(items), limit=limit, offset=offset)


def _association(association: Association, age_s: float) -> dict[str, Any]:
    principal = association.principal
    return {
        "id": association.association_id,
        "calling_ae_title": association.calling_ae_title,
        "called_ae_title": association.called_ae_title,
        "peer_address": association.peer_address,
        "tls": principal.is_encrypted,
        "role": principal.role.value,
        "user": principal.user or "",
        "is_busy": association.is_busy,
        "duration_seconds": round(age_s, 3),
        "requests": dict(association.served),
        "unsuccessful_requests": association.unsuccessful,
        "implementation_version_name": association.request.user_information.implementation_version_name or "",
        "contexts": [
            {"id": context.id, "abstract_syntax": context.abstract_syntax, "transfer_syntax": context.transfer_syntax}
            for context in association.contexts.values()
        ],
    }


def _node(node: RemoteNode) -> dict[str, Any]:
    return {"ae_title": node.ae_title, "host": node.host, "port": node.port, "tls": node.tls}
