"""
What can be a key of a query: the attributes of the index, those that it computes, and every other element of the
stored headers; for each the level that it belongs to (PS3.4 C.3 and C.6, PS3.3 C.7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pacs.archive.attributes import ATTRIBUTES, Level
from pacs.dataset.dictionary import vr_of

LEVELS: Final = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
BY_TAG: Final = {attribute.tag: attribute for attribute in ATTRIBUTES}

UNIQUE_KEYS: Final[Mapping[Level, int]] = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}

MODALITIES_IN_STUDY: Final = 0x00080061
SOP_CLASSES_IN_STUDY: Final = 0x00080062

COMPUTED: Final[Mapping[int, tuple[str, str, Level]]] = {
    MODALITIES_IN_STUDY: ("ModalitiesInStudy", "CS", Level.STUDY),
    SOP_CLASSES_IN_STUDY: ("SOPClassesInStudy", "UI", Level.STUDY),
    0x00201200: ("NumberOfPatientRelatedStudies", "IS", Level.PATIENT),
    0x00201202: ("NumberOfPatientRelatedSeries", "IS", Level.PATIENT),
    0x00201204: ("NumberOfPatientRelatedInstances", "IS", Level.PATIENT),
    0x00201206: ("NumberOfStudyRelatedSeries", "IS", Level.STUDY),
    0x00201208: ("NumberOfStudyRelatedInstances", "IS", Level.STUDY),
    0x00201209: ("NumberOfSeriesRelatedInstances", "IS", Level.SERIES),
}
"""Attributes that the index computes, by tag: keyword, VR and level (PS3.4 C.3.4)."""


def _tags(group: int, elements: str) -> dict[int, int]:
    return {group << 16 | int(element, 16): group for element in elements.split()}


_PATIENT_TAGS: Final = frozenset(
    {
        **_tags(0x0008, "1120"),
        **_tags(0x0010, "0022 0024 0026 0033 0034 0035 0212 0213 0214 0215 0216 0217 0218 0219 0221 0222 0223 0229"),
        **_tags(0x0010, "0200 1000 1001 1002 1005 1060 1100 2201 2202 2292 2293 2294 2295 2296 2297 2298 2299"),
        **_tags(0x0012, "0010 0020 0021 0030 0031 0040 0042 0062 0063 0064 0081 0082"),
    }
)
"""Of the Patient and Clinical Trial Subject modules, PS3.3 C.7.1, as far as they have no column."""

_STUDY_TAGS: Final = frozenset(
    {
        **_tags(0x0008, "0051 0096 009C 009D 1032 1048 1049 1062 1084 1110"),
        **_tags(0x0010, "1022 1023 1024 1030 2000 2110 21A0 21C0 21D0 2203"),
        **_tags(0x0012, "0050 0051 0052 0053 0083 0084 0085"),
        **_tags(0x0020, "1070"),
        **_tags(0x0032, "1032 1033 1034 1060 1064 1066 1067"),
        **_tags(0x0038, "0010 0014 0060 0062 0064 0500"),
        **_tags(0x0040, "1002 100A 1012"),
    }
)
"""Of the General Study, Patient Study and Clinical Trial Study modules, PS3.3 C.7.2; with retired keys of studies."""

_SERIES_TAGS: Final = frozenset(
    {
        **_tags(0x0008, "0081 0082 103F 1040 1041 1052 1072 1090 1111 1250"),
        **_tags(0x0010, "2210"),
        **_tags(0x0012, "0060 0071 0072"),
        **_tags(0x0018, "1000 1002 1008 100A 1020 1050 1200 1201 1202 5100"),
        **_tags(0x0020, "0052 1040"),
        **_tags(0x0028, "0108 0109 0120"),
        **_tags(0x0040, "0241 0242 0243 0250 0251 0253 0254 0255 0260 0275 0280"),
        **_tags(0x300A, "0700"),
    }
)
"""Of the General Series, Frame of Reference and General Equipment modules, PS3.3 C.7.3 to C.7.5."""

_FIRST_TAG: Final = 0x00080000
_PIXEL_GROUPS: Final = range(0x7F00, 0x8000)
_FIRST_STRUCTURAL_GROUP: Final = 0xFFFC
_LENGTHS: Final = 0x0000  # the element number of a group length


def level_of(tag: int) -> Level | None:
    """Give the level that a key belongs to, or None when there is no such key."""
    attribute = BY_TAG.get(tag)
    if attribute is not None:
        return attribute.level
    computed = COMPUTED.get(tag)
    if computed is not None:
        return computed[2]
    if tag in _PATIENT_TAGS:
        return Level.PATIENT
    if tag in _STUDY_TAGS:
        return Level.STUDY
    if tag in _SERIES_TAGS:
        return Level.SERIES
    group = tag >> 16
    if tag < _FIRST_TAG or not tag & 0xFFFF or group in _PIXEL_GROUPS or group >= _FIRST_STRUCTURAL_GROUP:
        return None
    return Level.IMAGE


def is_of_header(tag: int) -> bool:
    """Whether a key is neither a column nor computed: its values are in the stored headers alone."""
    return tag not in BY_TAG and tag not in COMPUTED


def is_within(level: Level, upper: Level) -> bool:
    """Whether `upper` is the level itself or above it."""
    return LEVELS.index(upper) <= LEVELS.index(level)


def key_vr(tag: int, encoded_vr: str = "") -> str:
    """Give the VR of a key: the standard's, else what the peer has encoded."""
    attribute = BY_TAG.get(tag)
    if attribute is not None:
        return attribute.vr
    computed = COMPUTED.get(tag)
    if computed is not None:
        return computed[1]
    return encoded_vr if encoded_vr not in ("", "UN") else vr_of(tag)
