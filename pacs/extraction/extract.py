"""
A new object with some frames of a stored one, in its transfer syntax (PS3.4 Y.3.3): what a worker process does.

Two walks: the first sees what there is, the second writes it anew. Frames are copied from the source's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pacs.dataset.errors import DataSetError
from pacs.dataset.facts import EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS
from pacs.dataset.reencode import NewElement, NewValue, Output, Reencoder
from pacs.dataset.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES, TransferSyntax
from pacs.dataset.walk import Kind, Token, Walk
from pacs.dataset.window import Window
from pacs.extraction.changes import Equipment, equipment_item, extraction_item, header_changes, new_uid
from pacs.extraction.errors import Cause, ExtractionError
from pacs.extraction.overlays import cut_overlays
from pacs.extraction.pixels import NativeRun, Pixels, pixels_of
from pacs.extraction.request import FrameKey, FrameRequest
from pacs.extraction.source import PER_FRAME_FUNCTIONAL_GROUPS, Source
from pacs.extraction.tables import CONTRIBUTING_EQUIPMENT_SEQUENCE, FRAME_EXTRACTION_SEQUENCE, SOP_INSTANCE_UID
from pacs.extraction.times import frame_times_s
from pacs.transcoding.dictionary import look_up
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.output import DeflatingOutput, UnnamedFile, inflate
from pacs.transcoding.settings import TranscodingSettings

_OFFSET_TABLES: Final = frozenset((EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS))  # made anew


@dataclass(frozen=True, slots=True)
class Extracted:
    """
    A new object.

    Attributes:
        file: its data set, in the source's transfer syntax; whoever gets it closes it.
        frames: how many it has.
    """

    file: UnnamedFile
    sop_instance_uid: str
    frames: int


def extract(
    descriptor: int,
    offset: int,
    length: int,
    transfer_syntax_uid: str,
    request: FrameRequest,
    equipment: Equipment,
    settings: TranscodingSettings,
) -> Extracted:
    """
    Make a new object of a data set in an open file.

    Raises:
        ExtractionError: it can't be done.
    """
    request.check()
    syntax = TRANSFER_SYNTAXES[transfer_syntax_uid]
    directory = str(settings.directory)
    window = Window(descriptor, offset, length)
    inflated: UnnamedFile | None = None
    file = UnnamedFile(directory, longest_bytes=settings.output_bytes)
    try:
        if syntax.is_deflated:
            inflated = UnnamedFile(directory, longest_bytes=settings.output_bytes)
            inflate(inflated, window.pieces(0, length), ratio=settings.scan_limits.inflate_ratio)
            window = Window(inflated.descriptor, 0, inflated.length)
        extracted = _extract(window, syntax, request, equipment, file, settings)
        file.flush()
    except DataSetError as error:
        file.close()
        raise ExtractionError(Cause.FRAMES, str(error)) from error
    except TranscodingError as error:
        file.close()
        raise ExtractionError(Cause.RESOURCES, str(error)) from error
    except BaseException:
        file.close()
        raise
    finally:
        if inflated is not None:
            inflated.close()
    return extracted


def _extract(
    window: Window,
    stored: TransferSyntax,
    request: FrameRequest,
    equipment: Equipment,
    file: UnnamedFile,
    settings: TranscodingSettings,
) -> Extracted:
    syntax = TRANSFER_SYNTAXES[EXPLICIT_VR_LITTLE_ENDIAN] if stored.is_deflated else stored
    source = Source(window, syntax, look_up, settings.scan_limits)
    times = frame_times_s(source) if request.key is FrameKey.TIME_RANGE else None
    frames = request.frames(source.count, times)
    uid = new_uid(source.text(SOP_INSTANCE_UID), request, equipment)
    deflating = DeflatingOutput(file) if stored.is_deflated else None
    writer = _Writer(
        source, syntax, frames, output=deflating or file, request=request, equipment=equipment, new_uid=uid
    )
    for token in Walk(window, syntax, look_up, settings.scan_limits):
        writer.take(token)
    writer.finish()
    if deflating is not None:
        deflating.finish()
    return Extracted(file, uid, len(frames))


class _Writer:
    """
    Writes the source's tokens but those that are left out, and ours at their places.
    """

    def __init__(
        self,
        source: Source,
        syntax: TransferSyntax,
        frames: Sequence[int],
        *,
        output: Output,
        request: FrameRequest,
        equipment: Equipment,
        new_uid: str,
    ) -> None:
        self._output = output
        self._frames = frozenset(frames)
        self._is_cut = len(frames) != source.count
        self._pixels_tag = source.pixels.tag
        self._pixels: Pixels = pixels_of(source, syntax, frames)
        overlays = cut_overlays(source, frames)
        self._overlay_data = overlays.data
        changes = header_changes(source, frames, new_uid)
        self._left_out = changes.left_out | _OFFSET_TABLES
        self._left_out_groups = overlays.left_out
        new: dict[int, tuple[str, NewValue]] = {**changes.new, **overlays.new, **self._pixels.new}
        self._appended: dict[int, Sequence[NewElement]] = {}
        for tag, item in (
            (FRAME_EXTRACTION_SEQUENCE, extraction_item(source.text(SOP_INSTANCE_UID), request)),
            (CONTRIBUTING_EQUIPMENT_SEQUENCE, equipment_item(equipment)),
        ):
            present = source.elements.get(tag)
            if present is not None and present.kind is Kind.SEQUENCE:
                self._appended[tag] = item
            else:
                new[tag] = "SQ", [item]
        self._replaced = frozenset(new)
        self._waiting = sorted(((tag, *element) for tag, element in new.items()), key=_tag_of, reverse=True)
        self._path: list[int] = []  # the sequences that the walk is in
        self._skipped = 0  # how deep the walk is in what is left out
        self._item = 0
        self._encoder = Reencoder(source.window, syntax, syntax, output=output, decode=None, levels=source.levels)

    def take(self, token: Token) -> None:
        """Write what a token stands for, or not."""
        kind = token.kind
        if self._skipped:
            if kind in (Kind.SEQUENCE, Kind.ITEM):
                self._skipped += 1
            elif kind in (Kind.SEQUENCE_END, Kind.ITEM_END):
                self._skipped -= 1
        elif kind in (Kind.ELEMENT, Kind.SEQUENCE, Kind.FRAGMENTS):
            self._element(token)
        elif kind is Kind.ITEM and self._is_cut and self._path == [PER_FRAME_FUNCTIONAL_GROUPS]:
            self._item += 1
            if self._item in self._frames:
                self._encoder.take(token)
            else:
                self._skipped = 1
        else:
            if kind is Kind.SEQUENCE_END:
                tag = self._path.pop()
                if not self._path and tag in self._appended:
                    self._encoder.put_item(self._appended[tag])
            self._encoder.take(token)

    def finish(self) -> None:
        """Write what comes behind the last element."""
        self._put_before(None)
        self._encoder.finish()

    def _element(self, token: Token) -> None:
        tag, kind = token.tag, token.kind
        if not self._path:
            self._put_before(tag)
        if self._is_left_out(tag):
            self._skipped = int(kind is Kind.SEQUENCE)
            return
        if not self._path and tag == self._pixels_tag:
            self._pixels.write(self._encoder.encoding, self._output)
            return
        run: NativeRun | None = None if self._path else self._overlay_data.get(tag)
        if run is not None:
            run.write(self._encoder.encoding, self._output)
            return
        if kind is Kind.SEQUENCE:
            self._path.append(tag)
        self._encoder.take(token)

    def _is_left_out(self, tag: int) -> bool:
        if tag >> 16 & 1:
            return True  # private: what it says of the frames nobody knows (PS3.4 Y.3.3, PS3.17 MM.7)
        return not self._path and (tag in self._left_out or tag in self._replaced or tag >> 16 in self._left_out_groups)

    def _put_before(self, tag: int | None) -> None:
        """Write our elements up to a tag."""
        waiting = self._waiting
        while waiting and (tag is None or waiting[-1][0] <= tag):
            self._encoder.put(*waiting.pop())


def _tag_of(element: NewElement) -> int:
    return element[0]
