"""
Values that only the stored headers have: read from the index's packed header, or from the beginning of the object's
file while that header is not derived yet, or never is.

Runs in the index's reader threads.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from typing import ClassVar, Final

from twisted.logger import Logger

from pacs.archive.attributes import SPECIFIC_CHARACTER_SET
from pacs.archive.derive import unpack_header
from pacs.archive.objects.files import FileStore
from pacs.dataset.elements import Element
from pacs.dataset.errors import DataSetError
from pacs.dataset.selection import Incomplete, select_elements
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.dataset.values import Value, values_of

FIRST_READ_BYTES: Final = 64 << 10
LONGEST_READ_BYTES: Final = 16 << 20  # a longer head is not looked through

_SELECT: Final = (
    "SELECT h.data, i.path, i.data_set_offset, i.transfer_syntax_uid, i.character_set"
    " FROM instances i LEFT JOIN headers h ON h.instance_pk = i.pk WHERE i.pk = ?"
)


class HeaderReader:
    """Reads headers of objects."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, store: FileStore) -> None:
        self._store = store

    def values(self, connection: sqlite3.Connection, instance_pk: int, wanted: frozenset[int]) -> dict[int, Value]:
        """Give the wanted values that an object has; of an object that is gone, or can't be read, none."""
        row = connection.execute(_SELECT, (instance_pk,)).fetchone()
        if row is None:
            return {}
        packed, path, offset, transfer_syntax_uid, character_set = row
        tags = wanted | {SPECIFIC_CHARACTER_SET}
        try:
            elements = self._elements(packed, path, offset, transfer_syntax_uid, tags)
        except (DataSetError, OSError, zlib.error) as error:
            self.log.warn("the header of an object can't be read: {error}", error=type(error).__name__)
            return {}
        is_little_endian = TRANSFER_SYNTAXES[transfer_syntax_uid].is_little_endian
        values = values_of(tuple(elements.values()), character_set, "<" if is_little_endian else ">")
        return {tag: value for tag, value in values.items() if tag in wanted}

    def _elements(
        self, packed: bytes | None, path: str, offset: int, transfer_syntax_uid: str, wanted: frozenset[int]
    ) -> dict[int, Element]:
        if packed is not None:
            data, holes = unpack_header(packed)
            return select_elements(data, transfer_syntax_uid, wanted, holes=holes)
        descriptor = self._store.open_object(path)
        try:
            return _elements_of_file(descriptor, offset, transfer_syntax_uid, wanted)
        finally:
            os.close(descriptor)


def _elements_of_file(
    descriptor: int, offset: int, transfer_syntax_uid: str, wanted: frozenset[int]
) -> dict[int, Element]:
    """Read as much of a file as the wanted elements need."""
    is_deflated = TRANSFER_SYNTAXES[transfer_syntax_uid].is_deflated
    size = FIRST_READ_BYTES
    while True:
        data = os.pread(descriptor, size, offset)
        is_whole = len(data) < size
        if is_deflated:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflater.decompress(data, LONGEST_READ_BYTES)
        try:
            return select_elements(data, transfer_syntax_uid, wanted)
        except Incomplete:
            if is_whole or size >= LONGEST_READ_BYTES:
                raise
        size *= 4
