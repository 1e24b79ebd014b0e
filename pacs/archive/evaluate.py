"""
Matching by looking at values: what the index's columns can't tell, because the attribute is in the headers alone, or
because its kind of matching is beyond SQL (PS3.4 C.2.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pacs.archive.attributes import Matching
from pacs.archive.names import fuzzy_name_matches, name_matches, wildcard_expression
from pacs.archive.query import (
    ONE_VALUE_VRS,
    AnyOf,
    Condition,
    Equals,
    Name,
    Number,
    Period,
    Range,
    SequenceKey,
    Wildcard,
)
from pacs.archive.times import moments, normal_date, normal_time
from pacs.dataset.values import Value

_ABSENT: Final = Value("")


def matches(condition: Condition, values: Mapping[int, Value]) -> bool:
    """Whether an entity, or an item of a sequence, with these values matches."""
    if isinstance(condition, Period):
        return _is_in_period(condition, values)
    value = values.get(condition.tag, _ABSENT)
    if isinstance(condition, SequenceKey):
        return not condition.conditions or any(_item_matches(condition, item) for item in value.items or ())
    if isinstance(condition, Range) and not value.text:
        return condition.matches_unknown  # PS3.4 C.2.2.1.2: the value is unknown
    parts = (value.text,) if value.vr in ONE_VALUE_VRS else tuple(value.text.split("\\"))
    return any(_matches_one(condition, part.strip()) for part in parts)


def _item_matches(key: SequenceKey, item: Mapping[int, Value]) -> bool:
    return all(matches(condition, item) for condition in (*key.conditions, *key.nested))


def _matches_one(condition: Condition, text: str) -> bool:
    if isinstance(condition, Equals):
        return text == condition.value
    if isinstance(condition, Wildcard):
        return _expression(condition.pattern).fullmatch(text) is not None
    if isinstance(condition, AnyOf):
        return any(_expression(value).fullmatch(text) is not None for value in condition.values)
    if isinstance(condition, Name):
        match = fuzzy_name_matches if condition.is_fuzzy else name_matches
        return any(match(key, text) for key in condition.keys)
    if isinstance(condition, Number):
        return any(_number(key) == _number(text) for key in condition.values)
    if isinstance(condition, Range):
        return _is_in_range(condition, text)
    raise TypeError(f"{type(condition).__name__} is not matched value by value")


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(wildcard_expression(pattern), re.DOTALL)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _is_in_range(condition: Range, text: str) -> bool:
    if condition.kind is Matching.TEXT:
        early, late = moments(text)
        if not early:
            return False
        return (not condition.high or early <= condition.high) and (not condition.low or late >= condition.low)
    plain = normal_date(text) if condition.kind is Matching.DATE else normal_time(text)
    return bool(plain) and condition.low <= plain <= (condition.high or "99999999")


def _is_in_period(condition: Period, values: Mapping[int, Value]) -> bool:
    date_text, time_text = (values.get(part.tag, _ABSENT).text for part in (condition.date, condition.time))
    if not date_text:
        return True
    date, time = normal_date(date_text), normal_time(time_text)
    if not date or not time:
        return bool(date) and not time_text and _is_in_range(condition.date, date_text)
    low = condition.date.low + (condition.time.low or "000000") if condition.date.low else ""
    high = condition.date.high + (condition.time.high or "99") if condition.date.high else "9" * 9
    return low <= date + time <= high


def wanted_items(key: SequenceKey, value: Value) -> Value:
    """Give the items that match, with the attributes that are wanted of them (PS3.4 C.2.2.2.6)."""
    if value.items is None:
        return value
    items = tuple(item for item in value.items if not key.conditions or _item_matches(key, item))
    if not key.wanted:
        return Value(value.vr, "", items)
    nested = {inner.tag: inner for inner in key.nested}
    return Value(
        value.vr,
        "",
        tuple(
            {
                tag: wanted_items(nested[tag], item[tag]) if tag in nested else item[tag]
                for tag in key.wanted
                if tag in item
            }
            for item in items
        ),
    )
