"""
Retrieve Service Class, PS3.4 annex C and Y, as SCP: C-GET and C-MOVE in the Patient Root, Study Root, Patient/Study
Only and Composite Instance Root models.

C-GET stores over the requester's own association, in the contexts in which it offered to be the SCP; C-MOVE over
associations of ours with a node of `server.remote_nodes`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from twisted.internet.interfaces import IReactorTime

from pacs.archive.archive import Archive
from pacs.archive.errors import ArchiveError
from pacs.archive.retrieval import Selection
from pacs.dataset.elements import read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES, is_for_messages
from pacs.dimse import (
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    CGetRQ,
    CMoveRQ,
    Command,
    DIMSEError,
    Status,
)
from pacs.events import EventBus
from pacs.extraction.extractor import FrameExtractor
from pacs.extraction.request import FrameRequest
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Answer, Association, AssociationClosed
from pacs.net.dispatch import Handler
from pacs.net.nodes import RemoteNodes
from pacs.net.source import DataSetSource
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.services.identifiers import IDENTIFIER_ELEMENTS
from pacs.services.retrieve_frames import extract_frames
from pacs.services.retrieve_identifier import MODELS, parse_identifier
from pacs.services.retrieve_progress import Progress
from pacs.services.retrieve_report import Receiver, RetrieveReporter
from pacs.services.retrieve_waiting import attend
from pacs.tasks.contexts import SendingContexts
from pacs.tasks.send import MoveOriginator, ObjectSender, ObjectSource, Transcoder
from pacs.tasks.transfer import ObjectTransfer
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

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
        extractor: FrameExtractor,
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
        self._extractor = extractor
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
        selection, frames = await self._select(association, context, request, data_set)
        receiver = Receiver(association.calling_ae_title, association.peer_address)
        with self._reporter.watch(association, context, request, selection, receiver) as progress:
            async with self._sent_objects(selection, frames, progress) as objects:
                if objects is not None:
                    await self._store(association, request, objects, progress)
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
        selection, frames = await self._select(association, context, request, data_set)
        receiver = Receiver(node.ae_title, node.host)
        with self._reporter.watch(association, context, request, selection, receiver) as progress:
            async with self._sent_objects(selection, frames, progress) as objects:
                if objects is not None:
                    source, selected = objects
                    sending = self._transfer.send(
                        node,
                        selected,
                        progress,
                        principal=association.principal,
                        priority=request.priority,
                        originator=MoveOriginator(association.calling_ae_title, request.message_id),
                        source=source,
                    )
                    await attend(sending, progress, clock=self._clock, grace_s=CANCEL_GRACE_S)
        return progress.final()

    async def _store(
        self,
        association: Association,
        request: CGetRQ,
        objects: tuple[ObjectSource, Selection],
        progress: Progress,
    ) -> None:
        """Send over the requester's association."""
        source, selection = objects
        sender = ObjectSender(
            association=association,
            contexts=SendingContexts(
                [item for item in association.contexts.values() if item.requestor_is_scp],
                targets=self._transcoder.targets,
            ),
            source=source,
            transcoder=self._transcoder,
            clock=self._clock,
            response_timeout_s=self._response_timeout_s,
            priority=request.priority,
            tells_receiver=True,
        )
        try:
            await sender.send_all(self._archive.objects(selection), progress)
        except AssociationClosed:
            progress.lost("it does not answer (C-STORE)" if sender.has_timed_out else "the association has ended")
            raise

    @asynccontextmanager
    async def _sent_objects(
        self, selection: Selection, frames: FrameRequest | None, progress: Progress
    ) -> AsyncIterator[tuple[ObjectSource, Selection] | None]:
        """Give what is to be sent: what was selected, or what is made of it; None when that was canceled."""
        if frames is None:
            yield self._archive, selection
            return
        extracting = extract_frames(self._archive, self._extractor, selection, frames)
        try:
            extracted = await attend(extracting, progress, clock=self._clock, grace_s=0)
        except DIMSEError as error:
            progress.lost(error.comment or "")
            raise
        if extracted is None:
            yield None
            return
        try:
            yield extracted, extracted.selection
        finally:
            extracted.close()

    async def _select(
        self,
        association: Association,
        context: AcceptedContext,
        request: CGetRQ | CMoveRQ,
        data_set: DataSetSource | None,
    ) -> tuple[Selection, FrameRequest | None]:
        if request.affected_sop_class_uid != context.abstract_syntax:
            raise DIMSEError(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context")
        if data_set is None:
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"{request.operation}-RQ without an identifier")
        raw = await data_set.read(self._identifier_bytes)
        try:
            elements = read_elements(raw, context.transfer_syntax, at_most=IDENTIFIER_ELEMENTS)
        except DataSetError as error:
            raise DIMSEError(Status.CANNOT_UNDERSTAND, f"identifier: {error}") from error
        wanted = parse_identifier(
            elements,
            MODELS[context.abstract_syntax],
            is_relational=_is_relational(association, context),
            is_little_endian=TRANSFER_SYNTAXES[context.transfer_syntax].is_little_endian,
        )
        try:
            return await self._archive.select(wanted.conditions), wanted.frames
        except ArchiveError as error:
            raise DIMSEError(Status.UNABLE_TO_CALCULATE_NUMBER_OF_MATCHES, error.comment) from error


def _is_relational(association: Association, context: AcceptedContext) -> bool:
    """Whether relational retrieval was proposed for the SOP class; then we have agreed to it."""
    return any(
        item.sop_class_uid == context.abstract_syntax and item.information[:1] == b"\1"
        for item in association.request.user_information.extended_negotiations
    )
