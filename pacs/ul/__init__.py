"""
The DICOM Upper Layer Protocol for TCP/IP, PS3.8, without input or output of its own.
"""

from pacs.ul.errors import LocalProtocolError, RemoteProtocolError
from pacs.ul.indications import (
    AbortIndication,
    AssociateConfirmation,
    AssociateIndication,
    AssociateRejection,
    CloseTransport,
    DataFragment,
    Indication,
    OpenTransport,
    ProviderAbortIndication,
    ReleaseConfirmation,
    ReleaseIndication,
    StartARTIM,
    StopARTIM,
)
from pacs.ul.items import (
    APPLICATION_CONTEXT_NAME,
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from pacs.ul.limits import Limits
from pacs.ul.negotiation import (
    IMPLEMENTATION_CLASS_UID,
    AbstractSyntaxSupport,
    AcceptedContext,
    Implementation,
    negotiate,
    read_accepted,
)
from pacs.ul.pdu import AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRP, AReleaseRQ
from pacs.ul.provider import Role, UpperLayer
from pacs.ul.table import TRANSITIONS, Action, Event, State, Transition

__all__ = [
    "APPLICATION_CONTEXT_NAME",
    "IMPLEMENTATION_CLASS_UID",
    "TRANSITIONS",
    "AAbort",
    "AAssociateAC",
    "AAssociateRJ",
    "AAssociateRQ",
    "AReleaseRP",
    "AReleaseRQ",
    "AbortIndication",
    "AbstractSyntaxSupport",
    "AcceptedContext",
    "Action",
    "AssociateConfirmation",
    "AssociateIndication",
    "AssociateRejection",
    "AsynchronousOperationsWindow",
    "CloseTransport",
    "CommonExtendedNegotiation",
    "DataFragment",
    "Event",
    "ExtendedNegotiation",
    "Implementation",
    "Indication",
    "Limits",
    "LocalProtocolError",
    "OpenTransport",
    "PresentationContextAC",
    "PresentationContextRQ",
    "ProviderAbortIndication",
    "ReleaseConfirmation",
    "ReleaseIndication",
    "RemoteProtocolError",
    "Role",
    "RoleSelection",
    "StartARTIM",
    "State",
    "StopARTIM",
    "Transition",
    "UpperLayer",
    "UserIdentity",
    "UserInformation",
    "negotiate",
    "read_accepted",
]
