"""
The steps of a batch when one of them fails: nothing is told that did not happen, and nothing is left that was refused.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from twisted.internet.defer import Deferred

from pacs.archive.attributes import INDEX_TAGS
from pacs.archive.candidate import Candidate
from pacs.archive.errors import StorageFailed
from pacs.archive.index.database import connect_writer, migrate
from pacs.archive.index.writer import IndexWriter
from pacs.archive.interfaces import InstanceHeader, Outcome
from pacs.archive.objects.files import FileStore
from pacs.archive.objects.journal import Journal
from pacs.archive.settings import ArchiveSettings
from pacs.archive.transaction import Job, Transactions, Work
from pacs.dataset.part10 import encode_file_meta
from pacs.dataset.scanner import DataSetScanner
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, ct_data_set

WAIT_S = 20.0


class Small:
    """An archive's steps without its threads."""

    def __init__(self, root: Path) -> None:
        self.settings = ArchiveSettings(root, root / "index.db", "2.25.1", "TEST", min_free_bytes=0)
        self.store = FileStore(root, index_directory=root)
        self.store.open()
        migrate(self.settings.index_path)
        self.writer = IndexWriter(connect_writer(self.settings.index_path), conflict_noticed=lambda: None)
        self.journal = Journal(root / "journal", barrier=self.store.barrier)
        self.journal.open()
        self.journal.start()
        deadline_s = time.monotonic() + WAIT_S
        while not self.journal.is_ready:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        self.transactions = Transactions(
            settings=self.settings,
            store=self.store,
            journal=self.journal,
            writer=self.writer,
            gate=threading.Lock(),
            committed=lambda stored, duration_s: None,
        )
        self.transactions.start()

    def close(self) -> None:
        self.transactions.stop()
        self.journal.close()
        self.writer.close()
        self.store.close()

    def candidate(self, uid: str, pixels: bytes = bytes(64), *, is_short: bool = True) -> Candidate:
        data_set = ct_data_set(uid, pixels=pixels)
        scanner = DataSetScanner(EXPLICIT, wanted=INDEX_TAGS, limits=self.settings.scan_limits)
        scanner.feed(data_set)
        head = encode_file_meta(
            sop_class_uid=CT_IMAGE_STORAGE,
            sop_instance_uid=uid,
            transfer_syntax_uid=EXPLICIT,
            source_ae_title="MODALITY",
            implementation_class_uid="2.25.1",
            implementation_version_name="TEST",
        )
        pieces: list[bytes | memoryview] = [head, data_set]
        return Candidate(
            header=InstanceHeader(CT_IMAGE_STORAGE, uid, EXPLICIT),
            scanned=scanner.finish(),
            source_ae_title="MODALITY",
            data_set_offset=len(head),
            size_bytes=len(head) + len(data_set),
            received_at=time.time_ns() // 1000,
            pieces=pieces if is_short else [],
            incoming_path=self.store.write_incoming(pieces),
        )

    def commit(self, candidates: list[Candidate], *jobs: Job, is_durable: bool = False) -> list[Any]:
        """Take all steps; give the results, those of the jobs last."""
        works = [Work(job, Deferred(), is_durable) for job in jobs]
        transaction = self.transactions.prepare(candidates, works)
        self.transactions.complete(transaction)
        return [result for _, result in self.transactions.conclude(transaction)]

    def rows(self) -> list[tuple[Any, ...]]:
        return self.writer.execute("SELECT sop_instance_uid, path FROM instances ORDER BY pk")

    def files(self) -> list[str]:
        return list(self.store.objects())


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    small = Small(tmp_path)
    yield small
    small.close()


