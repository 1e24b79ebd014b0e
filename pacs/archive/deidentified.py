"""
An object on its way in that is de-identified before anything of it is kept.

It is held in memory, or, when it is long, in a file without a name; a worker process gives back what may be kept, and
that goes the way of every object. Nothing that is said of a refusal has a value of the object in it, nor its UIDs.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from types import TracebackType

from twisted.internet.defer import Deferred

from pacs.archive.errors import DataSetMismatch, IdentityConflict, NotReleased, ObjectTooLarge, disk_failure
from pacs.archive.incoming import Incoming
from pacs.archive.interfaces import InstanceHeader, Stored
from pacs.archive.objects.files import write_all
from pacs.dataset.file import DataSetFile
from pacs.deidentification.deidentifier import Deidentifier
from pacs.deidentification.errors import DeidentificationError, VaultError
from pacs.deidentification.settings import IN_MEMORY_BYTES, Released, make_output

_PIECE_BYTES = 1 << 20


class DeidentifiedIncoming:
    """
    In the place of `Incoming`; an async context manager like it.

    Args:
        make: gives the `Incoming` for what the worker gave back.
        admit: raises what refuses the object before its bytes come.
        kept: told of each object that is kept.
        refused: told of each refusal, with the rule and the tag.
    """

    def __init__(
        self,
        *,
        header: InstanceHeader,
        deidentifier: Deidentifier,
        longest_bytes: int,
        make: Callable[[InstanceHeader], Incoming],
        admit: Callable[[], None],
        kept: Callable[[], None],
        refused: Callable[[str, int | None], None],
    ) -> None:
        self._header = header
        self._deidentifier = deidentifier
        self._longest_bytes = longest_bytes
        self._make = make
        self._admit = admit
        self._kept = kept
        self._refused = refused
        self._descriptor = -1
        self._length = 0

    async def __aenter__(self) -> DeidentifiedIncoming:
        self._admit()
        self._descriptor = make_output(self._deidentifier.settings.directory, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def write(self, pieces: Sequence[memoryview]) -> Deferred[None] | None:
        """
        Take the next pieces of the data set.

        Raises:
            ObjectTooLarge, StorageFailed, StorageFull: the object is refused.
        """
        before = self._length
        self._length += sum(map(len, pieces))
        if self._length > self._longest_bytes:
            raise ObjectTooLarge(f"object longer than {self._longest_bytes} bytes")
        try:
            if before <= IN_MEMORY_BYTES < self._length:
                self._move_to_disk(before)
            write_all(self._descriptor, list(pieces))
        except OSError as error:
            raise disk_failure(error) from error
        return None

    def commit(self) -> Deferred[Stored]:
        """
        Have it de-identified, and join the group commit.

        Returns:
            fires when the object would survive a power cut; fails with an `ArchiveError`.
        """
        return Deferred.fromCoroutine(self._commit())

    async def _commit(self) -> Stored:
        source = DataSetFile(self._descriptor, 0, self._length, self._header.transfer_syntax_uid)
        try:
            released = await self._deidentifier.deidentify(source)
        except DeidentificationError as error:
            self._refused(error.rule, error.tag)
            raise NotReleased(f"not de-identified: {error}"[:64]) from None
        except VaultError as error:
            self._refused("vault", None)
            raise NotReleased(f"not de-identified: {error}"[:64]) from None
        try:
            return await self._keep(released)
        finally:
            os.close(released.descriptor)

    async def _keep(self, released: Released) -> Stored:
        if released.original_sop_instance_uid != self._header.sop_instance_uid:
            raise DataSetMismatch("SOP Instance UID differs between request and data set")
        if self._header.sop_class_uid != released.sop_class_uid:
            raise DataSetMismatch("SOP Class UID differs between request and data set")
        header = InstanceHeader(released.sop_class_uid, released.sop_instance_uid, released.transfer_syntax_uid)
        whole = memoryview(mmap.mmap(released.descriptor, released.length, prot=mmap.PROT_READ))
        try:
            async with self._make(header) as incoming:
                for start in range(released.data_set_offset, released.length, _PIECE_BYTES):
                    waiting = incoming.write([whole[start : min(released.length, start + _PIECE_BYTES)]])
                    if waiting is not None:
                        await waiting
                stored = await incoming.commit()
        except IdentityConflict:
            self._refused("identity_conflict", None)
            raise NotReleased("de-identified instance exists under another patient or study") from None
        self._kept()
        return stored

    def _move_to_disk(self, length: int) -> None:
        """Go on in a file without a name."""
        memory, self._descriptor = (
            self._descriptor,
            make_output(self._deidentifier.settings.directory, IN_MEMORY_BYTES + 1),
        )
        try:
            at = 0
            while at < length:
                at += os.write(self._descriptor, os.pread(memory, _PIECE_BYTES, at))
        finally:
            os.close(memory)
