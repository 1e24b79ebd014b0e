"""
The identifier of a C-FIND request: from its elements to a query, PS3.4 C.4.1.1.3 and C.4.1.3.

Without negotiation a query is hierarchical: it names one entity at each level above its own. Further keys of those
levels are matched and answered all the same, as users of other archives expect. With relational queries negotiated
no unique key is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pacs.archive.attributes import SPECIFIC_CHARACTER_SET, Level
from pacs.archive.keys import LEVELS, UNIQUE_KEYS, is_within, key_vr, level_of
from pacs.archive.query import Condition, Equals, Query, QueryError, SequenceKey, combined, condition_for, name_of
from pacs.dataset.charset import ONE_VALUE_VRS, decode_text
from pacs.dataset.elements import Element
from pacs.dimse import IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, DIMSEError
from pacs.services.sop_classes import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND, STUDY_ROOT_FIND

IDENTIFIER_ELEMENTS: Final = 2000
"""As many elements as are read of an identifier: it is done in the reactor, and each costs 15 microseconds."""

QUERY_RETRIEVE_LEVEL: Final = 0x00080052
RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056
TIMEZONE_OFFSET: Final = 0x00080201

LEVELS_OF: Final[Mapping[str, tuple[Level, ...]]] = {
    PATIENT_ROOT_FIND: (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
    STUDY_ROOT_FIND: (Level.STUDY, Level.SERIES, Level.IMAGE),
    PATIENT_STUDY_ONLY_FIND: (Level.PATIENT, Level.STUDY),
}
"""The levels of the information models, PS3.4 C.3."""

_NO_KEYS: Final = frozenset((QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET))
_ONLINE: Final = "ONLINE"
_NUMBER_VRS: Final = {"US": False, "UL": False, "SS": True, "SL": True}  # with their sign


@dataclass(frozen=True, slots=True)
class Negotiated:
    """
    What SOP Class Extended Negotiation gave, PS3.4 C.5.1.1.

    Attributes:
        is_relational: queries without the unique keys of the levels above.
        combines_dates_and_times: a range of a date and one of its time are one period.
        is_fuzzy: fuzzy semantic matching of person names.
    """

    is_relational: bool = False
    combines_dates_and_times: bool = False
    is_fuzzy: bool = False

    @classmethod
    def of(cls, proposal: bytes) -> Negotiated:
        """Read a proposal; what it lacks is 0."""
        return cls(*(byte == 1 for byte in proposal[:3]))


def answer_extended(proposal: bytes) -> bytes | None:
    """
    Answer a proposal byte by byte: relational queries, combined date-time matching and fuzzy matching are accepted.

    Timezone query adjustment and enhanced multi-frame image conversion are turned down.
    """
    if not proposal:
        return None
    return bytes(byte == 1 and i < 3 for i, byte in enumerate(proposal))


@dataclass(frozen=True, slots=True)
class Identifier:
    """
    A parsed C-FIND identifier.

    Attributes:
        keys: tag and VR of every supported key that the peer wants back, in the order of tags.
        supports_all: every key is supported; else a match is FF01.
        is_unavailable: it asks for an Instance Availability that no object here has.
    """

    query: Query
    keys: tuple[tuple[int, str], ...]
    character_set: str
    supports_all: bool
    is_unavailable: bool = False


@dataclass(slots=True)
class Keys:
    """
    What is gathered of the keys, of the main data set or of an item.

    Attributes:
        wanted: tag and VR of what is to be answered, in the order of tags.
        nested: the sequences among them.
    """

    conditions: list[Condition] = field(default_factory=list)
    wanted: list[tuple[int, str]] = field(default_factory=list)
    nested: list[SequenceKey] = field(default_factory=list)
    supports_all: bool = True


_NOTHING_NEGOTIATED: Final = Negotiated()


def parse_identifier(
    elements: Sequence[Element],
    *,
    levels: Sequence[Level],
    negotiated: Negotiated = _NOTHING_NEGOTIATED,
    is_little_endian: bool = True,
) -> Identifier:
    """
    Read an identifier.

    Args:
        levels: of the information model, from the top.

    Raises:
        DIMSEError: A900, it does not fit the information model.
    """
    by_tag = {element.tag: element for element in elements if element.tag & 0xFFFF}
    character_set = _code(by_tag.get(SPECIFIC_CHARACTER_SET))
    level = _level(by_tag.get(QUERY_RETRIEVE_LEVEL), levels)
    if not negotiated.is_relational:
        _require_unique_keys(by_tag, level, levels)
    unique_key = UNIQUE_KEYS[level]
    if unique_key not in by_tag:
        by_tag[unique_key] = Element(unique_key, "UI", b"")
    availability = _code(by_tag.pop(INSTANCE_AVAILABILITY, None)).upper()
    parser = KeyParser(character_set, negotiated, is_little_endian=is_little_endian)
    keys = parser.keys([by_tag[tag] for tag in sorted(by_tag) if tag not in _NO_KEYS], level)
    conditions = tuple(keys.conditions)
    if negotiated.combines_dates_and_times:
        conditions = combined(conditions)
    return Identifier(
        Query(level, conditions, tuple(tag for tag, _ in keys.wanted)),
        tuple(keys.wanted),
        character_set,
        keys.supports_all,
        availability not in ("", "*") and _ONLINE not in availability.split("\\"),
    )


def _code(element: Element | None) -> str:
    return "" if element is None else element.value.decode("latin-1").strip("\0 ")


def _level(element: Element | None, levels: Sequence[Level]) -> Level:
    level = _LEVEL_OF.get(_code(element).upper())
    if level is None or level not in levels:
        allowed = ", ".join(item.value for item in levels)
        raise DIMSEError(
            IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"Query/Retrieve Level must be {allowed}", (QUERY_RETRIEVE_LEVEL,)
        )
    return level


_LEVEL_OF: Final = {level.value: level for level in LEVELS}


def _require_unique_keys(by_tag: Mapping[int, Element], level: Level, levels: Sequence[Level]) -> None:
    """Each level above has one entity named, PS3.4 C.4.1.2.2.1 and C.4.1.3.1.1."""
    for upper in levels[: levels.index(level)]:
        tag = UNIQUE_KEYS[upper]
        value = _code(by_tag.get(tag))
        if not value or "*" in value or "?" in value:
            raise DIMSEError(
                IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
                f"{name_of(tag)} needs a value, or negotiate relational queries",
                (tag,),
            )


class KeyParser:
    """Reads keys in one character set."""

    def __init__(self, character_set: str, negotiated: Negotiated, *, is_little_endian: bool) -> None:
        self._character_set = character_set
        self._is_fuzzy = negotiated.is_fuzzy
        self._byte_order: Final = "little" if is_little_endian else "big"

    def keys(self, elements: Iterable[Element], level: Level | None) -> Keys:
        """
        Read keys.

        Args:
            level: of the query; None in an item of a sequence, where every attribute is the item's own.
        """
        keys = Keys()
        creators: dict[int, Element] = {}
        used: set[int] = set()
        for element in elements:
            tag, vr = element.tag, _vr_of(element)
            if _is_structure(tag):
                if tag & 0x10000:
                    creators[tag] = element
                continue
            if level is not None and not _is_key_at(tag, level):
                keys.supports_all = False
                continue
            try:
                if (creator := creators.get(tag & 0xFFFF0000 | tag >> 8 & 0xFF)) is not None:
                    used.add(creator.tag)
                    if element.value or element.items:
                        keys.conditions.append(Equals(creator.tag, self._text(creator, "LO")))
                self._add(keys, element, tag, vr)
            except QueryError as error:
                raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, str(error), (tag,)) from error
        if used:  # a private element says nothing without its private creator (PS3.5 7.8.1)
            keys.wanted = sorted([*keys.wanted, *((tag, "LO") for tag in used)])
        return keys

    def _add(self, keys: Keys, element: Element, tag: int, vr: str) -> None:
        if vr == "SQ":
            sequence = self._sequence(element, keys)
            keys.wanted.append((tag, vr))
            if sequence is not None:
                keys.nested.append(sequence)
                keys.conditions.append(sequence)
            return
        if vr in _BINARY:
            keys.supports_all = False
            return
        keys.wanted.append((tag, vr))
        if element.value:
            condition = condition_for(tag, self._text(element, vr), vr=vr, is_fuzzy=self._is_fuzzy)
            if condition is not None:
                keys.conditions.append(condition)

    def _sequence(self, element: Element, outer: Keys) -> SequenceKey | None:
        """Read the one item of a key; of more than one the first (PS3.4 C.2.2.2.6)."""
        items = element.items or ()
        if not items or not items[0]:
            return None
        keys = self.keys(items[0], None)
        outer.supports_all = outer.supports_all and keys.supports_all
        conditions = tuple(c for c in keys.conditions if not isinstance(c, SequenceKey))
        return SequenceKey(
            element.tag,
            conditions + tuple(c for c in keys.nested if c.conditions),
            tuple(tag for tag, _ in keys.wanted),
            tuple(keys.nested),
        )

    def _text(self, element: Element, vr: str) -> str:
        value = element.value
        if vr in _NUMBER_VRS:
            size = 2 if vr in ("US", "SS") else 4
            numbers = (value[i : i + size] for i in range(0, len(value) - size + 1, size))
            return "\\".join(str(int.from_bytes(n, self._byte_order, signed=_NUMBER_VRS[vr])) for n in numbers)
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii").strip("\0 ")
        text = decode_text(value, self._character_set, is_person_name=vr == "PN", is_one_value=vr in ONE_VALUE_VRS)
        return text.strip("\0 ")


_BINARY: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN", "AT", "FL", "FD", "SV", "UV"))


def _is_structure(tag: int) -> bool:
    """Whether an element says how others are to be read: a character set, a private creator, a group's length."""
    return tag == SPECIFIC_CHARACTER_SET or not tag & 0xFFFF or bool(tag & 0x10000 and not tag & 0xFF00)


@lru_cache(maxsize=4096)
def _is_key_at(tag: int, level: Level) -> bool:
    """Whether a key belongs to a level or to one above it."""
    key_level = level_of(tag)
    return key_level is not None and is_within(level, key_level)


def _vr_of(element: Element) -> str:
    return "SQ" if element.items is not None else key_vr(element.tag, element.vr)
