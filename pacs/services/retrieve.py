"""
Retrieve Service Class, PS3.4 annex C and Y, as SCP: C-GET and C-MOVE in the Patient Root, Study Root, Patient/Study
Only and Composite Instance Root models.

C-GET stores over the requester's own association, in the contexts in which it offered to be the SCP; C-MOVE over
associations of ours with a node of `server.remote_nodes`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from pacs.archive.archive import Archive
from pacs.archive.errors import ArchiveError
from pacs.archive.retrieval import Selection
from pacs.dataset.elements import read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.transfer_syntaxes import is_for_messages
from pacs.dimse import (
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    CGetRQ,
    CMoveRQ,
    Command,
    DIMSEError,
    Status,
)
from pacs.events import EventBus
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Answer, Association, AssociationClosed
from pacs.net.dispatch import Handler
from pacs.net.nodes import RemoteNode, RemoteNodes
from pacs.net.source import DataSetSource
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.services.retrieve_identifier import MODELS, parse_identifier
from pacs.services.retrieve_progress import Progress
from pacs.services.retrieve_report import Receiver, RetrieveReporter
from pacs.tasks.contexts import SendingContexts
from pacs.tasks.send import MoveOriginator, ObjectSender, Transcoder
from pacs.tasks.transfer import ObjectTransfer
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

PENDING_INTERVAL_S: Final = 1.5
"""A C-MOVE's requester hears from us at least this often, whatever the destination does."""
TICK_S: Final = 0.25
CANCEL_GRACE_S: Final = 2.0
"""A canceled C-MOVE's object on the way gets so long to arrive before its association is aborted."""


def _extended(information: bytes) -> bytes:
    """Agree to relational retrieval, and to nothing else that may be proposed (PS3.4 C.5.2.1, C.5.3.1)."""
    return bytes((information[0] & 1,)) + bytes(len(information) - 1) if information else b""


class RetrieveService:
    """
    Answers C-GET and C-MOVE.

    Args:
        nodes: the destinations of C-MOVE.
        response_timeout_s: how long a receiver may take for a C-STORE response.
    """

    _support = AbstractSyntaxSupport(accepts_transfer_syntax=is_for_messages, extended=_extended)

    def __init__(
        self,
        *,
        archive: Archive,
        nodes: RemoteNodes,
        transcoder: Transcoder,
        authorization: Authorization,
        bus: EventBus,
        metrics: Metrics,
        clock: IReactorTime,
        identifier_bytes: int,
        response_timeout_s: float,
    ) -> None:
        self._archive = archive
        self._nodes = nodes
        self._transcoder = transcoder
        self._authorization = authorization
        self._clock = clock
        self._identifier_bytes = identifier_bytes
        self._response_timeout_s = response_timeout_s
        self._reporter = RetrieveReporter(bus=bus, metrics=metrics, clock=clock)
        self._transfer = ObjectTransfer(
            archive=archive,
            nodes=nodes,
            transcoder=transcoder,
            clock=clock,
            response_timeout_s=response_timeout_s,
        )
        self.handlers: Mapping[type[Command], Handler] = {CGetRQ: self.c_get, CMoveRQ: self.c_move}

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the information models."""
        return self._support if abstract_syntax in MODELS else None

    async def c_get(
        self, association: Association, context: AcceptedContext, request: CGetRQ, data_set: DataSetSource | None
    ) -> Answer:
        """Store what matches over the same association (PS3.4 C.4.3)."""
        self._authorization.require(association, Operation.GET)
        selection = await self._select(association, context, request, data_set)
        sender = ObjectSender(
            association=association,
            contexts=SendingContexts(
                [item for item in association.contexts.values() if item.requestor_is_scp],
                targets=self._transcoder.targets,
            ),
            archive=self._archive,
            transcoder=self._transcoder,
            clock=self._clock,
            response_timeout_s=self._response_timeout_s,
            priority=request.priority,
            tells_receiver=True,
        )
        receiver = Receiver(association.calling_ae_title, association.peer_address)
        with self._reporter.watch(association, context, request, selection, receiver) as progress:
            try:
                await sender.send_all(self._archive.objects(selection), progress)
            except AssociationClosed:
                progress.lost("it does not answer (C-STORE)" if sender.has_timed_out else "the association has ended")
                raise
        return progress.final()

    async def c_move(
        self, association: Association, context: AcceptedContext, request: CMoveRQ, data_set: DataSetSource | None
    ) -> Answer:
        """Store what matches over associations with the destination (PS3.4 C.4.2)."""
        is_to_self = request.move_destination.strip(" ") == association.calling_ae_title
        self._authorization.require(association, Operation.MOVE_TO_SELF if is_to_self else Operation.MOVE_TO_NODE)
        node = self._nodes.get(request.move_destination)
        if node is None:
            raise DIMSEError(
                Status.MOVE_DESTINATION_UNKNOWN,
                f"destination AE '{request.move_destination.strip()}' is not in server.remote_nodes",
            )
        selection = await self._select(association, context, request, data_set)
        receiver = Receiver(node.ae_title, node.host)
        with self._reporter.watch(association, context, request, selection, receiver) as progress:
            await self._move(association, request, node, selection, progress)
        return progress.final()

    async def _move(
        self, association: Association, request: CMoveRQ, node: RemoteNode, selection: Selection, progress: Progress
    ) -> None:
        """Send, and meanwhile keep the requester informed and listen for its C-CANCEL."""
        sending = Deferred.fromCoroutine(
            self._transfer.send(
                node,
                selection,
                progress,
                principal=association.principal,
                priority=request.priority,
                originator=MoveOriginator(association.calling_ae_title, request.message_id),
            )
        )
        canceled_s: list[float] = []

        def tick() -> None:
            now_s = self._clock.seconds()
            if progress.is_canceled():
                canceled_s.append(now_s)
                if now_s - canceled_s[0] >= CANCEL_GRACE_S:
                    sending.cancel()
            elif now_s - progress.last_told_s >= PENDING_INTERVAL_S:
                Deferred.fromCoroutine(progress.tell()).addErrback(lambda failure: failure.trap(AssociationClosed))

        ticking = LoopingCall(tick)
        ticking.clock = self._clock
        ticking.start(TICK_S, now=False)
        try:
            await sending
        except CancelledError:
            if not canceled_s:
                raise  # the requester has gone
        finally:
            ticking.stop()

    async def _select(
        self,
        association: Association,
        context: AcceptedContext,
        request: CGetRQ | CMoveRQ,
        data_set: DataSetSource | None,
    ) -> Selection:
        if request.affected_sop_class_uid != context.abstract_syntax:
            raise DIMSEError(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context")
        if data_set is None:
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"{request.operation}-RQ without an identifier")
        raw = await data_set.read(self._identifier_bytes)
        try:
            elements = read_elements(raw, context.transfer_syntax)
        except DataSetError as error:
            raise DIMSEError(Status.CANNOT_UNDERSTAND, f"identifier: {error}") from error
        _, conditions = parse_identifier(
            elements, MODELS[context.abstract_syntax], is_relational=_is_relational(association, context)
        )
        try:
            return await self._archive.select(conditions)
        except ArchiveError as error:
            raise DIMSEError(Status.UNABLE_TO_CALCULATE_NUMBER_OF_MATCHES, error.comment) from error


def _is_relational(association: Association, context: AcceptedContext) -> bool:
    """Whether relational retrieval was proposed for the SOP class; then we have agreed to it."""
    return any(
        item.sop_class_uid == context.abstract_syntax and item.information[:1] == b"\1"
        for item in association.request.user_information.extended_negotiations
    )
