"""
The standard's tables as data: PS3.15 Table E.1-1 resolved for our profiles, Types of attributes by IOD (PS3.3), the
dictionary (PS3.6) and what we add to them. Loaded when first asked for; nothing here decides anything.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

EDITION: Final = "2026d"
TABLE: Final = "profile_actions.csv"


class Profile(Enum):
    """What an operator chooses, by its name in the configuration."""

    BASIC = "basic"
    HIPAA_SAFE_HARBOR = "hipaa_safe_harbor"
    RETAIN_LONGITUDINAL = "retain_longitudinal"
    RETAIN_DEVICE_IDENTITY = "retain_device_identity"
    GDPR = "gdpr"


@dataclass(frozen=True, slots=True)
class Row:
    """
    A row of Table E.1-1.

    Attributes:
        pattern: eight hexadecimal digits, some of which may be `x`, or `private`.
        vr: "" where the table has none; the first of several.
        action: for one profile, as `profile_actions.csv` spells it.
    """

    pattern: str
    vr: str
    action: str

    @property
    def tag(self) -> int | None:
        """The tag, or None for a repeating group or private elements."""
        return None if "x" in self.pattern or self.pattern == "private" else int(self.pattern, 16)


def _records(name: str) -> Iterator[dict[str, str]]:
    with files("pacs.deidentification").joinpath("data", name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


@lru_cache(maxsize=1)
def _actions() -> tuple[dict[str, str], ...]:
    return tuple(_records(TABLE))


@lru_cache(maxsize=16)
def rows(profile: Profile, *, maps_uids: bool) -> tuple[Row, ...]:
    """
    Give the table's rows for a profile.

    Args:
        maps_uids: False: the Retain UIDs Option holds, each of its K is K; True: it does not, and those K go away.
    """
    retained = _retained_uids()
    plain = Profile.BASIC.value
    result = []
    for record in _actions():
        action = record[profile.value]
        if record["tag"] in retained:
            if not maps_uids:
                action = "K"
            elif profile is Profile.RETAIN_LONGITUDINAL:  # the one profile whose column has those K
                action = record[plain]
        result.append(Row(record["tag"], record["vr"].partition("/")[0].partition(" ")[0], action))
    return tuple(result)


@lru_cache(maxsize=1)
def _retained_uids() -> frozenset[str]:
    return frozenset(record["tag"] for record in _records("ps3_15_table_e1_1.csv") if record["rtn_uids"] == "K")


@lru_cache(maxsize=1)
def additional_rules() -> Mapping[int, str]:
    """Give actions that the table does not have, and that follow from it, by tag."""
    return {int(record["tag"], 16): record["action"] for record in _records("extra_rules.csv")}


@lru_cache(maxsize=1)
def dictionary() -> Mapping[int, str]:
    """Give the VR of each tag of the data dictionary, and of the table's that are newer; of several VRs the first."""
    known = {row.tag: row.vr for row in rows(Profile.BASIC, maps_uids=True) if row.tag is not None}
    known |= {int(record["tag"], 16): record["vr"].partition(" ")[0] for record in _records("dictionary.csv")}
    return known


@lru_cache(maxsize=1)
def keywords() -> Mapping[str, int]:
    """Give the tag of each keyword."""
    return {record["keyword"]: int(record["tag"], 16) for record in _records("dictionary.csv")}


@lru_cache(maxsize=1)
def iod_of_sop_class() -> Mapping[str, str]:
    """Give the IOD of each SOP Class."""
    return {record["sop_class_uid"]: record["iod"] for record in _records("sop_class_iod.csv")}


@lru_cache(maxsize=1)
def top_level_types() -> Mapping[tuple[str, int], str]:
    """Give the Type of an attribute at the top level, by IOD and tag; `u` for an optional module is cut off."""
    return {
        (iod, int(record["tag"], 16)): record["type"].rstrip("u")
        for record in _records("iod_types_top.csv")
        for iod in record["iods"].split(";")
    }


@lru_cache(maxsize=1)
def nested_types() -> Mapping[tuple[int, int], str]:
    """Give the strictest Type of an attribute in a sequence, by the sequence's tag and its own."""
    by_keyword = keywords()
    return {
        (by_keyword[record["parent_sequence"]], int(record["tag"], 16)): record["strictest_type"]
        for record in _records("iod_types_nested.csv")
    }


@lru_cache(maxsize=1)
def typed_tags() -> frozenset[int]:
    """Give the tags whose Types are known at all."""
    top = frozenset(tag for _, tag in top_level_types())
    return top | frozenset(tag for _, tag in nested_types())


def _tags(name: str) -> frozenset[int]:
    return frozenset(int(record["tag"], 16) for record in _records(name))


@lru_cache(maxsize=1)
def structural_uids() -> frozenset[int]:
    """Give the tags outside the table whose UIDs name classes and syntaxes, not instances: they stay."""
    return _tags("structural_uids.csv")


@lru_cache(maxsize=1)
def distinct_numbers() -> frozenset[int]:
    """Give the tags whose replacement must stay distinct from value to value."""
    return _tags("distinct.csv")


@lru_cache(maxsize=1)
def identifying() -> Mapping[int, str]:
    """Give the tags whose values name the patient, with `name` or `number`."""
    return {int(record["tag"], 16): record["kind"] for record in _records("identifying.csv")}


@lru_cache(maxsize=1)
def defined_terms() -> frozenset[bytes]:
    """Give words of the standard that an image's type is made of; none of them is an echo of a name."""
    return frozenset(record["term"].encode() for record in _records("defined_terms.csv"))


@lru_cache(maxsize=1)
def method_codes() -> Mapping[str, str]:
    """Give the meanings of the codes of CID 7050."""
    return {record["code_value"]: record["code_meaning"] for record in _records("ps3_16_cid7050.csv")}


@lru_cache(maxsize=1)
def dummy_texts() -> Mapping[str, bytes]:
    """Give the dummy of each VR of text that has one of its own."""
    return {record["vr"]: record["value"].encode() for record in _records("dummies.csv")}


@lru_cache(maxsize=1)
def dummy_items() -> Mapping[int, Any]:
    """Give the dummy item of each sequence that can't do without: elements by tag, each with VR and value."""
    text = files("pacs.deidentification").joinpath("data", "dummy_items.json").read_text(encoding="utf-8")
    return {int(tag, 16): item for tag, item in json.loads(text).items()}
