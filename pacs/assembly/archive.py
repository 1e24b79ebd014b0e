"""
The archive's part of the assembly: its settings and its life, for the server and for commands that work without one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from pacs.archive.archive import Archive
from pacs.archive.feed import ChangeFeed
from pacs.archive.interfaces import DuplicatePolicy, NamingScheme
from pacs.archive.settings import ArchiveSettings
from pacs.config import Configuration
from pacs.dataset.scanner import ScanLimits
from pacs.ul.negotiation import IMPLEMENTATION_CLASS_UID
from pacs.version import IMPLEMENTATION_VERSION_NAME

SECONDS_OF_A_DAY: Final = 86400


class FeedService(Service):
    """Removes what is old from the change feed, while the archive is open."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed

    def startService(self) -> None:
        super().startService()
        self._feed.start()

    def stopService(self) -> None:
        super().stopService()
        self._feed.stop()


def make_feed(configuration: Configuration, archive: Archive, *, reactor: Any) -> ChangeFeed:
    """Build what reads the change feed."""
    return ChangeFeed(
        run=archive.run,
        change=archive.change,
        retention_s=configuration.events.retention_days * SECONDS_OF_A_DAY,
        clock=reactor,
    )


def archive_settings(configuration: Configuration) -> ArchiveSettings:
    """Give the archive's part of the configuration."""
    storage, limits = configuration.storage, configuration.server.limits
    return ArchiveSettings(
        root_path=Path(storage.root_path),
        index_path=Path(storage.database.path),
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        naming_scheme=NamingScheme(storage.naming_scheme),
        duplicate_policy=DuplicatePolicy(storage.duplicate_policy),
        min_free_bytes=storage.min_free_bytes,
        warn_free_percent=storage.warn_free_percent,
        look_interval_s=configuration.monitoring.health_check_interval_seconds,
        scrub_interval_s=storage.scrub_days * SECONDS_OF_A_DAY,
        object_bytes=limits.object_bytes,
        default_character_set=configuration.server.default_character_set,
        keeps_changes=configuration.rest_api.enabled or bool(configuration.events.webhooks),
        scan_limits=ScanLimits(
            sequence_depth=limits.sequence_depth,
            sequence_items=limits.sequence_items,
            inflate_ratio=limits.inflate_ratio,
            inflate_bytes=limits.object_bytes,
        ),
    )


class ArchiveService(Service):
    """Opens the archive before the ports, and closes it after them."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def startService(self) -> Deferred[None]:
        super().startService()
        return Deferred.fromCoroutine(self._archive.start())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._archive.stop())
