"""
The archive: where objects come in, are found, and are read. One archive, whatever the door.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

from sqlalchemy import Select
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from pacs.archive.batch import CommittedObject
from pacs.archive.candidate import Candidate
from pacs.archive.changing import change
from pacs.archive.commit import CommitThread
from pacs.archive.deidentified import DeidentifiedIncoming
from pacs.archive.deletion import Deleted, Deletion
from pacs.archive.derive import Derived, DeriveThread
from pacs.archive.errors import ArchiveClosed, ArchiveError, ObjectGone, StorageFailed
from pacs.archive.headers import HeaderReader
from pacs.archive.incoming import Incoming
from pacs.archive.index.finding import Finding
from pacs.archive.index.listing import Listing, ListPage, list_in_thread, lookup_statement, page_of_lookup
from pacs.archive.index.readers import PAGE_ROWS, IndexReaders, Pages, Row
from pacs.archive.index.removal import Doomed
from pacs.archive.index.search import statement_for
from pacs.archive.index.writer import IndexWriter
from pacs.archive.interfaces import InstanceHeader, Stored
from pacs.archive.kept import count_in_thread, derivable, image_received, note_derived, underived_in_thread
from pacs.archive.objects.files import FileStore
from pacs.archive.objects.journal import Journal
from pacs.archive.opening import open_in_thread
from pacs.archive.query import AnyOf, Equals, Query
from pacs.archive.reading import ReadingThreads
from pacs.archive.recovery import CLEAN_STOP
from pacs.archive.retrieval import ObjectCursor, Selection, StoredObject, select_in_thread
from pacs.archive.settings import ArchiveSettings
from pacs.archive.space import SpaceGuard
from pacs.archive.transaction import Job, Transactions
from pacs.archive.upkeep import Upkeep
from pacs.dataset.file import DataSetFile
from pacs.deidentification.deidentifier import Deidentifier
from pacs.events import DeidentificationRefused, Event, EventBus, ImageReceived
from pacs.monitoring.health import ComponentHealth, Health, HealthRegister
from pacs.monitoring.metrics import Metrics
from pacs.security.access import Principal

OBJECT_THREADS: Final = 8
JOURNAL: Final = "journal"
EXAMINED_ROWS: Final = 32  # at once, of a query that looks into headers
ROWS_AT_ONCE: Final = 1000  # of a lookup in the reactor
_SOP_INSTANCE_UID: Final = 0x00080018

T = TypeVar("T")


class Archive:
    """
    Keeps objects.

    `start` opens it, `stop` closes it; in between `receive` takes objects and `pages` answers queries.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        settings: ArchiveSettings,
        reactor: Any,
        bus: EventBus,
        metrics: Metrics,
        health: HealthRegister,
        deidentifier: Deidentifier | None = None,
    ) -> None:
        self._deidentifier = deidentifier
        self.settings = settings
        self._reactor = reactor
        self._bus = bus
        self._metrics = metrics
        self._gate = threading.Lock()
        self.store = FileStore(settings.root_path, index_directory=settings.index_path.parent)
        self.storage_health = ComponentHealth(health, "storage")
        self.database_health = ComponentHealth(health, "database")
        self._space = SpaceGuard(
            directories=(settings.root_path, settings.index_path.parent),
            min_free_bytes=settings.min_free_bytes,
            warn_free_percent=settings.warn_free_percent,
            interval_s=settings.look_interval_s,
            clock=reactor,
            metrics=metrics,
            health=self.storage_health,
        )
        self._journal = Journal(settings.root_path / JOURNAL, barrier=self.store.another_barrier())
        self._pool = ThreadPool(0, OBJECT_THREADS, name="objects")
        self._headers = HeaderReader(store=self.store)
        self._reading = ReadingThreads(reactor=reactor)
        self._readers = IndexReaders(path=settings.index_path, gate=self._gate, reactor=reactor)
        self._commit: CommitThread | None = None
        metrics.queue_depth.labels(queue="commit").set_function(lambda: self.waiting)
        self._derive: DeriveThread | None = None
        self._upkeep = Upkeep(
            settings=settings,
            store=self.store,
            reactor=reactor,
            bus=bus,
            storage=self.storage_health,
            database=self.database_health,
            take_in=self.take_in,
            write=self.write_index,
            swept=self._finish_deletions,
        )
        self._deletion: Deletion | None = None
        self._conflicts = 0

    # -- life

    async def start(self) -> None:
        """
        Open the index, look at the tail, begin to commit.

        Raises:
            IndexTooNew: the index is of a newer version.
            OSError: the archive's directory can't be used.
        """
        writer, was_clean = await deferToThread(
            open_in_thread, self.settings, self.store, self._journal, self._conflict_noticed_in_thread
        )
        transactions = Transactions(
            settings=self.settings,
            store=self.store,
            journal=self._journal,
            writer=writer,
            gate=self._gate,
            committed=self._committed_in_thread,
        )
        self._commit = CommitThread(transactions=transactions, reactor=self._reactor)
        self._deletion = Deletion(
            store=self.store,
            change=self.change,
            retire_journal=transactions.retire_journal,
            barrier=transactions.sync_files,
            is_swept=lambda: self._upkeep.is_swept,
            bus=self._bus,
            metrics=self._metrics,
            health=self.storage_health,
        )
        self._derive = DeriveThread(
            store=self.store,
            limits=self.settings.scan_limits,
            found=self._derived_in_thread,
            last_arrival_s=lambda: self._commit.last_batch_s if self._commit is not None else 0.0,
        )
        self._pool.start()
        self._reading.start()
        self._readers.start()
        self._journal.start()
        self._commit.start()
        self._derive.start()
        try:
            await self._readers.run(self._take_up_in_thread)
        except Exception:
            await deferToThread(self._close_in_thread)  # nobody stops what has not started
            raise
        self.database_health.report("open", Health.HEALTHY)
        self._space.start()
        self._upkeep.start(was_clean=was_clean)
        self._deletion.start()

    async def stop(self) -> None:
        """Commit what waits, empty the index's log, close everything."""
        self._space.stop()
        if self._deletion is not None:
            self._deletion.stop()
        if self._commit is not None:
            await self._commit.settle()
        await deferToThread(self._close_in_thread)
        if self._commit is not None:
            self._commit.answer_last()
        self._reading.answer_last()

    def _close_in_thread(self) -> None:
        self._upkeep.stop_in_thread()
        if self._derive is not None:
            self._derive.stop()
        if self._commit is not None:
            if self._upkeep.is_swept:
                self._commit.run(lambda writer: writer.set_state(CLEAN_STOP, "yes"))
            self._commit.stop()
        self._journal.close()
        if self._readers.is_started:
            self._readers.stop()
            self._pool.stop()
        self._reading.stop_in_thread()
        self.store.close()

    def _take_up_in_thread(self, connection: Any) -> None:
        """Set the gauges, and queue what is still to be derived."""
        self._metrics.archive_counted(count_in_thread(connection))
        assert self._derive is not None
        self._derive.add(underived_in_thread(connection))

    def _finish_deletions(self) -> None:
        if self._deletion is not None:
            self._deletion.start()

    # -- doors

    def receive(self, header: InstanceHeader, principal: Principal, sender: object) -> Incoming | DeidentifiedIncoming:
        """
        Give a place for an object that is about to arrive; an async context manager. It is de-identified before
        anything of it is kept, if that applies to its sender.

        Args:
            sender: whose objects come one after the other, an association for one.

        Nothing is visible to queries until `Incoming.commit()` has fired. Leaving without it discards the bytes.

        Raises:
            StorageFull, ArchiveClosed: on entering.
        """
        if self._commit is None:
            raise ArchiveClosed("the archive is not open")
        deidentifier = self._deidentifier
        if deidentifier is not None and deidentifier.applies_to(principal.name):
            return DeidentifiedIncoming(
                header=header,
                deidentifier=deidentifier,
                longest_bytes=self.settings.object_bytes,
                make=lambda released: self._incoming(released, principal, sender, is_anonymized=True),
                admit=self._space.check,
                kept=self._metrics.anonymized_instances.labels(deidentifier.profile).inc,
                refused=lambda rule, tag: self._refused(principal, rule, tag),
            )
        return self._incoming(header, principal, sender)

    def _incoming(
        self, header: InstanceHeader, principal: Principal, sender: object, *, is_anonymized: bool = False
    ) -> Incoming:
        if self._commit is None:
            raise ArchiveClosed("the archive is not open")
        return Incoming(
            header=header,
            source_ae_title=principal.name,
            peer_address=principal.peer_address,
            sender=sender,
            settings=self.settings,
            store=self.store,
            admit=self._space.check,
            commit=self._commit,
            reactor=self._reactor,
            pool=self._pool,
            is_anonymized=is_anonymized,
        )

    def _refused(self, principal: Principal, rule: str, tag: int | None) -> None:
        """Tell that an object was not released; by rule and tag, never by a value."""
        named = "" if tag is None else f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        self.log.warn(
            "an object of {calling_ae_title} is not de-identified and not kept: {rule} {tag}",
            calling_ae_title=principal.name,
            rule=rule,
            tag=named,
        )
        self._bus.publish(
            DeidentificationRefused(
                rule=rule, tag=named, calling_ae=principal.name, peer_address=principal.peer_address
            )
        )

    def take_in(self, candidate: Candidate) -> Deferred[Stored]:
        """Index a file that has its final name already; fires when that is durable."""
        if self._commit is None:
            raise ArchiveClosed("the archive is not open")
        return self._commit.submit(candidate)

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function with a snapshot of the index, in a thread."""
        return await self._readers.run(function)

    def hurry_checksums(self) -> None:
        """Compute checksums now, arriving objects or not; for whoever waits for one, who asks again and again."""
        if self._derive is not None:
            self._derive.hurry()

    @property
    def has_room(self) -> bool:
        """Whether objects are taken: the reserve of free space is not reached, and the disk answers."""
        try:
            self._space.check()
        except ArchiveError:
            return False
        return True

    @property
    def waiting(self) -> int:
        """How many objects wait to be committed."""
        return self._commit.waiting if self._commit is not None else 0

    async def count(self) -> Mapping[str, int]:
        """Count what is kept, and set the gauges to it."""
        counts = await self._readers.run(count_in_thread)
        self._metrics.archive_counted(counts)
        return counts

    async def list_page(self, listing: Listing) -> ListPage:
        """
        Give a part of a list, and how many items the whole has.

        What an index finds in microseconds is looked up at once, without a visit to a thread.
        """
        if listing.offset + listing.limit <= ROWS_AT_ONCE and listing.is_lookup:
            rows = self._readers.look_up(*lookup_statement(listing))
            page = None if rows is None else page_of_lookup(listing, rows)
            if page is not None:
                return page
        return await self._readers.run(lambda connection: list_in_thread(connection, listing))

    async def find_object(self, sop_instance_uid: str) -> StoredObject | None:
        """Give an object to be read, the first of several copies, or None when there is none."""
        return await self.objects(await self.select((Equals(_SOP_INSTANCE_UID, sop_instance_uid),))).next()

    def pages(self, statement: Select[Any]) -> AsyncIterator[list[Row]]:
        """Give the rows of a query's statement, page by page, all of one moment."""
        return self._readers.pages(statement)

    async def select(self, conditions: tuple[Equals | AnyOf, ...]) -> Selection:
        """Find the objects for which all conditions, on unique keys, hold."""
        return await self._readers.run(lambda connection: select_in_thread(connection, conditions))

    def objects(self, selection: Selection) -> ObjectCursor:
        """Go through the objects of a selection."""
        return ObjectCursor(selection, run=self._readers.run)

    async def open(self, stored: StoredObject) -> DataSetFile:
        """
        Open an object; whoever gets it closes it. Who is canceled gets none, and it is closed as soon as it is open.

        Raises:
            ObjectGone, StorageFailed.
        """
        wanted: Deferred[DataSetFile] = Deferred()

        def opened(result: DataSetFile | Failure) -> None:
            if not wanted.called:
                wanted.callback(result)
            elif isinstance(result, DataSetFile):
                result.close()

        self._reading.run(self.open_in_thread, stored).addBoth(opened)
        return await wanted

    def open_in_thread(self, stored: StoredObject) -> DataSetFile:
        """The same, for whoever is in a thread already."""
        if not stored.path:
            raise ObjectGone("the object has been replaced or deleted")
        try:
            descriptor = self.store.open_object(stored.path)
        except FileNotFoundError:
            raise ObjectGone("the object has been replaced or deleted") from None
        except OSError as error:
            raise StorageFailed(f"the object can't be opened: {error.strerror}") from error
        status = os.fstat(descriptor)
        file = DataSetFile(
            descriptor,
            stored.data_set_offset,
            stored.size_bytes - stored.data_set_offset,
            stored.transfer_syntax_uid,
            (status.st_ino, status.st_mtime_ns),
        )
        if status.st_size != stored.size_bytes:
            file.close()
            raise StorageFailed("the object's file has not the length that it should have")
        return file

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function that reads objects in one of the threads for it."""
        return await self._reading.run(function, *arguments)

    def find(self, query: Query, make_page: Callable[[list[Row]], T]) -> Pages[tuple[T, int]]:
        """
        Answer a query, page by page, all of one moment; whoever takes the pages closes them.

        Args:
            make_page: makes in a thread what is wanted of some rows.

        Returns:
            pages: what was made of the rows, and how many they are. A page may have none.
        """
        finding = Finding(query, headers=self._headers)

        def fill(connection: sqlite3.Connection, rows: list[Row]) -> tuple[tuple[T, int], bool]:
            found = finding.complete(connection, rows)
            return (make_page(found), len(found)), finding.is_exhausted

        text, parameters = finding.statement.text, finding.statement.parameters
        return self._readers.read(text, parameters, fill, page_rows=PAGE_ROWS if finding.is_plain else EXAMINED_ROWS)

    def look_up(self, query: Query) -> list[Row] | None:
        """Answer a query at once when it is a lookup by a unique key; else, or when that would block, give None."""
        statement = statement_for(query)
        if not statement.is_lookup or statement.rest:
            return None
        return self._readers.look_up(statement.text, statement.parameters)

    def write_index(self, job: Job) -> Deferred[None]:
        """Have the commit thread run a function with the index's writer."""
        if self._commit is None:
            raise ArchiveClosed("the archive is not open")
        return self._commit.run(job)

    async def delete(self, doomed: Doomed, principal: Principal) -> Deleted:
        """
        Delete objects, all copies of each, index first, then files; a crash in between ends in their deletion.

        Raises:
            ArchiveError: nothing was deleted.
        """
        if self._deletion is None:
            raise ArchiveClosed("the archive is not open")
        return await self._deletion.delete(doomed, principal)

    async def change(
        self,
        function: Callable[[IndexWriter], T],
        *,
        events: Callable[[T], Sequence[Event]] | None = None,
        is_durable: bool = True,
    ) -> T:
        """
        Change the index by a function, in the commit thread, all of it or nothing.

        It may raise: then nothing is changed, and whoever waits gets what it raised.

        Args:
            events: gives what is noted in the change feed, in the same transaction; called in the commit thread.
            is_durable: wait until it would survive a power cut; for what may be done again, False costs less.

        Returns:
            what the function gave, when its changes are there.

        Raises:
            ArchiveError: the index can't be written.
        """
        if self._commit is None:
            raise ArchiveClosed("the archive is not open")
        return await change(
            self._commit, function, events=events if self.settings.keeps_changes else None, is_durable=is_durable
        )

    # -- after a batch

    def _committed_in_thread(self, stored: Sequence[CommittedObject], duration_s: float) -> None:
        assert self._derive is not None
        self._derive.add([derivable(item) for item in stored])
        self._metrics.batch_stored(len(stored), sum(item.candidate.size_bytes for item in stored), duration_s)
        if self._bus.has_subscribers(ImageReceived):
            self._bus.publish_all([image_received(item) for item in stored if not item.candidate.is_rebuilt])

    def _derived_in_thread(self, group: list[Derived]) -> None:
        commit = self._commit
        assert commit is not None

        commit.run(partial(note_derived, group=group)).addErrback(self._not_noted)

    def _not_noted(self, failure: Failure) -> None:
        self.log.failure("checksums could not be noted; they are computed again at the next start", failure)

    def _conflict_noticed_in_thread(self) -> None:
        self._conflicts += 1
        self.log.warn(
            "a Patient ID has arrived with another name or birth date; it is kept as a patient of its own"
            " and both are marked as a conflict ({count} since the start)",
            count=self._conflicts,
        )
