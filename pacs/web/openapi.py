"""
The OpenAPI 3.1 document, made of the table of routes that the server routes and validates by.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from pacs.security.access import LEAST_ROLE, Operation
from pacs.version import __version__
from pacs.web.answers import Answer, one
from pacs.web.errors import CODES
from pacs.web.routes import Call, Route
from pacs.web.schema import Parameter
from pacs.web.sessions import COOKIE

PATH: Final = "/api/v1/openapi.json"
_ANY_SLASHES: Final = re.compile(r"\.\.\.\}")
_SCHEMAS: Final[dict[str, Any]] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "candidates": {
                        "type": "array",
                        "items": {"type": "object"},
                        "description": "409: the patients who share the ID",
                    },
                },
            }
        },
    },
    "Pagination": {
        "type": "object",
        "required": ["total", "count", "limit", "offset"],
        "properties": {name: {"type": "integer", "minimum": 0} for name in ("total", "count", "limit", "offset")},
    },
}


def document(routes: Sequence[Route], *, public_url: str = "", cookie: str = COOKIE) -> dict[str, Any]:
    """
    Give the document of some routes.

    Args:
        public_url: what clients have before the paths; empty: where they got the document from.
        cookie: the name of the session's.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_ANY_SLASHES.sub("}", route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Production PACS", "version": __version__, "license": {"name": "MIT", "identifier": "MIT"}},
        **({"servers": [{"url": public_url}]} if public_url else {}),
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
    }


def openapi_route(routes: Sequence[Route], *, public_url: str = "", cookie: str = COOKIE) -> Route:
    """Give the route of the document itself, for whoever may log in: the contract does not name it as public."""

    async def answer(_: Call) -> Answer:
        return one(found)

    route = Route("GET", PATH, Operation.READ_STATUS, answer, "This document", "system", answer={"type": "object"})
    found = document((*routes, route), public_url=public_url, cookie=cookie)
    return route


def _operation(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.status != 204:
        schema = dict(route.answer) if route.answer is not None else {"type": "string"}
        content = {"content": {route.content_type: {"schema": schema}}}
    found: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "parameters": [
            *(_parameter(item, "path") for item in route.path_parameters),
            *(_parameter(item, "query") for item in route.query),
            *(_parameter(item, "header") for item in route.headers),
        ],
        "responses": {
            str(route.status): {"description": "success", **content},
            **{str(s): {"description": text, **(content if s == 206 else {})} for s, text in route.also.items()},
            **_errors(route),
        },
        "security": [] if route.operation is None else [{"bearer": []}, {"basic": []}, {"session": []}],
    }
    if route.operation is not None:
        found["description"] = f"Needs the role {LEAST_ROLE[route.operation].value}."
    if route.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.body.as_schema()}}}
    return found


def _operation_id(route: Route) -> str:
    return "_".join([route.method.lower(), *re.findall(r"\w+", route.path)])


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": parameter.name, "in": place, "schema": dict(parameter.type.schema)}
    if parameter.description:
        found["description"] = parameter.description
    if place == "path":
        found["required"] = True
    return found


def _errors(route: Route) -> dict[str, Any]:
    statuses = {400, 414, 421, 500, *route.errors}
    if route.operation is not None:
        statuses |= {401, 403, 429, 503}
        if route.method != "GET":
            statuses.add(507)
    if route.body is not None:
        statuses |= {408, 413, 415, 422}
    schema = {"$ref": "#/components/schemas/Error"}
    if route.path in ("/readyz", "/api/v1/system/status", "/api/v1/health"):
        schema = {}
    return {
        str(status): {
            "description": CODES[status],
            "content": {
                "application/json": {"schema": schema if status == 503 else {"$ref": "#/components/schemas/Error"}}
            },
        }
        for status in sorted(statuses)
    }
