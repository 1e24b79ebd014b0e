"""
What every C-FIND has in common, PS3.7 9.1.2: the identifier is read, the matches go out as pending responses, the final
response follows; what was found is counted and told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

from twisted.internet.interfaces import IReactorTime

from pacs.dataset.elements import Element, read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.transfer_syntaxes import is_for_messages
from pacs.dimse import (
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    CFindRQ,
    CFindRSP,
    Command,
    DIMSEError,
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
from pacs.services.identifiers import IDENTIFIER_ELEMENTS, Negotiated, answer_extended
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

_NOTHING_NEGOTIATED: Final = Negotiated()
SUPPORT: Final = AbstractSyntaxSupport(accepts_transfer_syntax=is_for_messages, extended=answer_extended)


class Found(NamedTuple):
    """
    What a query gave.

    Attributes:
        level: for the event.
        matches: how many were sent.
    """

    level: str
    matches: int


def negotiated_of(association: Association, abstract_syntax: str) -> Negotiated:
    """Give what was negotiated for one of our SOP classes: what the peer proposed and we accept."""
    for proposal in association.request.user_information.extended_negotiations:
        if proposal.sop_class_uid == abstract_syntax:
            return Negotiated.of(answer_extended(proposal.information) or b"")
    return _NOTHING_NEGOTIATED


def pending_response(request: CFindRQ, *, supports_all: bool) -> CFindRSP:
    """Give the command of a match's response; FF01 when some key is not supported (PS3.4 C.4.1.1.4)."""
    return CFindRSP(
        message_id_being_responded_to=request.message_id,
        affected_sop_class_uid=request.affected_sop_class_uid,
        status=Status.PENDING if supports_all else Status.PENDING_WITH_WARNING,
        has_data_set=True,
    )


class FindService(ABC):
    """
    Answers C-FIND.

    Attributes:
        operation: what the peer's role must allow.
    """

    operation: ClassVar[Operation]

    def __init__(
        self,
        *,
        authorization: Authorization,
        bus: EventBus,
        metrics: Metrics,
        clock: IReactorTime,
        identifier_bytes: int,
    ) -> None:
        self._authorization = authorization
        self._bus = bus
        self._metrics = metrics
        self._clock = clock
        self._identifier_bytes = identifier_bytes
        self.handlers: Mapping[type[Command], Handler] = {CFindRQ: self.c_find}

    async def c_find(
        self, association: Association, context: AcceptedContext, request: CFindRQ, data_set: DataSetSource | None
    ) -> Response:
        """Give a pending response for each match, then the final one (PS3.4 C.4.1.3, K.4.1.3)."""
        started_s = self._clock.seconds()
        self._authorization.require(association, self.operation)
        if request.affected_sop_class_uid != context.abstract_syntax:
            raise DIMSEError(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context")
        if data_set is None:
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, "C-FIND-RQ without an identifier")
        raw = await data_set.read(self._identifier_bytes)
        try:
            elements = read_elements(raw, context.transfer_syntax, at_most=IDENTIFIER_ELEMENTS)
        except DataSetError as error:
            raise DIMSEError(Status.CANNOT_UNDERSTAND, f"identifier: {error}") from error
        found = await self.send_matches(association, context, request, elements)
        self._metrics.query_results_total.inc(found.matches)
        if self._bus.has_subscribers(QueryExecuted):
            self._bus.publish(
                QueryExecuted(
                    query_level=found.level,
                    result_count=found.matches,
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

    @abstractmethod
    async def send_matches(
        self, association: Association, context: AcceptedContext, request: CFindRQ, elements: Sequence[Element]
    ) -> Found:
        """
        Send the matches, as fast as the peer takes them. Ends early when the peer cancels.

        Raises:
            DIMSEError: the identifier can't be answered.
        """
