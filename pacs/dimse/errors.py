"""
The failures of DIMSE: one that ends the association, and one that is a status in a response.
"""

from __future__ import annotations


class DIMSEProtocolError(Exception):
    """What the peer sent makes no message (PS3.7 section 6.3 and 9.3): the association cannot go on."""


class DIMSEError(Exception):
    """
    A request that fails with a status, PS3.7 annex C.

    Attributes:
        status: of the response.
        comment: for its Error Comment; without patient data.
        offending_elements: tags for its Offending Element.
        error_id: for its Error ID, in a normalized response.
    """

    def __init__(
        self,
        status: int,
        comment: str | None = None,
        offending_elements: tuple[int, ...] = (),
        error_id: int | None = None,
    ) -> None:
        super().__init__(f"{status:04X}{': ' + comment if comment else ''}")
        self.status = status
        self.comment = comment
        self.offending_elements = offending_elements
        self.error_id = error_id
