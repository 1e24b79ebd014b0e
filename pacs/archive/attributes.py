"""
The attributes that the index keeps: one table, from which the schema, the scanner's list of wanted tags and the
query keys are made (PS3.4 C.6.1 and C.6.2, PS3.18 10.6).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from struct import Struct
from typing import Final

from pacs.dataset.charset import ONE_VALUE_VRS, decode_text
from pacs.dataset.scanner import ScannedDataSet


class Level(Enum):
    """The levels of the Query/Retrieve Information Models, PS3.4 C.6."""

    __hash__ = object.__hash__  # members are one of a kind; Enum's own is a Python function, and they are keys

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


class Matching(Enum):
    """How a key of an attribute is compared, PS3.4 C.2.2.2."""

    TEXT = "text"
    NAME = "name"
    UID = "uid"
    DATE = "date"
    TIME = "time"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Attribute:
    """
    One attribute of the index.

    Attributes:
        tag: group and element as one integer.
        keyword: of PS3.6.
        column: the name of its column in the table of its level.
    """

    tag: int
    keyword: str
    vr: str
    level: Level
    column: str
    matching: Matching


_P, _S, _E, _I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE
_TEXT, _NAME, _UID = Matching.TEXT, Matching.NAME, Matching.UID
_DATE, _TIME, _NUMBER = Matching.DATE, Matching.TIME, Matching.NUMBER

ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    Attribute(0x00100020, "PatientID", "LO", _P, "patient_id", _TEXT),
    Attribute(0x00100021, "IssuerOfPatientID", "LO", _P, "issuer", _TEXT),
    Attribute(0x00100010, "PatientName", "PN", _P, "patient_name", _NAME),
    Attribute(0x00100030, "PatientBirthDate", "DA", _P, "birth_date", _DATE),
    Attribute(0x00100032, "PatientBirthTime", "TM", _P, "birth_time", _TIME),
    Attribute(0x00100040, "PatientSex", "CS", _P, "sex", _TEXT),
    Attribute(0x00102160, "EthnicGroup", "SH", _P, "ethnic_group", _TEXT),
    Attribute(0x00104000, "PatientComments", "LT", _P, "patient_comments", _TEXT),
    Attribute(0x0020000D, "StudyInstanceUID", "UI", _S, "study_instance_uid", _UID),
    Attribute(0x00080020, "StudyDate", "DA", _S, "study_date", _DATE),
    Attribute(0x00080030, "StudyTime", "TM", _S, "study_time", _TIME),
    Attribute(0x00080050, "AccessionNumber", "SH", _S, "accession_number", _TEXT),
    Attribute(0x00200010, "StudyID", "SH", _S, "study_id", _TEXT),
    Attribute(0x00081030, "StudyDescription", "LO", _S, "study_description", _TEXT),
    Attribute(0x00080090, "ReferringPhysicianName", "PN", _S, "referring_physician", _NAME),
    Attribute(0x00081060, "NameOfPhysiciansReadingStudy", "PN", _S, "reading_physicians", _NAME),
    Attribute(0x00081080, "AdmittingDiagnosesDescription", "LO", _S, "admitting_diagnoses", _TEXT),
    Attribute(0x00101010, "PatientAge", "AS", _S, "patient_age", _TEXT),
    Attribute(0x00101020, "PatientSize", "DS", _S, "patient_size", _NUMBER),
    Attribute(0x00101030, "PatientWeight", "DS", _S, "patient_weight", _NUMBER),
    Attribute(0x00102180, "Occupation", "SH", _S, "occupation", _TEXT),
    Attribute(0x001021B0, "AdditionalPatientHistory", "LT", _S, "additional_patient_history", _TEXT),
    Attribute(0x0020000E, "SeriesInstanceUID", "UI", _E, "series_instance_uid", _UID),
    Attribute(0x00080060, "Modality", "CS", _E, "modality", _TEXT),
    Attribute(0x00200011, "SeriesNumber", "IS", _E, "series_number", _NUMBER),
    Attribute(0x0008103E, "SeriesDescription", "LO", _E, "series_description", _TEXT),
    Attribute(0x00080021, "SeriesDate", "DA", _E, "series_date", _DATE),
    Attribute(0x00080031, "SeriesTime", "TM", _E, "series_time", _TIME),
    Attribute(0x00180015, "BodyPartExamined", "CS", _E, "body_part_examined", _TEXT),
    Attribute(0x00200060, "Laterality", "CS", _E, "laterality", _TEXT),
    Attribute(0x00181030, "ProtocolName", "LO", _E, "protocol_name", _TEXT),
    Attribute(0x00081050, "PerformingPhysicianName", "PN", _E, "performing_physician", _NAME),
    Attribute(0x00081070, "OperatorsName", "PN", _E, "operators_name", _NAME),
    Attribute(0x00080070, "Manufacturer", "LO", _E, "manufacturer", _TEXT),
    Attribute(0x00080080, "InstitutionName", "LO", _E, "institution_name", _TEXT),
    Attribute(0x00081010, "StationName", "SH", _E, "station_name", _TEXT),
    Attribute(0x00400244, "PerformedProcedureStepStartDate", "DA", _E, "performed_start_date", _DATE),
    Attribute(0x00400245, "PerformedProcedureStepStartTime", "TM", _E, "performed_start_time", _TIME),
    Attribute(0x00080018, "SOPInstanceUID", "UI", _I, "sop_instance_uid", _UID),
    Attribute(0x00080016, "SOPClassUID", "UI", _I, "sop_class_uid", _UID),
    Attribute(0x00200013, "InstanceNumber", "IS", _I, "instance_number", _NUMBER),
    Attribute(0x00080023, "ContentDate", "DA", _I, "content_date", _DATE),
    Attribute(0x00080033, "ContentTime", "TM", _I, "content_time", _TIME),
    Attribute(0x00080022, "AcquisitionDate", "DA", _I, "acquisition_date", _DATE),
    Attribute(0x00080032, "AcquisitionTime", "TM", _I, "acquisition_time", _TIME),
    Attribute(0x00200012, "AcquisitionNumber", "IS", _I, "acquisition_number", _NUMBER),
    Attribute(0x00080008, "ImageType", "CS", _I, "image_type", _TEXT),
    Attribute(0x00280008, "NumberOfFrames", "IS", _I, "number_of_frames", _NUMBER),
    Attribute(0x00280010, "Rows", "US", _I, "rows", _NUMBER),
    Attribute(0x00280011, "Columns", "US", _I, "columns", _NUMBER),
    Attribute(0x00280100, "BitsAllocated", "US", _I, "bits_allocated", _NUMBER),
)

SPECIFIC_CHARACTER_SET: Final = 0x00080005
INDEX_TAGS: Final = frozenset({SPECIFIC_CHARACTER_SET, *(attribute.tag for attribute in ATTRIBUTES)})

ATTRIBUTES_OF: Final[Mapping[Level, tuple[Attribute, ...]]] = {
    level: tuple(attribute for attribute in ATTRIBUTES if attribute.level is level) for level in Level
}


@dataclass(frozen=True, slots=True)
class IndexValues:
    """
    What the index keeps of one object, as text; "" where an attribute is absent or empty.

    Attributes:
        patient, study, series, instance: values in the order of `ATTRIBUTES_OF` their level.
        character_set: Specific Character Set of the object.
    """

    patient: tuple[str, ...]
    study: tuple[str, ...]
    series: tuple[str, ...]
    instance: tuple[str, ...]
    character_set: str


_PADDING: Final = "\0 "
_US: Final = {True: Struct("<H"), False: Struct(">H")}
_NAME_VRS: Final = frozenset(("PN",))
_TEXT_VRS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UT"))
_PATIENT_VRS, _STUDY_VRS, _SERIES_VRS, _IMAGE_VRS = (tuple(a.vr for a in ATTRIBUTES_OF[level]) for level in Level)
_PATIENT_TAGS, _STUDY_TAGS, _SERIES_TAGS, _IMAGE_TAGS = (tuple(a.tag for a in ATTRIBUTES_OF[level]) for level in Level)
REMEMBERED_TUPLES: Final = 1024


def _number(raw: bytes, is_little_endian: bool) -> str:
    if len(raw) < 2:
        return ""
    return str(_US[is_little_endian].unpack_from(raw)[0])


def _text(raw: bytes, vr: str, character_set: str) -> str:
    if vr in _TEXT_VRS:
        text = decode_text(raw, character_set, is_person_name=vr in _NAME_VRS, is_one_value=vr in ONE_VALUE_VRS)
        return text.strip(_PADDING)
    return raw.decode("latin-1").strip(_PADDING)


def index_values(scanned: ScannedDataSet, *, default_character_set: str | None = None) -> IndexValues:
    """
    Give the index's values of a scanned object; a value that can't be parsed stays searchable as text.

    Args:
        default_character_set: of objects that name none.
    """
    get = scanned.values.get
    raw_character_set = get(SPECIFIC_CHARACTER_SET)
    character_set = raw_character_set.decode("latin-1").strip(_PADDING) if raw_character_set else ""
    decoding = character_set or default_character_set or ""
    is_little_endian = scanned.is_little_endian
    return IndexValues(
        _shared_values(_PATIENT_VRS, tuple(map(get, _PATIENT_TAGS)), decoding, is_little_endian),
        _shared_values(_STUDY_VRS, tuple(map(get, _STUDY_TAGS)), decoding, is_little_endian),
        _shared_values(_SERIES_VRS, tuple(map(get, _SERIES_TAGS)), decoding, is_little_endian),
        _level_values(_IMAGE_VRS, tuple(map(get, _IMAGE_TAGS)), decoding, is_little_endian),
        decoding,
    )


def _level_values(
    vrs: tuple[str, ...], raw_values: tuple[bytes | None, ...], character_set: str, is_little_endian: bool
) -> tuple[str, ...]:
    found: list[str] = []
    for raw, vr in zip(raw_values, vrs, strict=True):
        if not raw:
            found.append("")
        elif vr == "US":
            found.append(_number(raw, is_little_endian))
        elif raw.isascii() and b"\x1b" not in raw:
            found.append(raw.decode("ascii").strip(_PADDING))
        else:
            found.append(_text(raw, vr, character_set))
    return tuple(found)


_shared_values = lru_cache(maxsize=REMEMBERED_TUPLES)(_level_values)
"""The same for what the objects of a series have in common, remembered."""


@lru_cache(maxsize=4096)
def name_search_key(name: str) -> str:
    """
    Give the form in which names are compared: case, width and padding do not count (PS3.4 C.2.2.2.1.1).

    Component groups stay apart by "=", components by "^"; empty ones at the end are dropped. Several names are kept
    apart by a backslash.
    """
    if "\\" in name:
        return "\\".join(map(name_search_key, name.split("\\")))
    normalized = unicodedata.normalize("NFKC", name).casefold()
    groups = ["^".join(part.strip() for part in group.split("^")).rstrip("^ ") for group in normalized.split("=")]
    return "=".join(groups).rstrip("=")
