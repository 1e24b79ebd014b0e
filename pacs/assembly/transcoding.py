"""
The transcoder's part of the assembly: its processes end after the last request and before the archive closes.
"""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from pacs.config import Configuration
from pacs.dataset.scanner import ScanLimits
from pacs.transcoding.settings import TranscodingSettings
from pacs.transcoding.transcoder import Transcoder


def transcoding_settings(configuration: Configuration) -> TranscodingSettings:
    """Give the transcoder's part of the configuration."""
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


class TranscodingService(Service):
    """Ends the worker processes; they are started when they are needed."""

    def __init__(self, transcoder: Transcoder) -> None:
        self._transcoder = transcoder

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._transcoder.stop())
