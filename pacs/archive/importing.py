"""
Files of a disk into the archive, by the same way that a C-STORE takes: duplicates, conflicts, de-identification, events
and durability are the same.

Several files are on their way at once, so that they share commits. An object that is there already with the same
transfer syntax and length is not read again: an import that was broken off goes on where it ended.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.threads import deferToThread

from pacs.archive.archive import Archive
from pacs.archive.errors import ArchiveError, IdentityConflict
from pacs.archive.interfaces import InstanceHeader
from pacs.dataset.errors import DataSetError
from pacs.dataset.part10 import FileMeta, open_file, read_file_meta
from pacs.dataset.selection import select_elements
from pacs.dataset.transfer_syntaxes import is_deflated, keeps_pixels
from pacs.events import EventBus, IntegrityAlarm
from pacs.security.access import Principal

FILES_AT_ONCE: Final = 8
READ_BYTES: Final = 256 << 10
HEAD_BYTES: Final = 64 << 10  # of a data set: its UIDs are at the beginning
DIRECTORY: Final = "1.2.840.10008.1.3.10"  # Media Storage Directory: a DICOMDIR
SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018

Progress = Callable[[dict[str, Any]], None]


class Importer:
    """
    Imports files.

    Args:
        is_storage: tells whether a SOP class is one of objects that are kept.
        principal: who is told as their sender.
        compares: read and compare what seems to be there already, too.
    """

    def __init__(
        self,
        *,
        archive: Archive,
        bus: EventBus,
        is_storage: Callable[[str], bool],
        principal: Principal,
        compares: bool,
    ) -> None:
        self._archive = archive
        self._bus = bus
        self._is_storage = is_storage
        self._principal = principal
        self._compares = compares
        self._counts: Counter[str] = Counter()
        self._failed: list[dict[str, str]] = []

    async def run(self, paths: Sequence[Path], progress: Progress) -> dict[str, Any]:
        """
        Import some files.

        Returns:
            how many were stored, identical, replaced, renamed, skipped (there already), and no DICOM files; and which
            failed, each with its path and the reason.
        """
        done = 0

        async def work(waiting: Iterator[Path]) -> None:
            nonlocal done
            for path in waiting:
                await self._import(path)
                done += 1
                progress({"done": done, "total": len(paths)})

        waiting = iter(paths)
        workers = [Deferred.fromCoroutine(work(waiting)) for _ in range(FILES_AT_ONCE)]
        try:
            await gatherResults(workers, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()  # its own text is a traceback
        return {**self._counts, "failed": self._failed}

    async def _import(self, path: Path) -> None:
        try:
            file, header, length = await deferToThread(_open_in_thread, path)
        except DataSetError:
            self._counts["no_dicom_file"] += 1
            return
        except OSError as error:
            self._fail(path, error.strerror or str(error))
            return
        try:
            self._counts[await self._store(file, header, length)] += 1
        except ArchiveError as error:
            self._fail(path, error.comment)
        except OSError as error:
            self._fail(path, error.strerror or str(error))
        finally:
            file.close()

    def _fail(self, path: Path, reason: str) -> None:
        self._failed.append({"path": str(path), "reason": reason})

    async def _store(self, file: BufferedReader, header: InstanceHeader, length: int) -> str:
        if header.sop_class_uid == DIRECTORY:
            return "no_dicom_file"
        if not self._is_storage(header.sop_class_uid) or not keeps_pixels(header.transfer_syntax_uid):
            raise ArchiveError("its SOP class or transfer syntax is none of storage")
        if not self._compares and await self._is_there(header, length):
            return "skipped"
        try:
            async with self._archive.receive(header, self._principal, self) as incoming:
                while piece := await deferToThread(file.read, READ_BYTES):
                    taken = incoming.write([memoryview(piece)])
                    if taken is not None:
                        await taken
                stored = await incoming.commit()
            return stored.outcome.value
        except IdentityConflict as error:
            self._bus.publish(
                IntegrityAlarm(
                    description=error.comment, subject=header.sop_instance_uid, calling_ae=self._principal.name
                )
            )
            raise

    async def _is_there(self, header: InstanceHeader, length: int) -> bool:
        known = await self._archive.find_object(header.sop_instance_uid)
        return (
            known is not None
            and known.transfer_syntax_uid == header.transfer_syntax_uid
            and known.size_bytes - known.data_set_offset == length
        )


def _open_in_thread(path: Path) -> tuple[BufferedReader, InstanceHeader, int]:
    """Open a file; give it at its data set, what it has, and how long the data set is."""
    file = open_file(path)
    try:
        meta = read_file_meta(file)
        file.seek(meta.data_set_offset)
        header = _header(file.read(HEAD_BYTES), meta)
        file.seek(meta.data_set_offset)
        return file, header, os.fstat(file.fileno()).st_size - meta.data_set_offset
    except BaseException:
        file.close()
        raise


def _header(data: bytes, meta: FileMeta) -> InstanceHeader:
    """
    Say which object it is: as the data set has it, or else the File Meta Information.

    PS3.10 7.1 wants them equal, but programs that edit a data set leave the head as it was.

    Args:
        data: the beginning of the data set.
    """
    transfer_syntax_uid = meta.transfer_syntax_uid
    uids = {SOP_CLASS_UID: meta.sop_class_uid, SOP_INSTANCE_UID: meta.sop_instance_uid}
    try:
        if is_deflated(transfer_syntax_uid):
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, HEAD_BYTES)
        elements = select_elements(data, transfer_syntax_uid, frozenset(uids))
    except (DataSetError, zlib.error):
        elements = {}  # it is refused when it was read to the end
    for tag, element in elements.items():
        uids[tag] = element.value.decode("latin-1").strip("\0 ") or uids[tag]
    return InstanceHeader(uids[SOP_CLASS_UID], uids[SOP_INSTANCE_UID], transfer_syntax_uid)
