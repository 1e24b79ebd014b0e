"""
One data set, from one transfer syntax to another: what a worker process does.
"""

from __future__ import annotations

from pacs.dataset.errors import DataSetError
from pacs.dataset.reencode import reencode
from pacs.dataset.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES
from pacs.dataset.window import Window
from pacs.transcoding.dictionary import look_up
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.output import DeflatingOutput, UnnamedFile, inflate
from pacs.transcoding.pixels import FrameDecoder
from pacs.transcoding.settings import TranscodingSettings
from pacs.transcoding.syntaxes import targets


def convert(
    descriptor: int, offset: int, length: int, source_ts: str, target_ts: str, settings: TranscodingSettings
) -> UnnamedFile:
    """
    Give a data set of an open file in another transfer syntax, in a new file.

    Raises:
        TranscodingError: it can't be done.
    """
    if target_ts not in targets(source_ts):
        raise TranscodingError(f"transfer syntax {source_ts} can't be given as {target_ts}")
    window = Window(descriptor, offset, length)
    inflated: UnnamedFile | None = None
    file = UnnamedFile(str(settings.directory), longest_bytes=settings.output_bytes)
    try:
        if TRANSFER_SYNTAXES[source_ts].is_deflated:
            inflated = UnnamedFile(str(settings.directory), longest_bytes=settings.output_bytes)
            inflate(inflated, window.pieces(0, length), ratio=settings.scan_limits.inflate_ratio)
            window = Window(inflated.descriptor, 0, inflated.length)
        _write(window, source_ts, target_ts, file, settings)
        file.flush()
    except BaseException:
        file.close()
        raise
    finally:
        if inflated is not None:
            inflated.close()
    return file


def _write(window: Window, source_ts: str, target_ts: str, file: UnnamedFile, settings: TranscodingSettings) -> None:
    target = TRANSFER_SYNTAXES[target_ts]
    deflating = DeflatingOutput(file) if target.is_deflated else None
    try:
        reencode(
            window,
            TRANSFER_SYNTAXES[source_ts],
            TRANSFER_SYNTAXES[EXPLICIT_VR_LITTLE_ENDIAN] if target.is_deflated else target,
            output=deflating or file,
            dictionary=look_up,
            decode=FrameDecoder(window, source_ts, memory_bytes=settings.memory_bytes),
            limits=settings.scan_limits,
        )
    except DataSetError as error:
        raise TranscodingError(str(error)) from error
    if deflating is not None:
        deflating.finish()
