"""
The table of routes: what can be asked, with which parameters, by whom, and who answers.

It drives routing, validation, authorization and the OpenAPI document, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pacs.security.access import Operation, Principal
from pacs.web.answers import Answer, Stream
from pacs.web.errors import HTTPError
from pacs.web.request import WebRequest
from pacs.web.schema import Body, Parameter, Schema, Type, integer
from pacs.web.sessions import Identity

LARGEST_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100
LARGEST_OFFSET: Final = 10**12


class Call(NamedTuple):
    """
    A request that was found right.

    Attributes:
        identity: who asks, and how that was shown.
        path: the values of the path's parameters.
        query: the values of the query's parameters that were given, and defaults.
        body: the members of the JSON body.
    """

    identity: Identity
    path: Mapping[str, Any]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    request: WebRequest

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.identity.principal


Handler = Callable[[Call], Awaitable[Answer | Stream]]


@dataclass(frozen=True, slots=True)
class Route:
    """
    One row of the table.

    Attributes:
        path: with parameters in braces; one that is named `{name...}` takes slashes as well.
        operation: the right that it needs; None: it needs no authentication.
        is_patient_data: it is not served while the audit log cannot be written.
        headers: that its handler reads; the document has them.
        answer: the JSON Schema of what it gives.
        content_type: of the answer.
        also: further statuses that are no errors, and what they mean; only that of a part has a body.
        errors: statuses that it may answer with, beside those that every route has.
    """

    method: str
    path: str
    operation: Operation | None
    handler: Handler
    summary: str
    tag: str
    path_parameters: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    body: Body | None = None
    answer: Schema | None = None
    content_type: str = "application/json"
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    is_patient_data: bool = False


PAGING: Final = (
    Parameter("limit", integer(1, LARGEST_PAGE, DEFAULT_PAGE), "most items of the answer", DEFAULT_PAGE),
    Parameter("offset", integer(0, LARGEST_OFFSET, 0), "items to leave out at the beginning", 0),
)


def sort_parameter(fields: tuple[str, ...]) -> Parameter:
    """Give the parameter by which a list is sorted."""
    words = (*fields, *(f"-{name}" for name in fields))

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"is not one of {', '.join(fields)}, with '-' in front for descending")
        return value

    return Parameter("sort", Type({"type": "string", "enum": list(words)}, parse), "'-' in front: descending")


def list_schema(item: Schema) -> dict[str, Any]:
    """Give the schema of a page of a list."""
    return {
        "type": "object",
        "required": ["data", "pagination"],
        "properties": {
            "data": {"type": "array", "items": dict(item)},
            "pagination": {"$ref": "#/components/schemas/Pagination"},
        },
    }


class QueryReader:
    """
    Reads the query of a route.

    A parameter that nobody knows is refused: a filter that is left out would show more than was asked for.
    """

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        self._known = {parameter.name.encode(): parameter for parameter in parameters}
        self._defaults = {item.name: item.default for item in parameters if item.default is not None}

    def read(self, arguments: Mapping[bytes, list[bytes]]) -> dict[str, Any]:
        """
        Give the values of the parameters that were given, and defaults.

        Raises:
            HTTPError: 400.
        """
        values = self._defaults.copy()
        for raw_name, raw_values in arguments.items():
            parameter = self._known.get(raw_name)
            if parameter is None:
                name = raw_name.decode("utf-8", "replace")[:64]
                known = ", ".join(item.name for item in self._known.values())
                raise HTTPError(400, f"{name!r}: unknown parameter; known are {known or 'none'}")
            if len(raw_values) > 1:
                raise HTTPError(400, f"{parameter.name}: is given more than once")
            try:
                text = raw_values[0].decode("utf-8")
            except UnicodeDecodeError:
                raise HTTPError(400, f"{parameter.name}: is not UTF-8") from None
            values[parameter.name] = parameter.parse(text)
        return values
