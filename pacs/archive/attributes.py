"""
The attributes that the index keeps: one table, from which the schema, the scanner's list of wanted tags and the
query keys are made (PS3.4 C.6.1 and C.6.2, PS3.18 10.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Level(Enum):
    """The levels of the Query/Retrieve Information Models, PS3.4 C.6."""

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
_TEXT, _NAME, _UID, _DATE, _TIME, _NUMBER = (
    Matching.TEXT, Matching.NAME, Matching.UID, Matching.DATE, Matching.TIME, Matching.NUMBER,
)

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
