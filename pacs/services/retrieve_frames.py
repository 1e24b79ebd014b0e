"""
Retrieval at the FRAME level (PS3.4 Y.4): a new object is made of some frames, and sent like any other.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from pacs.archive.archive import Archive
from pacs.archive.errors import ArchiveError
from pacs.archive.retrieval import Selection, StoredObject
from pacs.dataset.file import DataSetFile
from pacs.dimse import DIMSEError, Status
from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.extractor import FrameExtractor
from pacs.extraction.request import FrameRequest

STATUS_OF: Final[Mapping[Cause, Status]] = {
    Cause.NO_SUCH_FRAMES: Status.NONE_OF_THE_FRAMES_FOUND,
    Cause.SOP_CLASS: Status.UNABLE_TO_CREATE_NEW_OBJECT,
    Cause.FRAMES: Status.UNABLE_TO_EXTRACT_FRAMES,
    Cause.NOT_TIMED: Status.NOT_A_TIME_BASED_INSTANCE,
    Cause.INVALID_REQUEST: Status.INVALID_FRAME_REQUEST,
    Cause.RESOURCES: Status.UNABLE_TO_PERFORM_SUBOPERATIONS,
}

T = TypeVar("T")


class ExtractedObject:
    """
    A new object, where objects are read from to be sent.

    Attributes:
        selection: it alone.
    """

    def __init__(self, archive: Archive, key: int, stored: StoredObject, file: DataSetFile) -> None:
        self._archive = archive
        self._file = file
        self.selection = Selection((stored.kind,), array("q", [key]), array("L", [0]), (stored,))

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Have a function called in a thread."""
        return await self._archive.in_thread(function, *arguments)

    async def open(self, stored: StoredObject) -> DataSetFile:
        """Open it; whoever gets it closes it."""
        return self.open_in_thread(stored)

    def open_in_thread(self, stored: StoredObject) -> DataSetFile:
        """The same, for whoever is in a thread already."""
        return DataSetFile(
            os.dup(self._file.descriptor), stored.data_set_offset, stored.size_bytes, stored.transfer_syntax_uid
        )

    def close(self) -> None:
        """Let it vanish."""
        self._file.close()


async def extract_frames(
    archive: Archive, extractor: FrameExtractor, selection: Selection, request: FrameRequest
) -> ExtractedObject:
    """
    Make the new object; whoever gets it closes it.

    Raises:
        DIMSEError: it can't be made, with the status of PS3.4 table Y.4-1.
    """
    stored = await archive.objects(selection).next()
    if stored is None:
        raise DIMSEError(Status.NONE_OF_THE_FRAMES_FOUND, "the SOP instance is not in the archive")
    try:
        source = await archive.open(stored)
    except ArchiveError as error:
        raise DIMSEError(Status.UNABLE_TO_PERFORM_SUBOPERATIONS, error.comment) from error
    try:
        new = await extractor.extract(source, request)
    except ExtractionError as error:
        tags = (request.key.value,) if error.cause is Cause.INVALID_REQUEST else ()
        raise DIMSEError(STATUS_OF[error.cause], str(error), tags) from error
    finally:
        source.close()
    ((key, kind),) = selection.page(0)
    return ExtractedObject(
        archive, key, StoredObject(kind, new.sop_instance_uid, stored.path, 0, new.file.length), new.file
    )
