"""
How data sets are kept in the index, and how `pacsctl` hands them to the server: JSON, the shortest that loses nothing.

`{"00100020": ["LO", "123"], "00400100": ["SQ", [{…}]]}`
"""

from __future__ import annotations

import json
from typing import Any

from pacs.dataset.values import Value, Values


def to_stored(values: Values) -> str:
    """Give a data set as text."""
    return json.dumps(_plain(values), separators=(",", ":"), ensure_ascii=False)


def from_stored(text: str) -> dict[int, Value]:
    """Give the data set of a text that `to_stored` made."""
    return _values(json.loads(text))


def _plain(values: Values) -> dict[str, Any]:
    return {
        f"{tag:08X}": [value.vr, value.text if value.items is None else [_plain(item) for item in value.items]]
        for tag, value in values.items()
    }


def _values(plain: dict[str, Any]) -> dict[int, Value]:
    return {
        int(tag, 16): Value(vr, content) if isinstance(content, str) else Value(vr, "", tuple(map(_values, content)))
        for tag, (vr, content) in plain.items()
    }
