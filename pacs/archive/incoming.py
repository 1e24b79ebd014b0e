"""
An object on its way in: its bytes go behind a file's head as they come, and are scanned as they pass.

A long object is written from the reactor in pieces of some hundred KB, a short one at once when it is whole: that is
faster than handing them to a thread. When the disk turns out slow, a thread takes over, for a while.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from pacs.archive.attributes import INDEX_TAGS
from pacs.archive.candidate import Candidate
from pacs.archive.commit import CommitThread
from pacs.archive.errors import (
    DataSetMismatch,
    DataSetUnreadable,
    ObjectTooLarge,
    disk_failure,
)
from pacs.archive.interfaces import InstanceHeader, Stored
from pacs.archive.objects.files import FileStore, start_writeback, write_all
from pacs.archive.settings import ArchiveSettings
from pacs.dataset.errors import DataSetError
from pacs.dataset.part10 import encode_file_meta
from pacs.dataset.scanner import DataSetScanner

SHORT_OBJECT_BYTES: Final = 128 * 1024
SHORT_OBJECT_PIECES: Final = 256  # of 512 bytes each; one in more pieces is written as a long one is
WRITE_BYTES: Final = 256 * 1024
SLOW_WRITE_S: Final = 0.010


class Incoming:
    """
    One object that arrives; an async context manager. Leaving it without `commit` discards the bytes.

    Args:
        sender: whose objects come one after the other, an association for one.
        admit: called on entering; raises what refuses the object before its bytes come.
        commit: takes the object when it is whole.
        is_anonymized: it was de-identified before.
    """

    __slots__ = (
        "_admit", "_commit", "_descriptor", "_header", "_is_anonymized", "_is_slow", "_is_submitted", "_offset",
        "_path", "_peer_address", "_pieces", "_pool", "_reactor", "_scanner", "_sender", "_settings",
        "_short_bytes", "_size_bytes", "_source_ae_title", "_store", "_writing",
    )  # fmt: skip

    def __init__(
        self,
        *,
        header: InstanceHeader,
        source_ae_title: str,
        peer_address: str,
        sender: object,
        settings: ArchiveSettings,
        store: FileStore,
        admit: Callable[[], None],
        commit: CommitThread,
        reactor: Any,
        pool: Any,
        is_anonymized: bool = False,
    ) -> None:
        self._header = header
        self._source_ae_title = source_ae_title
        self._peer_address = peer_address
        self._sender = sender
        self._settings = settings
        self._store = store
        self._admit = admit
        self._commit = commit
        self._reactor = reactor
        self._pool = pool
        self._is_anonymized = is_anonymized
        self._descriptor = -1
        self._path = ""
        self._is_slow = False
        self._is_submitted = False
        self._writing: Deferred[None] | None = None

    async def __aenter__(self) -> Incoming:
        self._admit()
        header, settings = self._header, self._settings
        try:
            self._scanner = DataSetScanner(header.transfer_syntax_uid, wanted=INDEX_TAGS, limits=settings.scan_limits)
        except DataSetError as error:
            raise DataSetUnreadable(str(error)) from error
        head = encode_file_meta(
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            source_ae_title="" if self._is_anonymized else self._source_ae_title,
            implementation_class_uid=settings.implementation_class_uid,
            implementation_version_name=settings.implementation_version_name,
        )
        self._pieces: list[bytes | memoryview] = [head]
        self._offset = self._size_bytes = self._short_bytes = len(head)
        self._commit.arrivals.came(self._sender)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_submitted:
            return
        self._pieces = []
        if self._writing is not None:  # a thread is writing: the file is closed and removed when it is done
            self._writing.addBoth(self._discard)
        else:
            self._discard(None)

    def write(self, pieces: Sequence[memoryview]) -> Deferred[None] | None:
        """
        Take the next pieces of the data set.

        Returns:
            None when they are taken; else a Deferred to wait for before more is given.

        Raises:
            ObjectTooLarge, DataSetUnreadable, StorageFailed, StorageFull: the object is refused.
        """
        self._commit.arrivals.came(self._sender)
        length = sum(map(len, pieces))
        self._size_bytes += length
        self._short_bytes += length
        if self._size_bytes > self._settings.object_bytes:
            raise ObjectTooLarge(f"object longer than {self._settings.object_bytes} bytes")
        self._pieces += pieces
        if self._scanner.is_costly:
            return self._in_thread(self._scan_and_write_in_thread, pieces)
        self._scan(pieces)
        if not self._is_long and self._descriptor < 0:
            return None
        if self._is_slow:
            return self._in_thread(self._write_in_thread)
        started_s = time.monotonic()
        try:
            self._write_pieces()
        except OSError as error:
            raise disk_failure(error) from error
        if time.monotonic() - started_s > SLOW_WRITE_S:
            self._is_slow = True
        return None

    def commit(self) -> Deferred[Stored]:
        """
        Join the group commit.

        Returns:
            fires when the object would survive a power cut; fails with an `ArchiveError`.
        """
        try:
            scanned = self._scanner.finish()
        except DataSetError as error:
            raise DataSetUnreadable(str(error)) from error
        self._write_rest()
        candidate = Candidate(
            header=self._header,
            scanned=scanned,
            source_ae_title=self._source_ae_title,
            peer_address=self._peer_address,
            data_set_offset=self._offset,
            size_bytes=self._size_bytes,
            received_at=time.time_ns() // 1000,
            pieces=self._pieces,
            incoming_path=self._path,
            is_anonymized=self._is_anonymized,
        )
        if not self._header.sop_instance_uid:
            raise DataSetMismatch("SOP Instance UID is empty")
        done = self._commit.submit(candidate)
        self._is_submitted = True
        return done

    # -- within

    @property
    def _is_long(self) -> bool:
        """It is not kept in memory until it is whole."""
        return self._short_bytes > SHORT_OBJECT_BYTES or len(self._pieces) > SHORT_OBJECT_PIECES

    def _write_rest(self) -> None:
        """Finish the file; a short one is made here, unless the disk has been slow lately."""
        try:
            if self._descriptor >= 0:
                self._write_pieces()
                self._close()
            elif not (self._store.is_slow() or self._commit.takes_one()):
                started_s = time.monotonic()
                self._path = self._store.write_incoming(self._pieces)
                if time.monotonic() - started_s > SLOW_WRITE_S:
                    self._store.note_slow()
        except OSError as error:
            raise disk_failure(error) from error

    def _scan(self, pieces: Sequence[memoryview]) -> None:
        feed = self._scanner.feed
        try:
            for piece in pieces:
                feed(piece)
        except DataSetError as error:
            raise DataSetUnreadable(str(error)) from error

    def _write_pieces(self) -> None:
        """Write what has gathered, in pieces that the page cache likes."""
        pieces, self._pieces = self._pieces, []
        if self._descriptor < 0:
            self._path, self._descriptor = self._store.create_incoming()
        group: list[bytes | memoryview] = []
        group_bytes = 0
        for piece in pieces:
            group.append(piece)
            group_bytes += len(piece)
            if group_bytes >= WRITE_BYTES:
                write_all(self._descriptor, group)
                group, group_bytes = [], 0
        if group:
            write_all(self._descriptor, group)
        start_writeback(self._descriptor)

    def _write_in_thread(self) -> None:
        try:
            self._write_pieces()
        except OSError as error:
            raise disk_failure(error) from error

    def _scan_and_write_in_thread(self, pieces: Sequence[memoryview]) -> None:
        self._scan(pieces)
        if self._is_long or self._descriptor >= 0:
            self._write_in_thread()

    def _in_thread(self, function: Callable[..., None], *arguments: object) -> Deferred[None]:
        # the thread's work must be known as ended even if whoever waits is canceled
        working: Deferred[None] = deferToThreadPool(self._reactor, self._pool, function, *arguments)
        waiting: Deferred[None] = Deferred(lambda _: None)
        self._writing = working

        def ended(result: Any) -> None:
            self._writing = None
            if not waiting.called:
                waiting.callback(result) if not hasattr(result, "trap") else waiting.errback(result)

        working.addBoth(ended)
        return waiting

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _discard(self, _: object) -> None:
        try:
            self._close()
        finally:
            if self._path:
                self._store.discard_if_possible(self._path)
