"""
Opening the archive's files, whatever the last run left: the index is migrated, the journal replayed, the tail checked.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from pacs.archive.index.database import connect_writer, migrate
from pacs.archive.index.writer import IndexWriter
from pacs.archive.objects.files import FileStore
from pacs.archive.objects.journal import Journal
from pacs.archive.recovery import CLEAN_STOP, check_tail, replay_journal
from pacs.archive.settings import ArchiveSettings

log = Logger()


def open_in_thread(
    settings: ArchiveSettings, store: FileStore, journal: Journal, conflict_noticed: Callable[[], None]
) -> tuple[IndexWriter, bool]:
    """
    Open store, journal and index, and note that the archive is in use.

    Args:
        conflict_noticed: called when a Patient ID turns out to be several patients'.

    Returns:
        the index's writer, and whether the last run ended in order.

    Raises:
        IndexTooNew: the index is of a newer version.
        OSError: the archive's directory can't be used.
    """
    settings.index_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store.open()
    copy = migrate(settings.index_path)
    if copy is not None:
        log.info("the index has a new schema; the old one is kept as {copy}", copy=str(copy))
    writer = IndexWriter(connect_writer(settings.index_path), conflict_noticed=conflict_noticed)
    left = store.clear_incoming()
    if left:
        log.info("{count} unfinished objects of an earlier run are removed", count=left)
    was_clean = writer.state(CLEAN_STOP) == "yes"
    if writer.state(CLEAN_STOP) is None:  # a new index
        was_clean = next(store.objects(), None) is None
        if not was_clean:
            log.warn("the index is new and there are objects: they are indexed in the background")
    restored = replay_journal(settings, store, journal, writer)
    if restored:
        log.info("{count} objects of an earlier run are restored from the journal", count=restored)
    if not was_clean:
        check_tail(store, writer)
    writer.begin()
    writer.set_state(CLEAN_STOP, "no")
    writer.commit()
    writer.checkpoint()  # a power cut must not bring the "yes" of the last stop back
    return writer, was_clean
