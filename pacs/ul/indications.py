"""
What the Upper Layer tells its user: the indication and confirmation primitives of PS3.8 section 7, and what it asks
of whoever owns the transport and the timer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pacs.ul.errors import RemoteProtocolError
from pacs.ul.pdu import AAssociateAC, AAssociateRQ


class DataFragment(NamedTuple):
    """
    A piece of a presentation data value, PS3.8 annex E; a value that comes in pieces gives several.

    Attributes:
        is_command: of a command set, else of a data set.
        is_last: it ends the last fragment of its command set or data set.
        data: a view of the received bytes.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


@dataclass(frozen=True, slots=True)
class AssociateIndication:
    """A peer requests an association."""

    request: AAssociateRQ


@dataclass(frozen=True, slots=True)
class AssociateConfirmation:
    """The peer accepted our request."""

    response: AAssociateAC


@dataclass(frozen=True, slots=True)
class AssociateRejection:
    """The peer rejected our request (A-ASSOCIATE-RJ, PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ReleaseIndication:
    """The peer wants to release the association; answer with `respond_release`."""


@dataclass(frozen=True, slots=True)
class ReleaseConfirmation:
    """The peer confirmed our release."""


@dataclass(frozen=True, slots=True)
class AbortIndication:
    """The peer aborted (A-ABORT, PS3.8 9.3.8)."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ProviderAbortIndication:
    """
    The Upper Layer gave up (A-P-ABORT, PS3.8 7.4).

    Attributes:
        error: what the peer did wrong; None when the transport was lost.
    """

    error: RemoteProtocolError | None


@dataclass(frozen=True, slots=True)
class OpenTransport:
    """Open the transport connection."""


@dataclass(frozen=True, slots=True)
class CloseTransport:
    """Send what is to be sent, then close the transport connection."""


@dataclass(frozen=True, slots=True)
class StartARTIM:
    """Start the ARTIM timer, or restart it (PS3.8 9.1.5)."""


@dataclass(frozen=True, slots=True)
class StopARTIM:
    """Stop the ARTIM timer."""


Indication = (
    DataFragment
    | AssociateIndication
    | AssociateConfirmation
    | AssociateRejection
    | ReleaseIndication
    | ReleaseConfirmation
    | AbortIndication
    | ProviderAbortIndication
    | OpenTransport
    | CloseTransport
    | StartARTIM
    | StopARTIM
)
"""Everything that `UpperLayer` gives."""
