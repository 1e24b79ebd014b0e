"""
Storage Service Class, PS3.4 annex B, as SCP: C-STORE.

Every storage SOP class of the standard and private ones; every transfer syntax that keeps its pixels in the object.
Objects are stored as sent (level 2, full), and acknowledged when they are durable.
"""

from __future__ import annotations

from collections.abc import Mapping

from pacs.archive.archive import Archive
from pacs.archive.errors import IdentityConflict
from pacs.archive.interfaces import InstanceHeader
from pacs.dataset.transfer_syntaxes import keeps_pixels
from pacs.dimse import Command, CStoreRQ, DIMSEError, Response, Status
from pacs.events import EventBus, IntegrityAlarm
from pacs.net.association import Association
from pacs.net.dispatch import Handler
from pacs.net.source import DataSetSource
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.services.sop_classes import is_storage_sop_class
from pacs.tasks.contexts import UNCOMPRESSED
from pacs.ul import AbstractSyntaxSupport, AcceptedContext


class StorageService:
    """Keeps the objects that peers send."""

    _support = AbstractSyntaxSupport(
        accepts_transfer_syntax=keeps_pixels, peer_may_be_scp=True, sent_best_in=UNCOMPRESSED
    )

    def __init__(self, *, archive: Archive, authorization: Authorization, bus: EventBus) -> None:
        self._archive = archive
        self._authorization = authorization
        self._bus = bus
        self.handlers: Mapping[type[Command], Handler] = {CStoreRQ: self.c_store}

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support every storage SOP class, private ones as generic storage; whoever retrieves by C-GET is the SCP."""
        return self._support if is_storage_sop_class(abstract_syntax) else None

    async def c_store(
        self, association: Association, context: AcceptedContext, request: CStoreRQ, data_set: DataSetSource | None
    ) -> Response:
        """Keep one object; answer only when it is safe on disk and in the index (PS3.4 B.2)."""
        self._authorization.require(association, Operation.STORE)
        if request.affected_sop_class_uid != context.abstract_syntax:
            raise DIMSEError(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context")
        if data_set is None:
            raise DIMSEError(Status.CANNOT_UNDERSTAND, "C-STORE-RQ without a data set")
        header = InstanceHeader(
            request.affected_sop_class_uid, request.affected_sop_instance_uid, context.transfer_syntax
        )
        try:
            async with self._archive.receive(header, association.principal, association) as incoming:
                await data_set.deliver_to(incoming)
                await incoming.commit()
        except IdentityConflict as error:
            self._alarm(association, request, error)
            raise
        return request.stored()

    def _alarm(self, association: Association, request: CStoreRQ, error: IdentityConflict) -> None:
        self._bus.publish(
            IntegrityAlarm(
                description=error.comment,
                subject=request.affected_sop_instance_uid,
                calling_ae=association.calling_ae_title,
                peer_address=association.peer_address,
            )
        )
