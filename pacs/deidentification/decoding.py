"""
Frames to be cleaned are decoded by the transcoder's codecs; a worker process alone imports this.
"""

from __future__ import annotations

from pacs.dataset.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from pacs.deidentification.errors import NotDeidentifiable
from pacs.deidentification.settings import EngineSettings
from pacs.transcoding.convert import convert
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.output import UnnamedFile
from pacs.transcoding.settings import TranscodingSettings


def decode(
    descriptor: int, offset: int, length: int, transfer_syntax_uid: str, settings: EngineSettings
) -> UnnamedFile:
    """
    Give a data set with uncompressed frames, in Explicit VR Little Endian.

    Raises:
        NotDeidentifiable: its frames can't be decoded.
    """
    transcoding = TranscodingSettings(
        directory=settings.directory,
        memory_bytes=settings.memory_bytes,
        output_bytes=settings.output_bytes,
        scan_limits=settings.limits,
    )
    try:
        return convert(descriptor, offset, length, transfer_syntax_uid, EXPLICIT_VR_LITTLE_ENDIAN, transcoding)
    except TranscodingError:
        raise NotDeidentifiable("burned_in", "the frames can't be decoded to be cleaned") from None