def once(function: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """Have a function fail the first time."""
    errors = [error]

    def failing(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return function(*arguments)

    return failing


def io_error() -> OSError:
    return OSError(errno.EIO, "Input/output error")


def test_a_job_is_not_told_as_done_when_the_batch_that_it_rode_in_was_rolled_back(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small.journal, "sync", once(small.journal.sync, io_error()))
    stored, done = small.commit([small.candidate("1.2.1")], lambda writer: writer.set_state("noted", "yes"))
    assert isinstance(stored, StorageFailed)
    assert small.writer.state("noted") is None
    assert isinstance(done, StorageFailed)
    assert small.commit([], lambda writer: writer.set_state("noted", "yes")) == [None]
    assert small.writer.state("noted") == "yes"
    (stored,) = small.commit([small.candidate("1.2.1")])
    assert stored.outcome is Outcome.STORED


def test_a_barrier_that_fails_when_the_log_is_emptied_is_not_forgotten(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once: what it may have lost is written again before objects are taken."""
    (stored,) = small.commit([small.candidate("1.2.1")])
    with monkeypatch.context() as patch:
        patch.setattr(small.store, "barrier", once(small.store.barrier, io_error()))
        small.transactions.checkpoint()
    restore = Mock(wraps=small.store.restore)
    monkeypatch.setattr(small.store, "restore", restore)
    (second,) = small.commit([small.candidate("1.2.2")])
    assert second.outcome is Outcome.STORED
    assert [call.args[0] for call in restore.call_args_list] == [stored.path]


def test_nothing_is_taken_behind_a_log_that_may_lack_something(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads keeps the log from being emptied after a failed sync; objects wait for that."""
    small.commit([small.candidate("1.2.1")])
    with closing(sqlite3.connect(small.settings.index_path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM instances").fetchone()
        monkeypatch.setattr(small.journal, "sync", once(small.journal.sync, io_error()))
        for uid in ("1.2.2", "1.2.3"):
            (failure,) = small.commit([small.candidate(uid)])
            assert isinstance(failure, StorageFailed)
    (stored,) = small.commit([small.candidate("1.2.4")])
    assert stored.outcome is Outcome.STORED
    assert [uid for uid, _ in small.rows()] == ["1.2.1", "1.2.4"]


@pytest.mark.parametrize("what", ["object", "job"])
def test_a_sync_of_the_log_that_fails_is_not_forgotten(
    small: Small, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The log may lack what was committed before: it is emptied before anything is told to be durable."""

    def note(writer: IndexWriter) -> None:
        writer.set_state("noted", "yes")

    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    with monkeypatch.context() as patch:
        patch.setattr(small.writer, "commit", once(small.writer.commit, error))
        (failure,) = small.commit([], note, is_durable=True)
    assert isinstance(failure, StorageFailed)
    assert small.writer.state("noted") is None
    checkpoint = Mock(wraps=small.writer.checkpoint)
    monkeypatch.setattr(small.writer, "checkpoint", checkpoint)
    if what == "object":
        (stored,) = small.commit([small.candidate("1.2.1")])
        assert stored.outcome is Outcome.STORED
    else:
        assert small.commit([], note, is_durable=True) == [None]
    checkpoint.assert_called_once_with()


def test_what_could_not_be_taken_back_is_taken_back_before_objects_are_taken(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = small.commit([small.candidate("1.2.1", b"\1" * 200_000, is_short=False)])
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    commits = [small.writer.commit, once(small.writer.commit, full)]
    with monkeypatch.context() as patch:
        patch.setattr(small.store, "barrier", once(small.store.barrier, io_error()))
        patch.setattr(small.writer, "commit", lambda: commits.pop(0)())
        refused = [small.candidate(uid, b"\2" * 200_000, is_short=False) for uid in ("1.2.1", "1.2.2")]
        assert all(isinstance(result, StorageFailed) for result in small.commit(refused))
    (new,) = small.commit([small.candidate("1.2.3")])
    assert new.outcome is Outcome.STORED
    assert sorted(small.rows()) == [("1.2.1", kept.path), ("1.2.3", new.path)]
    assert small.files() == sorted([kept.path, new.path])
