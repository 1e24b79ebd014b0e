"""
Verification Service Class, PS3.4 annex A, as SCP: C-ECHO.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.dimse import CEchoRQ, Command, Response, Status
from pacs.net.association import Association
from pacs.net.dispatch import Handler
from pacs.net.source import DataSetSource
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

VERIFICATION_SOP_CLASS: Final = "1.2.840.10008.1.1"


class VerificationService:
    """Answers C-ECHO."""

    _support = AbstractSyntaxSupport(accepts_transfer_syntax=TRANSFER_SYNTAXES.__contains__)

    def __init__(self) -> None:
        self.handlers: Mapping[type[Command], Handler] = {CEchoRQ: self.c_echo}

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the one SOP class of this service."""
        return self._support if abstract_syntax == VERIFICATION_SOP_CLASS else None

    async def c_echo(
        self, association: Association, context: AcceptedContext, request: CEchoRQ, data_set: DataSetSource | None
    ) -> Response:
        """Say that we are here (PS3.7 9.1.5)."""
        return request.response(Status.SUCCESS)
