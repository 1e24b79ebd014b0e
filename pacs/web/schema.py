"""
Types of parameters and of JSON bodies: they check what comes in, and they are the words of the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pacs.web.errors import HTTPError

Schema = Mapping[str, Any]
"""A JSON Schema, as OpenAPI 3.1 takes it."""

LONGEST_TEXT: Final = 1000
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_UID: Final = r"[0-9]+(\.[0-9]+)*"
_DATE: Final = r"([0-9]{4})-?(0[1-9]|1[0-2])-?(0[1-9]|[12][0-9]|3[01])"
_MOMENT: Final = r"[0-9]{2}(:?[0-9]{2}(:?[0-9]{2}(\.[0-9]{1,6})?)?)?"
_TIME: Final = rf"{_MOMENT}(-({_MOMENT})?)?|-{_MOMENT}"
_NO_CONTROLS: Final = r"[^\x00-\x1f\x7f-\x9f]*"
_IS_UID, _IS_DATE, _IS_TIME, _IS_NO_CONTROLS = map(re.compile, (_UID, _DATE, _TIME, _NO_CONTROLS))


@dataclass(frozen=True, slots=True)
class Type:
    """
    A type of values that come as text.

    Attributes:
        schema: as the document has it.
        parse: gives the value; raises ValueError with what is wrong.
    """

    schema: Schema
    parse: Callable[[str], Any]


def _text(value: str) -> str:
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"has more than {LONGEST_TEXT} characters")
    if not _IS_NO_CONTROLS.fullmatch(value):
        raise ValueError("has control characters")
    return value


def _uid(value: str) -> str:
    if len(value) > 64 or not _IS_UID.fullmatch(value):
        raise ValueError("is not a UID")
    return value


def _date(value: str) -> str:
    match = _IS_DATE.fullmatch(value)
    if match is None:
        raise ValueError("is not a date such as 20240131 or 2024-01-31")
    return "".join(match.groups())


def _time(value: str) -> str:
    if not _IS_TIME.fullmatch(value):
        raise ValueError("is neither a time such as 0830 or 08:30:00 nor a range such as 0800-1200")
    return value


def text_schema(pattern: str, **more: Any) -> dict[str, Any]:
    """Give the schema of texts that match a pattern as a whole."""
    return {"type": "string", "pattern": f"^({pattern})$", **more}


ANY: Final = Type({"type": "string"}, str)
TEXT: Final = Type(text_schema(_NO_CONTROLS, maxLength=LONGEST_TEXT), _text)
UID: Final = Type(text_schema(_UID, maxLength=64), _uid)
DATE: Final = Type(text_schema(_DATE, examples=["20240131"]), _date)
TIME: Final = Type(text_schema(_TIME, examples=["0800-1200"]), _time)


def integer(low: int, high: int, default: int | None = None) -> Type:
    """Give the type of integers in a range."""

    def parse(value: str) -> int:
        if not _INTEGER.fullmatch(value) or not low <= int(value) <= high:
            raise ValueError(f"is not an integer from {low} to {high}")
        return int(value)

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Type(schema if default is None else {**schema, "default": default}, parse)


def choice(*values: str) -> Type:
    """Give the type of some words."""

    def parse(value: str) -> str:
        if value not in values:
            raise ValueError(f"is not one of {', '.join(values)}")
        return value

    return Type({"type": "string", "enum": list(values)}, parse)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route, in the path or in the query."""

    name: str
    type: Type = TEXT
    description: str = ""
    default: Any = None

    def parse(self, text: str) -> Any:
        """
        Give the value.

        Raises:
            HTTPError: 400, naming the parameter and never its value.
        """
        try:
            return self.type.parse(text)
        except ValueError as error:
            raise HTTPError(400, f"{self.name}: {error}") from None


@dataclass(frozen=True, slots=True)
class Property:
    """A member of a JSON body; `parse` gives its value or raises ValueError."""

    schema: Schema
    parse: Callable[[Any], Any]
    is_required: bool = True
    default: Any = None


@dataclass(frozen=True, slots=True)
class Body:
    """An object that a request brings; members that are not named are refused."""

    properties: Mapping[str, Property]
    schema: Schema = field(default_factory=dict)

    def as_schema(self) -> dict[str, Any]:
        """Give its JSON Schema."""
        return {
            "type": "object",
            "properties": {name: dict(item.schema) for name, item in self.properties.items()},
            "required": [name for name, item in self.properties.items() if item.is_required],
            "additionalProperties": False,
        }

    def parse(self, value: Any) -> dict[str, Any]:
        """
        Give the members of a body.

        Raises:
            HTTPError: 422, naming the member.
        """
        if not isinstance(value, dict):
            raise HTTPError(422, "the body is not a JSON object")
        unknown = next((name for name in value if name not in self.properties), None)
        if unknown is not None:
            raise HTTPError(422, f"{unknown[:64]!r}: unknown member; known are {', '.join(self.properties)}")
        found: dict[str, Any] = {}
        for name, item in self.properties.items():
            if name not in value:
                if item.is_required:
                    raise HTTPError(422, f"{name}: is missing")
                found[name] = item.default
                continue
            try:
                found[name] = item.parse(value[name])
            except ValueError as error:
                raise HTTPError(422, f"{name}: {error}") from None
        return found
