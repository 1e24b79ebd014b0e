"""
Sending an object's file, or a part of it: read piece by piece in the archive's threads, as fast as the client takes it.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from pacs.archive.archive import Archive
from pacs.archive.retrieval import StoredObject
from pacs.dataset.file import DataSetFile
from pacs.web.request import WebRequest

PIECE_BYTES: Final = 256 * 1024


def entity_tag(stored: StoredObject, file: DataSetFile) -> str:
    """
    Give the strong entity tag of an object's file, with its quotes.

    It has to be another one whenever the bytes are others, though an object may be replaced under its UID, the file
    that replaces it may have the path of an earlier one and the same length, and its SHA-256 is not known for some
    seconds. A file is written once and never changed: when the object came (in microseconds) and which file was opened
    (its inode and the time of its last write, taken from the open file itself) are the same for no two of them. That a
    restored backup has other tags costs a client a whole download, no more.
    """
    facts = (stored.path, stored.received_at, stored.size_bytes, *file.written)
    return f'"{hashlib.blake2b(repr(facts).encode(), digest_size=12).hexdigest()}"'


@implementer(IPushProducer)
class FileSender:
    """
    Sends a file.

    The file is closed when nobody reads it any more: a read in a thread can't be canceled.

    Attributes:
        wanted: the places of its bytes that are sent; all of them, its head included, unless somebody says otherwise.
    """

    def __init__(self, *, archive: Archive, file: DataSetFile) -> None:
        self._archive = archive
        self._file = file
        self._is_paused = False
        self._waiting: Deferred[None] | None = None
        self._is_reading = False
        self._is_closing = False
        self.wanted = range(file.offset + file.length)

    async def send(self, request: WebRequest) -> None:
        """Write the file as the answer's body."""
        request.registerProducer(self, True)
        try:
            position, end = self.wanted.start, self.wanted.stop
            while position < end:
                piece = await self._read(min(PIECE_BYTES, end - position), position)
                if not piece:
                    raise OSError("the file has become shorter")
                position += len(piece)
                request.write(piece)
                if self._is_paused:
                    self._waiting = Deferred()
                    await self._waiting
        finally:
            request.unregisterProducer()

    def close(self) -> None:
        """Close the file, as soon as nobody reads it."""
        self._is_closing = True
        if not self._is_reading:
            self._file.close()

    # -- IPushProducer

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._is_paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The client is gone; klein cancels whoever waits."""
        self._is_paused = True

    # -- within

    def _read(self, count: int, position: int) -> Deferred[bytes]:
        """Read in a thread; canceling what is returned leaves the thread alone."""
        self._is_reading = True
        wanted: Deferred[bytes] = Deferred()
        reading = Deferred.fromCoroutine(self._archive.in_thread(os.pread, self._file.descriptor, count, position))

        def done(result: bytes | Failure) -> None:
            self._is_reading = False
            if self._is_closing:
                self._file.close()
            elif not wanted.called:
                wanted.callback(result)

        reading.addBoth(done)
        return wanted
