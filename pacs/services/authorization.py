"""
What a caller's role lacks is refused at the message, and told: in the Error Comment, the log, an event and a metric.

A refused presentation context would not tell the user why (PS3.7 annex C: 0124, Refused: Not authorized).
"""

from __future__ import annotations

from pacs.dimse import DIMSEError, Status
from pacs.monitoring.denials import Denials
from pacs.net.association import Association
from pacs.security.access import Operation


class Authorization:
    """Asks whether a peer has the right to do what it requests."""

    def __init__(self, *, denials: Denials) -> None:
        self._denials = denials

    def require(self, association: Association, operation: Operation) -> None:
        """
        Return when the peer of an association has a right.

        Raises:
            DIMSEError: 0124, with what was missing as its comment; it has been reported.
        """
        if not association.principal.may(operation):
            raise DIMSEError(Status.NOT_AUTHORIZED, self._denials.denied(association.principal, operation))
