"""
Deletion of objects: the index first, then the files, so that a crash in between leaves nothing half done.

One transaction takes the rows away, puts the files into the table `deletions`, and tells the change feed. Then the
files go, in the commit thread, a few at a time: it is the one that gives final names, so no new object gets the name of
one that is about to go. A barrier follows, and only then are the files forgotten. A start takes up what is left; the
sweep, a reindex and the journal bring no such file back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.attributes import Level
from pacs.archive.errors import ArchiveError, disk_failure
from pacs.archive.index.removal import Doomed, RemovedGroup, remove_objects
from pacs.archive.index.writer import IndexWriter
from pacs.archive.objects.files import FileStore
from pacs.events import EventBus, InstanceDeleted
from pacs.monitoring.health import ComponentHealth, Health
from pacs.monitoring.metrics import Metrics
from pacs.security.access import Principal

FILES_AT_ONCE: Final = 64  # so that objects which arrive wait for milliseconds

_NAMES: Final = {Level.PATIENT: "study", Level.STUDY: "study", Level.SERIES: "series", Level.IMAGE: "instance"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deleted:
    """
    What was deleted.

    Attributes:
        studies: of which something was deleted.
        instances: how many objects, all copies of one counted.
        size_bytes: of their files.
        files_left: how many files of deleted objects could not be removed; it is tried again, at the next start too.
    """

    studies: tuple[str, ...] = ()
    instances: int = 0
    size_bytes: int = 0
    files_left: int = 0


class _Removed(NamedTuple):
    groups: list[RemovedGroup]
    events: list[InstanceDeleted]


class _Step(NamedTuple):
    """Some files that were to go: the key of the last one, and how many of them are still there."""

    last_pk: int
    failed: list[int]


class Deletion:
    """
    Deletes.

    Args:
        change: changes the index by a function in the commit thread; see `Archive.change`.
        retire_journal: makes the journal's objects durable where they are and forgets them; in the commit thread.
        barrier: makes files and names durable; in the commit thread.
        is_swept: no file may be unknown to the index. Until then what was deleted is remembered, so that no older
            version of it, left by a crash, is taken up.
        health: of the storage.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        store: FileStore,
        change: Callable[..., Awaitable[Any]],
        retire_journal: Callable[[], None],
        barrier: Callable[[], None],
        is_swept: Callable[[], bool],
        bus: EventBus,
        metrics: Metrics,
        health: ComponentHealth,
    ) -> None:
        self._store = store
        self._change = change
        self._retire_journal = retire_journal
        self._barrier = barrier
        self._is_swept = is_swept
        self._bus = bus
        self._metrics = metrics
        self._health = health
        self._turn = DeferredLock()
        self._is_stopping = False

    def start(self) -> None:
        """Take up, in the background, what is left to do: by an earlier run, or until the sweep was complete."""
        Deferred.fromCoroutine(self._remove_files()).addErrback(
            lambda failure: self.log.failure("files of deleted objects could not be removed", failure)
        )

    def stop(self) -> None:
        """Begin nothing more; what is left is for the next start."""
        self._is_stopping = True

    async def delete(self, doomed: Doomed, principal: Principal) -> Deleted:
        """
        Delete objects; once begun it goes on, whether or not the caller waits for it.

        Returns:
            when the objects, and their files too, would be gone after a power cut.

        Raises:
            ArchiveError: nothing was deleted.
        """
        return await _detached(self._delete(doomed, principal))

    async def _delete(self, doomed: Doomed, principal: Principal) -> Deleted:
        removed: _Removed = await self._change(
            lambda writer: self._remove_in_thread(writer, doomed, principal), events=lambda found: found.events
        )
        if not removed.groups:
            return Deleted()
        instances = sum(group.number_of_instances for group in removed.groups)
        self._metrics.deleted_instances_total.inc(instances)
        self._bus.publish_all(removed.events)
        return Deleted(
            studies=tuple(dict.fromkeys(group.study_instance_uid for group in removed.groups)),
            instances=instances,
            size_bytes=sum(group.size_bytes for group in removed.groups),
            files_left=await self._files_left(instances),
        )

    async def _files_left(self, instances: int) -> int:
        """Remove the files; give how many are left, should that fail."""
        try:
            return await self._remove_files()
        except ArchiveError as error:
            self._report(instances)
            self.log.error("files of deleted objects are left for the next start: {reason}", reason=error.comment)
            return instances

    def _remove_in_thread(self, writer: IndexWriter, doomed: Doomed, principal: Principal) -> _Removed:
        groups = remove_objects(writer, doomed)
        if groups:
            try:
                self._retire_journal()  # or a crash would bring objects back from it
            except OSError as error:
                raise disk_failure(error) from error
        return _Removed(groups, _events(doomed.level, groups, principal))

    # -- the files

    async def _remove_files(self) -> int:
        """Remove the files of everything that was deleted; give how many could not be removed."""
        await self._turn.acquire()
        try:
            failed: list[int] = []
            last_pk = 0
            while not self._is_stopping:
                step: _Step = await self._change(
                    lambda writer, after=last_pk: self._remove_some_in_thread(writer, after), is_durable=False
                )
                if not step.last_pk:
                    break
                last_pk = step.last_pk
                failed += step.failed
            if last_pk and self._is_swept() and not self._is_stopping:
                await self._change(lambda writer: self._forget_in_thread(writer, last_pk, failed), is_durable=False)
        finally:
            self._turn.release()
        self._report(len(failed))
        return len(failed)

    def _remove_some_in_thread(self, writer: IndexWriter, after: int) -> _Step:
        """Remove some files, unless an object that was stored since has the name of one."""
        writer.flush()
        rows = writer.execute(
            "SELECT pk, path, EXISTS (SELECT 1 FROM instances i WHERE i.sop_instance_uid = d.sop_instance_uid"
            " AND i.path = d.path) FROM deletions d WHERE pk > ? ORDER BY pk LIMIT ?",
            (after, FILES_AT_ONCE),
        )
        failed: list[int] = []
        for pk, path, is_taken in rows:
            if is_taken:
                continue
            try:
                self._store.discard(path)
            except OSError as error:
                failed.append(pk)
                self.log.error(
                    "the file of a deleted object can't be removed: {error}", error=error.strerror or str(error)
                )
        self._store.remove_empty_directories([path for _, path, _ in rows])
        return _Step(rows[-1][0] if rows else 0, failed)

    def _forget_in_thread(self, writer: IndexWriter, last_pk: int, failed: Sequence[int]) -> None:
        """Forget files that are gone, now that they are gone for good."""
        try:
            self._barrier()
        except OSError as error:
            raise disk_failure(error) from error
        kept = ", ".join(map(str, failed))
        writer.execute(f"DELETE FROM deletions WHERE pk <= ? AND pk NOT IN ({kept})", (last_pk,))

    def _report(self, failed: int) -> None:
        if failed:
            reason = f"{failed} files of deleted objects can't be removed; the log says why"
            self._health.report("deletions", Health.DEGRADED, reason)
        else:
            self._health.report("deletions", Health.HEALTHY, "no file of a deleted object is left")


def _events(level: Level, groups: Sequence[RemovedGroup], principal: Principal) -> list[InstanceDeleted]:
    """Give an event for each study, series or instance."""
    found: dict[tuple[str, ...], list[RemovedGroup]] = {}
    for group in groups:
        found.setdefault(group[:4], []).append(group)
    return [
        InstanceDeleted(
            level=_NAMES[level],
            study_instance_uid=study,
            series_instance_uid=series,
            sop_instance_uid=instance,
            number_of_instances=sum(group.number_of_instances for group in members),
            user=principal.name,
            patient_id=patient_id,
            peer_address=principal.peer_address,
            number_by_sop_class=tuple((group.sop_class_uid, group.number_of_instances) for group in members),
        )
        for (study, series, instance, patient_id), members in found.items()
    ]


def _detached(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Give a Deferred for a coroutine that goes on when it is canceled: whoever asked has gone away."""
    waiting: Deferred[T] = Deferred()

    def fire(result: T | Failure) -> None:
        if not waiting.called:
            waiting.callback(result)  # a Failure makes it fail

    Deferred.fromCoroutine(coroutine).addBoth(fire)
    return waiting
