"""
The thread that looks whether what is kept is still right, on a real index and real files.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pacs.archive.index.database import connect_writer, migrate
from pacs.archive.index.writer import IndexWriter
from pacs.archive.integrity import FAULTY_ROWS, KEPT_ROW, MOST_FAULTS, IntegrityThread, Reporter
from pacs.archive.objects.files import FileStore
from pacs.archive.scrub import Fault, Kept, Pace, content_fault
from pacs.monitoring.health import Health

WAIT_S = 20.0
INSERT = (
    "INSERT INTO instances (series_pk, sop_instance_uid, transfer_syntax_uid, path, size_bytes, data_set_offset,"
    " sha256, received_at) VALUES (1, ?, '1.2.840.10008.1.2.1', ?, ?, 0, ?, 0)"
)


class SmallArchive:
    """An archive of a few files, and what the thread says of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index_path = root / "index.db"
        migrate(self.index_path)
        self.writer = IndexWriter(connect_writer(self.index_path), conflict_noticed=lambda: None)
        self.store = FileStore(root, index_directory=root)
        self.store.open()
        self.lock = threading.Lock()
        self.storage: list[tuple[Health, str]] = []
        self.database: list[tuple[Health, str]] = []
        self.alarms: list[tuple[str, str]] = []

    def add(self, uid: str, content: bytes | None, *, has_checksum: bool = True) -> Path:
        """Add a row, and its file unless there is no content."""
        path = self.root / "objects" / uid
        if content is not None:
            path.write_bytes(content)
        checksum = hashlib.sha256(content or b"").hexdigest() if has_checksum else None
        self.write(lambda w: w.execute(INSERT, (uid, f"objects/{uid}", len(content or b""), checksum)))
        return path

    def write(self, job: Callable[[IndexWriter], object]) -> None:
        with self.lock:
            self.writer.begin()
            job(self.writer)
            self.writer.commit()

    def noted(self) -> list[tuple[str, str]]:
        with self.lock:
            return [
                (row[0], row[1]) for row in self.writer.execute("SELECT path, reason FROM quarantine ORDER BY path")
            ]

    @contextmanager
    def looking(self, *, scrub_interval_s: float = 3600) -> Iterator[None]:
        thread = IntegrityThread(
            index_path=self.index_path,
            store=self.store,
            scrub_interval_s=scrub_interval_s,
            reporter=Reporter(
                write=self.write,
                database=lambda _, health, reason: self.database.append((health, reason)),
                storage=lambda _, health, reason: self.storage.append((health, reason)),
                alarm=lambda description, subject: self.alarms.append((description, subject)),
            ),
        )
        thread.start()
        try:
            yield
        finally:
            thread.stop()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline_s, (self.storage[-3:], self.database[-3:], self.noted()[:5])
            time.sleep(0.01)


def test_every_kind_of_fault_is_told_apart(tmp_path: Path) -> None:
    archive = SmallArchive(tmp_path)
    archive.add("1.1", b"right")
    archive.add("1.2", b"changed").write_bytes(b"CHANGED")
    archive.add("1.3", b"cut off").write_bytes(b"cut")
    archive.add("1.4", b"gone").unlink()
    link = archive.add("1.5", b"linked")
    link.unlink()
    link.symlink_to("/etc/hostname")
    archive.add("1.6", b"not derived yet", has_checksum=False)
    with archive.looking():
        archive.wait_for(lambda: len(archive.alarms) >= 4)
    assert archive.noted() == [
        ("objects/1.2", Fault.ALTERED.value),
        ("objects/1.3", Fault.ALTERED.value),
        ("objects/1.4", Fault.MISSING.value),
        ("objects/1.5", Fault.ALTERED.value),
    ]
    assert sorted(subject for _, subject in archive.alarms) == ["1.2", "1.3", "1.4", "1.5"]
    assert archive.storage[-1][0] is Health.DEGRADED
    assert archive.database[0] == (Health.HEALTHY, "quick_check finds nothing wrong")


def test_what_was_put_right_or_removed_is_healthy_at_the_next_start(tmp_path: Path) -> None:
    archive = SmallArchive(tmp_path)
    changed = archive.add("1.1", b"first")
    archive.add("1.2", b"second").unlink()
    changed.write_bytes(b"FIRST")
    with archive.looking():
        archive.wait_for(lambda: len(archive.noted()) == 2)
    changed.write_bytes(b"first")
    archive.write(lambda w: w.execute("DELETE FROM instances WHERE sop_instance_uid = '1.2'"))
    archive.storage.clear()
    with archive.looking():
        archive.wait_for(lambda: bool(archive.storage))
    assert archive.noted() == []
    assert archive.storage[-1][0] is Health.HEALTHY
    assert len(archive.alarms) == 2


def test_a_file_system_that_is_not_mounted_does_not_fill_the_log(tmp_path: Path) -> None:
    archive = SmallArchive(tmp_path)
    rows = [(f"1.9.{number}", f"objects/1.9.{number}", 1, None) for number in range(MOST_FAULTS + 50)]
    archive.write(lambda w: [w.execute(INSERT, row) for row in rows])
    with archive.looking():
        archive.wait_for(lambda: any("more than" in reason for _, reason in archive.storage))
    assert len(archive.noted()) == len(archive.alarms) == MOST_FAULTS


def test_an_index_that_is_no_database_any_more_is_degraded(tmp_path: Path) -> None:
    archive = SmallArchive(tmp_path)
    archive.add("1.1", b"right")
    archive.writer.checkpoint()
    root = archive.writer.execute("SELECT rootpage FROM sqlite_master WHERE name = 'studies_by_date'")[0][0]
    page_bytes = archive.writer.execute("PRAGMA page_size")[0][0]
    with archive.index_path.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xff" * 64)
    with archive.looking():
        archive.wait_for(lambda: bool(archive.database))
    assert archive.database[0][0] is Health.DEGRADED
    assert ("the index is damaged", "") in archive.alarms


def test_reading_takes_its_share_of_the_time(tmp_path: Path) -> None:
    archive = SmallArchive(tmp_path)
    content = bytes(3 << 20)
    archive.add("1.1", content)
    rests: list[float] = []
    started_s = time.monotonic()
    kept = Kept(1, "1.1", "objects/1.1", len(content), hashlib.sha256(content).hexdigest())
    pace = Pace(share=0.05, rest=rests.append)
    assert content_fault(archive.store, kept, pace=pace, is_stopping=lambda: False) is None
    worked_s = time.monotonic() - started_s
    assert len(rests) == 3
    assert 0 < sum(rests) <= 19 * worked_s


def test_a_thousand_faults_cost_one_pass_over_the_index(tmp_path: Path) -> None:
    """What was wrong is found by path in one pass after the start, and by its key from then on: paths have no index."""
    archive = SmallArchive(tmp_path)
    archive.add("1.1", b"gone").unlink()
    with archive.looking():
        archive.wait_for(lambda: len(archive.noted()) == 1)
    (start,) = _scans(archive, FAULTY_ROWS)
    assert start.startswith("SCAN instances")
    assert _scans(archive, KEPT_ROW, 1, "objects/1.1") == []
    ((path, key),) = archive.writer.execute(FAULTY_ROWS)
    (row,) = archive.writer.execute(KEPT_ROW, (key, path))
    assert Kept(*row).sop_instance_uid == "1.1"


def _scans(archive: SmallArchive, statement: str, *parameters: object) -> list[str]:
    """Give the steps of a statement's plan that go over all objects."""
    plan = archive.writer.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return [row[3] for row in plan if row[3].startswith("SCAN instances")]
