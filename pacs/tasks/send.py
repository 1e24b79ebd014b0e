"""
Storage Service Class, PS3.4 annex B, as SCU: stored objects go out as C-STORE requests over one association.

The sub-operations of C-GET (over the requester's association) and of C-MOVE (over one of ours) are the same here. The
next object is opened, and its first piece read, while the current one goes out; no object is in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pacs.archive.errors import ArchiveError
from pacs.archive.retrieval import StoredObject
from pacs.dataset.file import DataSetFile
from pacs.dataset.transfer_syntaxes import is_deflated
from pacs.dimse import CStoreRQ, PieceBuffer, Response, encode_message
from pacs.net.association import Answer, Association, AssociationClosed
from pacs.tasks.ahead import Ahead
from pacs.tasks.contexts import NotAccepted, SendingContexts
from pacs.transcoding.errors import TranscodingError
from pacs.ul import AcceptedContext

PIECE_BYTES: Final = 640 * 1024  # read at once: a whole CT image; two of them are in memory for each association
WARNINGS: Final = frozenset((0x0001, 0x0107, 0x0116))  # PS3.7 C.4, besides Bxxx


T = TypeVar("T")


class Outcome(Enum):
    """How a sub-operation ended."""

    COMPLETED = "completed"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SubOperation:
    """
    A C-STORE sub-operation that has ended.

    Attributes:
        reason: of a failure or warning, without patient data.
    """

    stored: StoredObject
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Who asked for a C-MOVE, and the message id of the request (PS3.7 9.3.1.1)."""

    ae_title: str
    message_id: int


class ObjectSource(Protocol):
    """Whoever has the objects: the archive, or what makes new ones of its objects."""

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Have a function called in a thread."""

    async def open(self, stored: StoredObject) -> DataSetFile:
        """Open an object; whoever gets it closes it."""

    def open_in_thread(self, stored: StoredObject) -> DataSetFile:
        """The same, for whoever is in a thread already."""


class Objects(Protocol):
    """What is to be sent, in order."""

    async def next(self) -> StoredObject | None: ...

    def push_back(self, *objects: StoredObject) -> None:
        """Take back what was given and not sent."""


class Watcher(Protocol):
    """Whoever wants to know how far the sub-operations are."""

    def note(self, sub_operation: SubOperation) -> None:
        """A sub-operation has ended."""

    async def tell(self) -> None:
        """Tell the requester."""

    def pending(self) -> bytes:
        """Give what `tell` would send, for whoever sends to the same peer."""

    def is_canceled(self) -> bool:
        """Whether no more objects are wanted."""


class Transcoder(Protocol):
    """Whoever makes an object's data set in another transfer syntax."""

    def targets(self, transfer_syntax_uid: str) -> Sequence[str]: ...

    async def transcode(self, source: DataSetFile, transfer_syntax_uid: str) -> DataSetFile: ...


class Unsendable(Exception):
    """An object that can't be sent; the message says why."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An open object and its first piece."""

    context: AcceptedContext
    file: DataSetFile
    buffer: PieceBuffer
    length: int

    def close(self) -> None:
        self.file.close()


class _Next:
    """An object that is being prepared."""

    def __init__(self, stored: StoredObject, ahead: Ahead[_Prepared]) -> None:
        self.stored = stored
        self._ahead = ahead
        self._is_taken = False

    @property
    def is_ready(self) -> bool:
        """It can be sent at once."""
        return self._ahead.has_succeeded

    async def get(self) -> _Prepared:
        """Wait until it is ready; its file is the caller's then."""
        prepared = await self._ahead.get()
        self._is_taken = True
        return prepared

    def leave(self) -> None:
        """It is not needed any more."""
        if not self._is_taken:
            self._ahead.leave(_Prepared.close)


