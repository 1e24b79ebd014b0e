"""
Where a worker writes a data set: in memory as long as it is short, in an unnamed file when it is not.
"""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from collections.abc import Iterable
from typing import Final

from pacs.transcoding.errors import TranscodingError

IN_MEMORY_BYTES: Final = 4 << 20  # a file would be part of the next barrier of arriving objects
BUFFER_BYTES: Final = 256 * 1024
DEFLATE_LEVEL: Final = 4

_COPIED_BYTES: Final = 1 << 20


class UnnamedFile:
    """
    A file without a name, readable and writable; gone when its last descriptor is closed.

    Args:
        directory: on the file system for long ones.
        longest_bytes: more is refused.
    """

    def __init__(self, directory: str, *, longest_bytes: int) -> None:
        self._directory = directory
        self._longest_bytes = longest_bytes
        self._is_in_memory = True
        self._buffer = bytearray()
        self.descriptor = os.memfd_create("data set", os.MFD_CLOEXEC)
        self.length = 0

    def write(self, data: bytes) -> None:
        """
        Take the next bytes.

        Raises:
            TranscodingError: the data set becomes too long, or there is no space.
        """
        self.length += len(data)
        if self.length > self._longest_bytes:
            raise TranscodingError(f"the data set becomes longer than {self._longest_bytes} bytes")
        self._buffer += data
        if len(self._buffer) >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        if self._is_in_memory and self.length > IN_MEMORY_BYTES:
            self._move()
        buffer, self._buffer = self._buffer, bytearray()
        with memoryview(buffer) as rest:
            done = 0
            while done < len(rest):
                try:
                    done += os.write(self.descriptor, rest[done:])
                except OSError as error:
                    raise _no_space(error) from error

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def _move(self) -> None:
        """Go on in a file."""
        self._is_in_memory = False
        memory = self.descriptor
        try:
            self.descriptor = _create(self._directory)
            at = 0
            while piece := os.pread(memory, _COPIED_BYTES, at):
                at += os.write(self.descriptor, piece)
        except OSError as error:
            raise _no_space(error) from error
        finally:
            if self.descriptor != memory:
                os.close(memory)


def _create(directory: str) -> int:
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    descriptor, path = tempfile.mkstemp(prefix="transcoded-", dir=directory)  # a file system without unnamed files
    os.unlink(path)
    return descriptor


def _no_space(error: OSError) -> TranscodingError:
    return TranscodingError(f"no space for the transcoded data set: {os.strerror(error.errno or errno.EIO)}")


class DeflatingOutput:
    """Compresses what is written (PS3.5 A.5)."""

    def __init__(self, file: UnnamedFile) -> None:
        self._file = file
        self._deflater = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._file.write(self._deflater.compress(data))

    def finish(self) -> None:
        """Write what is left, padded to even length."""
        self._file.write(self._deflater.flush())
        self._file.write(bytes(self._file.length % 2))


def inflate(file: UnnamedFile, pieces: Iterable[bytes], *, ratio: int) -> None:
    """
    Write a deflated data set's bytes, inflated.

    Args:
        ratio: inflated against deflated, at most.

    Raises:
        TranscodingError: it can't be inflated, or becomes too long.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    taken = 0
    for piece in pieces:
        taken += len(piece)
        allowed = ratio * taken + BUFFER_BYTES
        rest = piece
        while rest and not inflater.eof:
            try:
                file.write(inflater.decompress(rest, BUFFER_BYTES))
            except zlib.error as error:
                raise TranscodingError("the deflated data set can't be inflated") from error
            if file.length > allowed:
                raise TranscodingError(f"the deflated data set inflates to more than {ratio} times its length")
            rest = inflater.unconsumed_tail
    while not inflater.eof and (piece := inflater.decompress(b"", BUFFER_BYTES)):  # what it held back at a full buffer
        file.write(piece)
    if not inflater.eof:
        raise TranscodingError("the deflated data set is not complete")
    file.flush()
