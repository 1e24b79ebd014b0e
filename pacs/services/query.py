"""
Query Service Class, PS3.4 annex C, as SCP: C-FIND in the Patient Root, Study Root and Patient/Study Only models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from pacs.archive.archive import Archive
from pacs.dataset.elements import read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.dimse import (
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    CFindRQ,
    CFindRSP,
    Command,
    DIMSEError,
    MessageEncoder,
    Response,
    Status,
)
from pacs.events import EventBus, QueryExecuted
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.net.dispatch import Handler
from pacs.net.source import DataSetSource
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.services.identifiers import LEVELS_OF, Identifier, Negotiated, answer_extended, parse_identifier
from pacs.services.responses import ResponseForm, response_encoder
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

_NOTHING_NEGOTIATED: Final = Negotiated()


def _accepts(transfer_syntax: str) -> bool:
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax)
    return syntax is not None and not syntax.is_encapsulated and not syntax.is_deflated and syntax.keeps_pixels


def negotiated_of(association: Association, abstract_syntax: str) -> Negotiated:
    """Give what was negotiated for one of our SOP classes: what the peer proposed and we accept."""
    for proposal in association.request.user_information.extended_negotiations:
        if proposal.sop_class_uid == abstract_syntax:
            return Negotiated.of(answer_extended(proposal.information) or b"")
    return _NOTHING_NEGOTIATED


class QueryService:
    """Answers C-FIND."""

    _support = AbstractSyntaxSupport(accepts_transfer_syntax=_accepts, extended=answer_extended)

    def __init__(
        self,
        *,
        archive: Archive,
        authorization: Authorization,
        bus: EventBus,
        metrics: Metrics,
        clock: IReactorTime,
        ae_title: str,
        identifier_bytes: int,
    ) -> None:
        self._archive = archive
        self._authorization = authorization
        self._bus = bus
        self._metrics = metrics
        self._clock = clock
        self._ae_title = ae_title
        self._identifier_bytes = identifier_bytes
        self.handlers: Mapping[type[Command], Handler] = {CFindRQ: self.c_find}

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the three information models."""
        return self._support if abstract_syntax in LEVELS_OF else None

    async def c_find(
        self, association: Association, context: AcceptedContext, request: CFindRQ, data_set: DataSetSource | None
    ) -> Response:
        """Give a pending response for each match, then the final one (PS3.4 C.4.1.3)."""
        started_s = self._clock.seconds()
        self._authorization.require(association, Operation.FIND)
        if request.affected_sop_class_uid != context.abstract_syntax:
            raise DIMSEError(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context")
        if data_set is None:
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, "C-FIND-RQ without an identifier")
        raw = await data_set.read(self._identifier_bytes)
        try:
            elements = read_elements(raw, context.transfer_syntax)
        except DataSetError as error:
            raise DIMSEError(Status.CANNOT_UNDERSTAND, f"identifier: {error}") from error
        identifier = parse_identifier(
            elements,
            levels=LEVELS_OF[context.abstract_syntax],
            negotiated=negotiated_of(association, context.abstract_syntax),
            is_little_endian=TRANSFER_SYNTAXES[context.transfer_syntax].is_little_endian,
        )
        count = 0
        if not identifier.is_unavailable:
            count = await self._answer(association, context, request, identifier)
        self._metrics.query_results_total.inc(count)
        if self._bus.has_subscribers(QueryExecuted):
            self._bus.publish(
                QueryExecuted(
                    query_level=identifier.query.level.value,
                    result_count=count,
                    calling_ae=association.calling_ae_title,
                    duration_ms=(self._clock.seconds() - started_s) * 1000,
                    protocol="dimse",
                    peer_address=association.peer_address,
                    sop_class_uid=context.abstract_syntax,
                    transfer_syntax_uid=context.transfer_syntax,
                    identifier=raw,
                )
            )
        return request.response(Status.CANCEL if association.is_canceled(request.message_id) else Status.SUCCESS)

    async def _answer(
        self, association: Association, context: AcceptedContext, request: CFindRQ, identifier: Identifier
    ) -> int:
        """Send the matches, as fast as the peer takes them; give how many. Ends early when the peer cancels."""
        query = identifier.query
        responses = response_encoder(
            ResponseForm(
                identifier.keys, query.level, identifier.character_set, context.transfer_syntax, self._ae_title
            )
        )
        pending = CFindRSP(
            message_id_being_responded_to=request.message_id,
            affected_sop_class_uid=request.affected_sop_class_uid,
            status=Status.PENDING if identifier.supports_all else Status.PENDING_WITH_WARNING,
            has_data_set=True,
        )
        messages = MessageEncoder(context.id, pending, association.max_send_pdu_length)

        def make_page(rows: list[Any]) -> bytes:
            return responses.encode_page(rows, messages)

        rows = self._archive.look_up(query)
        if rows is not None:
            if rows:
                association.write(make_page(rows))
            return len(rows)
        count = 0
        pages = self._archive.find(query, make_page)
        association.when_canceled(request.message_id, pages.stop)
        try:
            async for page, rows_of_page in pages:
                if page:
                    waiting = association.write(page)
                    count += rows_of_page
                    if waiting is not None:
                        await waiting
        finally:
            pages.close()
        return count
