"""
Keys whose feature is not built yet: setting one to something else than its default is refused, never ignored; a
default that is not in force yet gets a warning at the start.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from pacs.config.model import Configuration

NOT_AVAILABLE: Final = (
    "storage.database.url",
    "storage.objects",
    "rest_api.max_request_bytes",
)
"""Keys, and whole sections, that a later version brings."""

MAY_BE_SWITCHED_OFF: Final[frozenset[str]] = frozenset()
"""Booleans that say what is the case today anyway."""

NOT_IN_FORCE: Final[tuple[tuple[str, str], ...]] = ()
"""Built-in defaults that promise what is not there yet."""


def _flatten(model: BaseModel, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            values.update(_flatten(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values


def refused_keys(configuration: Configuration) -> list[str]:
    """Give the keys that ask for what is not available yet."""
    defaults = _flatten(Configuration())
    refused: list[str] = []
    for key, value in _flatten(configuration).items():
        is_later = any(key == name or key.startswith(f"{name}.") for name in NOT_AVAILABLE)
        if not is_later or value == defaults[key] or (key in MAY_BE_SWITCHED_OFF and value is False):
            continue
        refused.append(key)
    return refused


def warnings(configuration: Configuration) -> list[str]:
    """Give a warning for each default that is not in force yet."""
    values = _flatten(configuration)
    return [f"{key}: {message}" for key, message in NOT_IN_FORCE if values[key]]
