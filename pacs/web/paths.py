"""
Finding the route of a path without klein: for those whose parameters are whole segments, which is nearly all of them.

klein matches what is left, and answers what there is not. Its matching and the Deferreds around it cost as much as the
rest of a short request together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

_PARAMETER: Final = re.compile(r"\{(\w+)(?:\.\.\.)?\}")

T = TypeVar("T")
_Key = tuple[str | None, ...]


class PathTable(Generic[T]):
    """Paths by their segments; a path without parameters comes before one with some."""

    def __init__(self) -> None:
        self._fixed: dict[bytes, tuple[T, dict[str, str]]] = {}
        self._shapes: dict[int, list[tuple[int, ...]]] = {}
        self._found: dict[_Key, tuple[T, dict[int, str]]] = {}

    def add(self, path: str, found: T) -> bool:
        """
        Add a path; give whether this table finds all that it can mean.

        It does not for a parameter that is less than a segment, nor for one that takes slashes (`{name...}`), but as
        they are: one with slashes that are quoted is a segment as any other.
        """
        segments = path[1:].split("/")
        names = {place: match[1] for place, part in enumerate(segments) if (match := _PARAMETER.fullmatch(part))}
        if any("{" in part for place, part in enumerate(segments) if place not in names):
            return False
        if not names:
            self._fixed[path.encode()] = found, {}
            return True
        shapes = self._shapes.setdefault(len(segments), [])
        if tuple(names) not in shapes:
            shapes.append(tuple(names))
        self._found[_key(segments, tuple(names))] = (found, names)
        return "..." not in path

    def find(self, path: bytes) -> tuple[T, dict[str, str]] | None:
        """
        Give what was added for a path as it was asked for, and its parameters' values; None when there is nothing.

        Raises:
            UnicodeDecodeError: the path is not UTF-8, or a segment that is quoted is not.
        """
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        segments = path.decode("utf-8")[1:].split("/")
        if b"%" in path:
            segments = [unquote_to_bytes(part).decode("utf-8") for part in segments]
            if not any("/" in part for part in segments):
                fixed = self._fixed.get(f"/{'/'.join(segments)}".encode())
                if fixed is not None:
                    return fixed
        for shape in self._shapes.get(len(segments), ()):
            found = self._found.get(_key(segments, shape))
            if found is not None and all(segments[place] for place in shape):
                return found[0], {name: segments[place] for place, name in found[1].items()}
        return None


def _key(segments: Sequence[str], places: tuple[int, ...]) -> _Key:
    return tuple([None if place in places else segment for place, segment in enumerate(segments)])
