"""
Who was wrong: the two errors of the Upper Layer, and the numbers that A-ABORT carries for them (PS3.8 9.3.8).
"""

from __future__ import annotations

from typing import Final

SOURCE_SERVICE_USER: Final = 0
SOURCE_SERVICE_PROVIDER: Final = 2

REASON_NOT_SPECIFIED: Final = 0
REASON_UNRECOGNIZED_PDU: Final = 1
REASON_UNEXPECTED_PDU: Final = 2
REASON_UNRECOGNIZED_PDU_PARAMETER: Final = 4
REASON_UNEXPECTED_PDU_PARAMETER: Final = 5
REASON_INVALID_PDU_PARAMETER_VALUE: Final = 6


class LocalProtocolError(Exception):
    """Our own side asked for what the state does not allow: a bug of ours."""


class RemoteProtocolError(Exception):
    """
    The peer sent what the protocol does not allow.

    Attributes:
        source: of the A-ABORT that answers it, PS3.8 9.3.8.
        reason: likewise; significant when the source is the service-provider.
    """

    def __init__(self, message: str, *, reason: int = REASON_INVALID_PDU_PARAMETER_VALUE) -> None:
        super().__init__(message)
        self.source = SOURCE_SERVICE_PROVIDER
        self.reason = reason
