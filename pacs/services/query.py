"""
Query Service Class, PS3.4 annex C, as SCP: C-FIND in the Patient Root, Study Root and Patient/Study Only models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from pacs.archive.archive import Archive
from pacs.dataset.elements import Element
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.dimse import CFindRQ, MessageEncoder
from pacs.events import EventBus
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.services.finding import SUPPORT, FindService, Found, negotiated_of, pending_response
from pacs.services.identifiers import LEVELS_OF, Identifier, parse_identifier
from pacs.services.responses import ResponseForm, response_encoder
from pacs.ul import AbstractSyntaxSupport, AcceptedContext


class QueryService(FindService):
    """
    Answers C-FIND from the archive.

    Args:
        ae_title: ours, where the objects can be retrieved.
    """

    operation = Operation.FIND

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
        super().__init__(
            authorization=authorization, bus=bus, metrics=metrics, clock=clock, identifier_bytes=identifier_bytes
        )
        self._archive = archive
        self._ae_title = ae_title

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the three information models."""
        return SUPPORT if abstract_syntax in LEVELS_OF else None

    async def send_matches(
        self, association: Association, context: AcceptedContext, request: CFindRQ, elements: Sequence[Element]
    ) -> Found:
        """Answer from what the index has ready, or page by page."""
        identifier = parse_identifier(
            elements,
            levels=LEVELS_OF[context.abstract_syntax],
            negotiated=negotiated_of(association, context.abstract_syntax),
            is_little_endian=TRANSFER_SYNTAXES[context.transfer_syntax].is_little_endian,
        )
        count = 0
        if not identifier.is_unavailable:
            count = await self._answer(association, context, request, identifier)
        return Found(identifier.query.level.value, count)

    async def _answer(
        self, association: Association, context: AcceptedContext, request: CFindRQ, identifier: Identifier
    ) -> int:
        query = identifier.query
        responses = response_encoder(
            ResponseForm(
                identifier.keys, query.level, identifier.character_set, context.transfer_syntax, self._ae_title
            )
        )
        pending = pending_response(request, supports_all=identifier.supports_all)
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