class ObjectSender:
    """
    Sends objects over one association, one after the other.

    Args:
        response_timeout_s: how long the receiver may take for a C-STORE response once it has the object.
        tells_receiver: the receiver is the requester (C-GET): what it is told goes out in one write with the next
            object.

    Attributes:
        has_timed_out: the association was aborted because it took longer.
        sent: how many sub-operations have ended, however they ended.
        current: the object that is on its way, if one is.
    """

    def __init__(
        self,
        *,
        association: Association,
        contexts: SendingContexts,
        source: ObjectSource,
        transcoder: Transcoder,
        clock: IReactorTime,
        response_timeout_s: float,
        priority: int = 0,
        originator: MoveOriginator | None = None,
        tells_receiver: bool = False,
    ) -> None:
        self._association = association
        self._contexts = contexts
        self._source = source
        self._transcoder = transcoder
        self._clock = clock
        self._response_timeout_s = response_timeout_s
        self._priority = priority
        self._originator = originator
        self._buffers: list[PieceBuffer] = []
        self._following: _Next | None = None
        self._tells_receiver = tells_receiver
        self._before = b""
        self.has_timed_out = False
        self.sent = 0
        self.current: StoredObject | None = None

    async def send_all(self, objects: Objects, watcher: Watcher) -> None:
        """
        Send objects until there are no more, or they are canceled; what was not sent is pushed back.

        Raises:
            AssociationClosed: the association ended before.
        """
        self._following = self._begin(await objects.next())
        current: _Next | None = None
        upcoming: StoredObject | None = None
        try:
            while self._following is not None and not watcher.is_canceled():
                current, self._following = self._following, None
                self.current = current.stored
                upcoming = await objects.next()
                sub_operation = await self._perform(current, upcoming)
                current = upcoming = self.current = None
                self.sent += 1
                watcher.note(sub_operation)
                if self._tells_receiver and self._following is not None and self._following.is_ready:
                    self._before = watcher.pending()
                else:
                    await watcher.tell()
        finally:
            following, self._following = self._following, None
            unsent = [] if current is None else [current.stored]
            if following is not None:
                following.leave()
                unsent.append(following.stored)
            elif upcoming is not None:
                unsent.append(upcoming)
            if current is not None:
                current.leave()
            objects.push_back(*unsent)

    # -- one sub-operation

    async def _perform(self, current: _Next, upcoming: StoredObject | None) -> SubOperation:
        try:
            prepared = await current.get()
        except (NotAccepted, ArchiveError, TranscodingError, Unsendable) as error:
            self._following = self._begin(upcoming)
            return SubOperation(current.stored, Outcome.FAILED, str(error))
        response = await self._store(current.stored, prepared, upcoming)
        status = response.status
        if status == 0:
            return SubOperation(current.stored, Outcome.COMPLETED)
        outcome = Outcome.WARNING if status >> 12 == 0xB or status in WARNINGS else Outcome.FAILED
        return SubOperation(current.stored, outcome, f"the receiver answers {status:04X} to C-STORE")

    async def _store(self, stored: StoredObject, prepared: _Prepared, upcoming: StoredObject | None) -> Response:
        association, originator = self._association, self._originator
        request = CStoreRQ(
            has_data_set=True,
            message_id=association.next_message_id(),
            affected_sop_class_uid=stored.sop_class_uid,
            affected_sop_instance_uid=stored.sop_instance_uid,
            priority=self._priority,
            move_originator_application_entity_title=None if originator is None else originator.ae_title,
            move_originator_message_id=None if originator is None else originator.message_id,
        )
        before, self._before = self._before, b""
        command = before + encode_message(prepared.context.id, request, None, association.max_send_pdu_length)
        answered = association.expect_answer(request)
        try:
            await self._send_data_set(command, prepared, upcoming)
        except BaseException:
            answered.addErrback(lambda _: None)  # who could wait for it is here
            raise
        return await self._answer(answered)

    async def _send_data_set(self, command: bytes, prepared: _Prepared, upcoming: StoredObject | None) -> None:
        """Send command and data set; the object behind is begun with the last piece."""
        file, buffer, length = prepared.file, prepared.buffer, prepared.length
        reading: Ahead[int] | None = None
        end = 0
        try:
            while True:
                end += length
                is_last = end >= file.length
                spare = buffer
                if is_last:
                    self._following = self._begin(upcoming)
                else:
                    spare = self._take_buffer()
                    reading = Ahead(self._source.in_thread(read_piece_in_thread, file, end, spare))
                if is_last and is_deflated(file.transfer_syntax_uid):
                    length = buffer.pad(length)  # PS3.5 A.5; receivers refuse a fragment of odd length
                pdus = buffer.pdus(prepared.context.id, length, is_last=is_last)
                await self._association.send_in_place(command, pdus)
                self._buffers.append(buffer)
                if reading is None or is_last:
                    return
                length = await reading.get()
                buffer, command, reading = spare, b"", None
        except Unsendable:
            self._association.abort()  # half of it is there: the message can't be ended in any other way
            raise AssociationClosed from None
        finally:
            if reading is not None:
                reading.leave(lambda _: file.close())
            else:
                file.close()

    async def _answer(self, answered: Deferred[Answer]) -> Response:
        timer = self._clock.callLater(self._response_timeout_s, self._time_out)
        try:
            return (await answered).command
        finally:
            if timer.active():
                timer.cancel()

    def _time_out(self) -> None:
        self.has_timed_out = True
        self._association.abort()

    # -- the object behind

    def _begin(self, stored: StoredObject | None) -> _Next | None:
        return None if stored is None else _Next(stored, Ahead(self._prepare(stored)))

    async def _prepare(self, stored: StoredObject) -> _Prepared:
        """Open an object, made in the transfer syntax that the receiver takes, and read its first piece."""
        context = self._contexts.choose(stored.sop_class_uid, stored.transfer_syntax_uid)
        buffer = self._take_buffer()
        objects = self._source
        if context.transfer_syntax == stored.transfer_syntax_uid:
            file, length = await objects.in_thread(_open_and_read_in_thread, objects, stored, buffer)
        else:
            source = await objects.open(stored)
            try:
                file = await self._transcoder.transcode(source, context.transfer_syntax)
            finally:
                source.close()
            length = await objects.in_thread(read_piece_in_thread, file, 0, buffer)
        return _Prepared(context, file, buffer, length)

    def _take_buffer(self) -> PieceBuffer:
        if self._buffers:
            return self._buffers.pop()
        return PieceBuffer(max_pdu_length=self._association.max_send_pdu_length, piece_bytes=PIECE_BYTES)


def _open_and_read_in_thread(
    source: ObjectSource, stored: StoredObject, buffer: PieceBuffer
) -> tuple[DataSetFile, int]:
    file = source.open_in_thread(stored)
    try:
        return file, read_piece_in_thread(file, 0, buffer)
    except Unsendable:
        file.close()
        raise


def read_piece_in_thread(file: DataSetFile, start: int, buffer: PieceBuffer) -> int:
    """
    Read the piece of a data set that begins at `start` into a buffer; give its length.

    Raises:
        Unsendable: the disk failed, or the file is shorter than it should be.
    """
    length = min(file.length - start, buffer.capacity)
    if not length:
        return 0
    try:
        count = os.preadv(file.descriptor, buffer.places(length), file.offset + start)
    except OSError as error:
        raise Unsendable(f"the object can't be read: {error.strerror}") from error
    if count != length:
        raise Unsendable("the object's file is shorter than it should be")
    return length
