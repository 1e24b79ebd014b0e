"""
The identifier of C-GET and C-MOVE requests: what is to be retrieved (PS3.4 C.4.2.1.4, C.4.2.2, Y.4.1.1.3 and Y.6.1).
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
from pacs.extraction.errors import ExtractionError
from pacs.extraction.request import FrameKey, FrameRequest
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
LONGEST_FRAME_LIST_BYTES: Final = 16383 * 4  # what a 16-bit length holds (PS3.4 Y.3.2.1.1)


@dataclass(frozen=True, slots=True)
class RetrieveModel:
    """
    An information model.

    Attributes:
        levels: from the root down.
        is_hierarchical: the unique keys of the levels above are needed, unless relational retrieval was agreed on.
        has_frames: there is a FRAME level below.
    """

    levels: tuple[Level, ...]
    is_hierarchical: bool = True
    has_frames: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What is to be retrieved.

    Attributes:
        conditions: on the unique keys of the objects.
        frames: of the one object, where not the whole of it is wanted.
    """

    conditions: tuple[Equals | AnyOf, ...]
    frames: FrameRequest | None = None


PATIENT_ROOT: Final = RetrieveModel(LEVELS)
STUDY_ROOT: Final = RetrieveModel(LEVELS[1:])
PATIENT_STUDY_ONLY: Final = RetrieveModel(LEVELS[:2])
COMPOSITE_INSTANCE_ROOT: Final = RetrieveModel((Level.IMAGE,), is_hierarchical=False, has_frames=True)

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
    elements: Sequence[Element], model: RetrieveModel, *, is_relational: bool, is_little_endian: bool
) -> Wanted:
    """
    Give what a retrieval is about.

    The unique key of the level is one value or, but for Patient ID, a list; those of the levels above are one value
    each. Other keys have no meaning here and are not looked at.

    Args:
        is_relational: relational retrieval was agreed on: what stands above may be missing, or lists (C.4.2.2.2).

    Raises:
        DIMSEError: A900, the identifier does not fit the information model; AA04, its list of frames breaks the rules.
    """
    by_tag = {element.tag: element for element in elements}
    character_set = _text(by_tag.get(SPECIFIC_CHARACTER_SET), "")
    wants_frames = model.has_frames and _level_text(by_tag) == FRAME_LEVEL
    level = model.levels[-1] if wants_frames else _level(by_tag, model)
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
        if wants_frames and len(values) > 1:
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"{keyword}: one value at the FRAME level", (tag,))
        conditions.append(_condition(tag, keyword, values, upper))
    return Wanted(tuple(conditions), _frames(by_tag, is_little_endian=is_little_endian) if wants_frames else None)


def _level_text(by_tag: Mapping[int, Element]) -> str:
    return _text(by_tag.get(QUERY_RETRIEVE_LEVEL), "").upper()


def _level(by_tag: Mapping[int, Element], model: RetrieveModel) -> Level:
    text = _level_text(by_tag)
    for level in model.levels:
        if level.value == text:
            return level
    allowed = ", ".join([*(level.value for level in model.levels), *([FRAME_LEVEL] if model.has_frames else [])])
    raise DIMSEError(
        IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"Query/Retrieve Level must be {allowed}", (QUERY_RETRIEVE_LEVEL,)
    )


def _frames(by_tag: Mapping[int, Element], *, is_little_endian: bool) -> FrameRequest:
    """Give the one Frame Range Key (PS3.4 table Y.6-2)."""
    given = [key for key in FrameKey if key.value in by_tag and by_tag[key.value].value]
    if len(given) != 1:
        raise DIMSEError(
            IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
            "one list of frames or range of times is needed",
            tuple(key.value for key in given) or (FrameKey.SIMPLE_FRAME_LIST.value,),
        )
    (key,) = given
    value = by_tag[key.value].value
    if len(value) > LONGEST_FRAME_LIST_BYTES:
        raise DIMSEError(Status.INVALID_FRAME_REQUEST, f"{key.name_in_standard}: too long", (key.value,))
    if not is_little_endian:
        size = key.value_bytes
        value = b"".join(value[at : at + size][::-1] for at in range(0, len(value), size))
    request = FrameRequest(key, value)
    try:
        request.check()
    except ExtractionError as error:
        raise DIMSEError(Status.INVALID_FRAME_REQUEST, str(error), (key.value,)) from error
    return request


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
