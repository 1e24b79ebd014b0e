"""
The coded values of audit messages: PS3.16 CID 400 to 405 and the value sets of PS3.15 A.5.1.2, as data.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Code(NamedTuple):
    """A coded value (`CodedValueType` of PS3.15 A.5.1.1)."""

    value: str
    meaning: str
    system: str = "DCM"


# Event identifiers, PS3.15 A.5.3
APPLICATION_ACTIVITY: Final = Code("110100", "Application Activity")
AUDIT_LOG_USED: Final = Code("110101", "Audit Log Used")
BEGIN_TRANSFERRING: Final = Code("110102", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
STUDY_DELETED: Final = Code("110105", "DICOM Study Deleted")
EXPORT: Final = Code("110106", "Export")
NETWORK_ENTRY: Final = Code("110108", "Network Entry")
PROCEDURE_RECORD: Final = Code("110111", "Procedure Record")
QUERY: Final = Code("110112", "Query")
SECURITY_ALERT: Final = Code("110113", "Security Alert")
USER_AUTHENTICATION: Final = Code("110114", "User Authentication")

# Event types
APPLICATION_START: Final = Code("110120", "Application Start")
APPLICATION_STOP: Final = Code("110121", "Application Stop")
LOGIN: Final = Code("110122", "Login")
LOGOUT: Final = Code("110123", "Logout")
ATTACH: Final = Code("110124", "Attach")
DETACH: Final = Code("110125", "Detach")

# Roles of active participants
ROLE_APPLICATION: Final = Code("110150", "Application")
ROLE_DESTINATION_MEDIA: Final = Code("110154", "Destination Media")
ROLE_DESTINATION: Final = Code("110152", "Destination Role ID")
ROLE_SOURCE: Final = Code("110153", "Source Role ID")

# What identifies a participant object
ID_PATIENT_NUMBER: Final = Code("2", "Patient Number", "RFC-3881")
ID_URI: Final = Code("12", "URI", "RFC-3881")
ID_STUDY_INSTANCE_UID: Final = Code("110180", "Study Instance UID")
ID_SOP_CLASS_UID: Final = Code("110181", "SOP Class UID")
ID_NODE: Final = Code("110182", "Node ID")

EVENTS: Final = (
    APPLICATION_ACTIVITY,
    AUDIT_LOG_USED,
    BEGIN_TRANSFERRING,
    INSTANCES_ACCESSED,
    INSTANCES_TRANSFERRED,
    STUDY_DELETED,
    EXPORT,
    NETWORK_ENTRY,
    PROCEDURE_RECORD,
    QUERY,
    SECURITY_ALERT,
    USER_AUTHENTICATION,
)
"""Every event that this server reports."""


class AlertKind(Enum):
    """The event types of a Security Alert, PS3.15 A.5.3.11."""

    NODE_AUTHENTICATION = Code("110126", "Node Authentication")
    EMERGENCY_OVERRIDE = Code("110127", "Emergency Override Started")
    NETWORK_CONFIGURATION = Code("110128", "Network Configuration")
    SECURITY_CONFIGURATION = Code("110129", "Security Configuration")
    HARDWARE_CONFIGURATION = Code("110130", "Hardware Configuration")
    SOFTWARE_CONFIGURATION = Code("110131", "Software Configuration")
    RESTRICTED_FUNCTION = Code("110132", "Use of Restricted Function")
    AUDIT_RECORDING_STOPPED = Code("110133", "Audit Recording Stopped")
    AUDIT_RECORDING_STARTED = Code("110134", "Audit Recording Started")
    OBJECT_SECURITY_ATTRIBUTES_CHANGED = Code("110135", "Object Security Attributes Changed")
    SECURITY_ROLES_CHANGED = Code("110136", "Security Roles Changed")
    USER_SECURITY_ATTRIBUTES_CHANGED = Code("110137", "User Security Attributes Changed")


class Outcome(Enum):
    """EventOutcomeIndicator, PS3.15 A.5.1.1."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"
