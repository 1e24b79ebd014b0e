"""
The transcoder's and the frame extractor's part of the assembly: their processes end after the last request and before
the archive closes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from pacs.config import Configuration
from pacs.dataset.scanner import ScanLimits
from pacs.extraction.changes import Equipment
from pacs.extraction.extractor import FrameExtractor
from pacs.transcoding.settings import TranscodingSettings
from pacs.version import __version__


def transcoding_settings(configuration: Configuration) -> TranscodingSettings:
    """Give what the configuration has for both."""
    limits = configuration.server.limits
    return TranscodingSettings(
        directory=Path(configuration.storage.root_path).absolute(),
        workers=limits.transcoding_processes,
        seconds=limits.transcoding_seconds,
        memory_bytes=limits.transcoding_memory_bytes,
        output_bytes=limits.object_bytes,
        scan_limits=ScanLimits(
            sequence_depth=limits.sequence_depth,
            sequence_items=limits.sequence_items,
            inflate_ratio=limits.inflate_ratio,
            inflate_bytes=limits.object_bytes,
        ),
    )


def make_frame_extractor(configuration: Configuration, reactor: Any) -> FrameExtractor:
    """Make what extracts frames, within the transcoder's limits."""
    equipment = Equipment(station_name=configuration.server.ae_title, software_version=__version__)
    return FrameExtractor(settings=transcoding_settings(configuration), equipment=equipment, reactor=reactor)


class WorkersService(Service):
    """
    Ends worker processes; they are started when they are needed.

    Args:
        stop: fires when they are gone.
    """

    def __init__(self, stop: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        self._stop = stop

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())
