"""
Rules: a profile's table compiled to one mapping from tags to actions for each SOP Class and for each sequence.

Compound action codes are resolved by the attribute's Type in the IOD, or in the sequence (PS3.15 E.1.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from pacs.deidentification.profiles import Policy
from pacs.deidentification.tables import (
    additional_rules,
    dictionary,
    iod_of_sop_class,
    nested_types,
    rows,
    structural_uids,
    top_level_types,
    typed_tags,
)

STRICTEST: Final = "?"  # the SOP Class is private or unknown
UNDEFINED: Final = ""  # the IOD, or the sequence, does not define the attribute


class Action(IntEnum):
    """What is done to one attribute."""

    KEEP = 0
    REMOVE = 1
    EMPTY = 2
    DUMMY = 3
    UID = 4
    SHIFT = 5
    YEAR = 6
    CAP_AGE = 7
    STRUCTURAL = 8
    REFERENCES = 9  # a sequence: no items, unless the object lists what it refers to


class Rule(NamedTuple):
    """
    What is done to an attribute at one place.

    Attributes:
        vr: by the table or the dictionary, "" if neither knows.
        is_required: Type 1: it must have a value, even where the original has none.
    """

    action: Action
    vr: str
    is_required: bool


_BY_TYPE: Final[Mapping[str, Mapping[str, Action]]] = {
    "X/Z": {"1": Action.DUMMY, "2": Action.EMPTY, STRICTEST: Action.EMPTY},
    "X/D": {"1": Action.DUMMY, "2": Action.EMPTY, STRICTEST: Action.DUMMY},
    "X/Z/D": {"1": Action.DUMMY, "2": Action.EMPTY, STRICTEST: Action.DUMMY},
    "X/Z/U*": {"1": Action.KEEP, "2": Action.REFERENCES, STRICTEST: Action.KEEP},  # kept: entered for its UIDs
    "Z/D": {"1": Action.DUMMY, "2": Action.EMPTY, STRICTEST: Action.DUMMY, "3": Action.EMPTY, UNDEFINED: Action.EMPTY},
    "D": {"1": Action.DUMMY, "2": Action.DUMMY, "3": Action.DUMMY, STRICTEST: Action.DUMMY},
}
"""Compound codes and D by Type; where a Type is not listed, the attribute is removed."""

_SIMPLE: Final[Mapping[str, Action]] = {
    "X": Action.REMOVE,
    "C|X": Action.REMOVE,
    "Z": Action.EMPTY,
    "U": Action.UID,
    "K": Action.KEEP,
    "C:shift": Action.SHIFT,
    "C:year": Action.YEAR,
    "K:cap90": Action.CAP_AGE,
}

_KINDS: Final = frozenset(("DA", "TM", "DT", "PN", "UR", "UI"))


def _resolve(code: str, kind: str) -> Action:
    """Resolve an action code by the Type; `1C` counts as 1, `2C` as 2: their conditions can't be told."""
    if code in _SIMPLE:
        return _SIMPLE[code]
    by_type = _BY_TYPE["D" if code == "C|D" else code]
    return by_type.get(kind.rstrip("C") if kind else kind, Action.REMOVE)


def outside_table(vr: str, policy: Policy) -> Action:
    """Give what is done to an attribute that the table does not list, by the kind of its values."""
    if vr in ("DA", "TM", "DT"):
        return {"C:shift": Action.SHIFT, "C:year": Action.YEAR}.get(policy.date_action, Action.DUMMY)
    if vr in ("PN", "UR"):
        return Action.DUMMY
    if vr == "UI":
        return Action.UID if policy.maps_uids else Action.KEEP
    return Action.KEEP


@lru_cache(maxsize=16)
def _base(policy: Policy) -> tuple[Mapping[int, tuple[str, str]], Mapping[int, Rule]]:
    """Give the table's codes by tag, and the rules for what it does not list but the dictionary knows."""
    listed = {}
    for row in rows(policy.profile, maps_uids=policy.maps_uids):
        if row.tag is not None:
            listed[row.tag] = (row.action, row.vr)
    others = {}
    structural = structural_uids()
    for tag, vr in dictionary().items():
        if vr == "SQ" and tag not in listed:  # entered; what is written with another VR can't be, and goes
            others[tag] = Rule(Action.KEEP, vr, is_required=False)
        if tag in listed or vr not in _KINDS:
            continue
        action = Action.STRUCTURAL if tag in structural else outside_table(vr, policy)
        if action is not Action.KEEP:
            others[tag] = Rule(action, vr, is_required=False)
    for tag, code in additional_rules().items():
        listed[tag] = (code, dictionary()[tag])
    return listed, others


def _compile(policy: Policy, types: Mapping[int, str], is_known: bool) -> Mapping[int, Rule]:
    listed, others = _base(policy)
    typed = typed_tags()
    rules = dict(others)
    for tag, (code, vr) in listed.items():
        kind = types.get(tag, UNDEFINED) if is_known and tag in typed else STRICTEST
        rules[tag] = Rule(_resolve(code, kind), vr, kind.startswith("1"))
    return rules


@lru_cache(maxsize=256)
def rules_of_sop_class(policy: Policy, sop_class_uid: str) -> Mapping[int, Rule]:
    """Give the rules for the top level of an object."""
    iod = iod_of_sop_class().get(sop_class_uid)
    types = {tag: kind for (name, tag), kind in top_level_types().items() if name == iod}
    return _compile(policy, types, is_known=iod is not None)


@lru_cache(maxsize=1024)
def rules_of_sequence(policy: Policy, sequence: int, is_known_sop_class: bool) -> Mapping[int, Rule]:
    """Give the rules for the items of a sequence, in all IODs."""
    types = {tag: kind for (parent, tag), kind in nested_types().items() if parent == sequence}
    if not types:
        return _rules_of_other_sequences(policy, is_known_sop_class)
    return _compile(policy, types, is_known=is_known_sop_class)


@lru_cache(maxsize=32)
def _rules_of_other_sequences(policy: Policy, is_known_sop_class: bool) -> Mapping[int, Rule]:
    return _compile(policy, {}, is_known=is_known_sop_class)
