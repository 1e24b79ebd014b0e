"""
Sending a selection of objects to a remote node: as many associations one after the other as the contexts need, a new
one where the node drops it on the way, and an end when it goes on dropping or does not answer.
"""

from __future__ import annotations

from typing import ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pacs.archive.archive import Archive
from pacs.archive.retrieval import ObjectCursor, Selection, StoredObject
from pacs.net.association import Association, AssociationClosed
from pacs.net.nodes import NodeUnavailable, RemoteNode, RemoteNodes
from pacs.net.requestor import RequestorProtocol
from pacs.security.access import Principal
from pacs.tasks.contexts import Proposal, SendingContexts, propose
from pacs.tasks.send import MoveOriginator, ObjectSender, ObjectSource, Outcome, SubOperation, Transcoder, Watcher

RETRY_DELAYS_S: Final = (0.5, 2.0, 5.0)
"""Before each new attempt after an association was dropped without having carried an object."""
DROPS_PER_OBJECT: Final = 2
"""An object with which the association was dropped so often has failed; the others go on."""


class ObjectTransfer:
    """Sends selections to remote nodes."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        archive: Archive,
        nodes: RemoteNodes,
        transcoder: Transcoder,
        clock: IReactorTime,
        response_timeout_s: float,
    ) -> None:
        self._archive = archive
        self._nodes = nodes
        self._transcoder = transcoder
        self._clock = clock
        self._response_timeout_s = response_timeout_s

    async def send(
        self,
        node: RemoteNode,
        selection: Selection,
        watcher: Watcher,
        *,
        principal: Principal,
        priority: int = 0,
        originator: MoveOriginator | None = None,
        source: ObjectSource | None = None,
    ) -> None:
        """
        Send all objects, or until they are canceled; what happens to each the watcher is told.

        Args:
            source: who has the objects, if it is not the archive.
        """
        source = source or self._archive
        unavailable: NodeUnavailable | None = None
        for proposal in propose((kind.sop_class_uid, kind.transfer_syntax_uid) for kind in selection.kinds):
            objects = self._archive.objects(selection.of_sop_classes(proposal.sop_classes))
            attempts = _Attempts(self, node, proposal, principal, priority, originator, source)
            if unavailable is None:
                try:
                    await attempts.run(objects, watcher)
                except NodeUnavailable as error:
                    unavailable = error
            if unavailable is not None:
                await _fail_the_rest(objects, watcher, str(unavailable))
            if watcher.is_canceled():
                return

    def sender(
        self, association: Association, priority: int, originator: MoveOriginator | None, source: ObjectSource
    ) -> ObjectSender:
        """Make what sends over an association of ours."""
        contexts = [context for context in association.contexts.values() if context.requestor_is_scu]
        return ObjectSender(
            association=association,
            contexts=SendingContexts(contexts, targets=self._transcoder.targets),
            source=source,
            transcoder=self._transcoder,
            clock=self._clock,
            response_timeout_s=self._response_timeout_s,
            priority=priority,
            originator=originator,
        )

    async def associate(
        self, node: RemoteNode, proposal: Proposal, principal: Principal
    ) -> tuple[RequestorProtocol, Association]:
        """Open an association for what is proposed."""
        return await self._nodes.associate(node, proposal.contexts, principal)

    def release(self, protocol: RequestorProtocol) -> Deferred[None]:
        """End an association in order."""
        return self._nodes.release(protocol)

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        passed: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(seconds, passed.callback, None)
        await passed


class _Attempts:
    """The associations over which the objects of one proposal go."""

    def __init__(
        self,
        transfer: ObjectTransfer,
        node: RemoteNode,
        proposal: Proposal,
        principal: Principal,
        priority: int,
        originator: MoveOriginator | None,
        source: ObjectSource,
    ) -> None:
        self._source = source
        self._transfer = transfer
        self._node = node
        self._proposal = proposal
        self._principal = principal
        self._priority = priority
        self._originator = originator
        self._drops = 0
        self._has_begun = False
        self._suspect: StoredObject | None = None
        self._suspect_drops = 0

    async def run(self, objects: ObjectCursor, watcher: Watcher) -> None:
        """
        Send the objects.

        Raises:
            NodeUnavailable: the node can't be reached, hangs, or keeps dropping; the rest is in `objects`.
        """
        while True:
            protocol, association = await self._associate()
            if await self._attempt(protocol, association, objects, watcher):
                return
            await self._transfer.wait(RETRY_DELAYS_S[max(0, self._drops - 1)])
            if watcher.is_canceled():
                return

    async def _associate(self) -> tuple[RequestorProtocol, Association]:
        """Open an association; a node that had one before may be starting again, and gets its time."""
        while True:
            try:
                return await self._transfer.associate(self._node, self._proposal, self._principal)
            except NodeUnavailable:
                if not self._has_begun or self._drops >= len(RETRY_DELAYS_S):
                    raise
            self._drops += 1
            await self._transfer.wait(RETRY_DELAYS_S[self._drops - 1])

    async def _attempt(
        self, protocol: RequestorProtocol, association: Association, objects: ObjectCursor, watcher: Watcher
    ) -> bool:
        """Send as much as one association carries; tell whether that was all."""
        transfer = self._transfer
        self._has_begun = True
        sender = transfer.sender(association, self._priority, self._originator, self._source)
        is_done = False
        try:
            await sender.send_all(objects, watcher)
            is_done = True
        except AssociationClosed:
            self._look_at(sender, protocol)
            await self._blame(sender.current, objects, watcher)
        finally:
            if not is_done:
                protocol.abort()
        if is_done:
            await transfer.release(protocol)
        return is_done

    def _look_at(self, sender: ObjectSender, protocol: RequestorProtocol) -> None:
        """
        Decide whether another attempt is worth while.

        Raises:
            NodeUnavailable: it is not.
        """
        title = self._node.ae_title
        if sender.has_timed_out:
            raise NodeUnavailable(f"destination AE '{title}' does not answer (C-STORE)")
        if protocol.end_reason == "timeout":
            raise NodeUnavailable(f"destination AE '{title}' does not read")
        self._drops = 0 if sender.sent else self._drops + 1
        self._transfer.log.warn(
            "destination {ae_title} ended the association on the way ({reason})",
            ae_title=title,
            reason=protocol.end_reason,
        )
        if self._drops > len(RETRY_DELAYS_S):
            raise NodeUnavailable(f"destination AE '{title}' drops associations")

    async def _blame(self, stored: StoredObject | None, objects: ObjectCursor, watcher: Watcher) -> None:
        """Fail an object with which the association was dropped again."""
        if stored is None:
            return
        self._suspect_drops = self._suspect_drops + 1 if stored == self._suspect else 1
        self._suspect = stored
        if self._suspect_drops >= DROPS_PER_OBJECT:
            await objects.next()  # it was pushed back
            watcher.note(SubOperation(stored, Outcome.FAILED, "the receiver dropped the association"))
            await watcher.tell()


async def _fail_the_rest(objects: ObjectCursor, watcher: Watcher, reason: str) -> None:
    while (stored := await objects.next()) is not None:
        watcher.note(SubOperation(stored, Outcome.FAILED, reason))
