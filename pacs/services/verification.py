"""
Verification Service Class, PS3.4 annex A, as SCP: C-ECHO.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.dimse import CEchoRQ, CEchoRSP, Command, Response
from pacs.net.association import Association
from pacs.net.dispatch import Handler, ImmediateHandler
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

VERIFICATION_SOP_CLASS: Final = "1.2.840.10008.1.1"


class VerificationService:
    """Answers C-ECHO."""

    _support = AbstractSyntaxSupport(accepts_transfer_syntax=TRANSFER_SYNTAXES.__contains__)

    def __init__(self, *, authorization: Authorization) -> None:
        self._authorization = authorization
        self.handlers: Mapping[type[Command], Handler] = {}
        self.immediate_handlers: Mapping[type[Command], ImmediateHandler] = {CEchoRQ: self.c_echo}

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the one SOP class of this service."""
        return self._support if abstract_syntax == VERIFICATION_SOP_CLASS else None

    def c_echo(self, association: Association, context: AcceptedContext, request: CEchoRQ) -> Response:
        """Say that we are here (PS3.7 9.1.5)."""
        self._authorization.require(association, Operation.ECHO)
        return CEchoRSP(
            message_id_being_responded_to=request.message_id,
            status=0,
            affected_sop_class_uid=request.affected_sop_class_uid,
        )
