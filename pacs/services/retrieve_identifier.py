"""
The identifier of C-GET and C-MOVE requests: what is to be retrieved (PS3.4 C.4.2.1.4, C.4.2.2 and Y.6.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pacs.archive.attributes import SPECIFIC_CHARACTER_SET, Level
from pacs.archive.keys import BY_TAG, LEVELS, UNIQUE_KEYS
from pacs.archive.query import UID_LIST_LENGTH, AnyOf, Equals
from pacs.dataset.charset import decode_text
from pacs.dataset.elements import Element
from pacs.dimse import IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, DIMSEError, Status
from pacs.services.identifiers import QUERY_RETRIEVE_LEVEL
from pacs.services.sop_classes import (
    COMPOSITE_INSTANCE_ROOT_GET,
    COMPOSITE_INSTANCE_ROOT_MOVE,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    PATIENT_STUDY_ONLY_GET,
    PATIENT_STUDY_ONLY_MOVE,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)

FRAME_LEVEL: Final = "FRAME"


@dataclass(frozen=True, slots=True)
class RetrieveModel:
    """
    An information model.

    Attributes:
        levels: from the root down.
        is_hierarchical: the unique keys of the levels above are needed, unless relational retrieval was agreed on.
    """

    levels: tuple[Level, ...]
    is_hierarchical: bool = True


PATIENT_ROOT: Final = RetrieveModel(LEVELS)
STUDY_ROOT: Final = RetrieveModel(LEVELS[1:])
PATIENT_STUDY_ONLY: Final = RetrieveModel(LEVELS[:2])
COMPOSITE_INSTANCE_ROOT: Final = RetrieveModel((Level.IMAGE,), is_hierarchical=False)

MODELS: Final[Mapping[str, RetrieveModel]] = {
    PATIENT_ROOT_GET: PATIENT_ROOT,
    PATIENT_ROOT_MOVE: PATIENT_ROOT,
    STUDY_ROOT_GET: STUDY_ROOT,
    STUDY_ROOT_MOVE: STUDY_ROOT,
    PATIENT_STUDY_ONLY_GET: PATIENT_STUDY_ONLY,
    PATIENT_STUDY_ONLY_MOVE: PATIENT_STUDY_ONLY,
    COMPOSITE_INSTANCE_ROOT_GET: COMPOSITE_INSTANCE_ROOT,
    COMPOSITE_INSTANCE_ROOT_MOVE: COMPOSITE_INSTANCE_ROOT,
}


def parse_identifier(
    elements: Sequence[Element], model: RetrieveModel, *, is_relational: bool
) -> tuple[Level, tuple[Equals | AnyOf, ...]]:
    """
    Give the level and the conditions of a retrieval.

    The unique key of the level is one value or, but for Patient ID, a list; those of the levels above are one value
    each. Other keys have no meaning here and are not looked at.

    Args:
        is_relational: relational retrieval was agreed on: what stands above may be missing, or lists (C.4.2.2.2).

    Raises:
        DIMSEError: A900, the identifier does not fit the information model; AA02, frames are wanted.
    """
    by_tag = {element.tag: element for element in elements}
    character_set = _text(by_tag.get(SPECIFIC_CHARACTER_SET), "")
    level = _level(by_tag.get(QUERY_RETRIEVE_LEVEL), model)
    conditions: list[Equals | AnyOf] = []
    for upper in model.levels[: model.levels.index(level) + 1]:
        tag = UNIQUE_KEYS[upper]
        values = _values(by_tag.get(tag), character_set)
        keyword = BY_TAG[tag].keyword
        if not values:
            if upper is level or (model.is_hierarchical and not is_relational):
                raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"{keyword} is missing", (tag,))
            continue
        if len(values) > 1 and upper is not level and not is_relational:
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"{keyword}: one value above the level", (tag,))
        conditions.append(_condition(tag, keyword, values, upper))
    return level, tuple(conditions)


def _level(element: Element | None, model: RetrieveModel) -> Level:
    text = _text(element, "").upper()
    if text == FRAME_LEVEL and model is COMPOSITE_INSTANCE_ROOT:
        raise DIMSEError(Status.UNABLE_TO_EXTRACT_FRAMES, "frames are not extracted; retrieve the instance")
    for level in model.levels:
        if level.value == text:
            return level
    allowed = ", ".join(level.value for level in model.levels)
    raise DIMSEError(
        IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"Query/Retrieve Level must be {allowed}", (QUERY_RETRIEVE_LEVEL,)
    )


def _condition(tag: int, keyword: str, values: tuple[str, ...], level: Level) -> Equals | AnyOf:
    if len(values) > UID_LIST_LENGTH:
        raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"{keyword}: more than {UID_LIST_LENGTH} values", (tag,))
    if any("*" in value or "?" in value for value in values):
        raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"{keyword}: no wild cards in a unique key", (tag,))
    if level is not Level.PATIENT:
        return AnyOf(tag, values)
    if len(values) > 1:
        raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"{keyword}: one value", (tag,))
    return Equals(tag, values[0])


def _values(element: Element | None, character_set: str) -> tuple[str, ...]:
    return tuple(value for part in _text(element, character_set).split("\\") if (value := part.strip("\0 ")))


def _text(element: Element | None, character_set: str) -> str:
    return "" if element is None else decode_text(element.value, character_set, is_person_name=False).strip("\0 ")
