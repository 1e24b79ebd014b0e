"""
The journal gives back what it was given, whole records only, through both of its halves.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.archive.objects import journal as module
from pacs.archive.objects.journal import Journal, JournalEntry


def ready(path: Path) -> Journal:
    journal = Journal(path, barrier=lambda: None)
    journal.open()
    journal.start()
    deadline_s = time.monotonic() + 20
    while not journal.is_ready:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    return journal


def reopened(path: Path) -> list[JournalEntry]:
    journal = Journal(path, barrier=lambda: None)
    try:
        return journal.open()
    finally:
        journal.close()


def entry(number: int, length: int) -> tuple[str, int, int, list[bytes | memoryview]]:
    data = bytes([number % 251]) * length
    return f"objects/{number}.dcm", number, length, [data[: length // 2], memoryview(data)[length // 2 :]]


@pytest.fixture
def small_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HALF_BYTES", 16 * module.BLOCK_BYTES)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    journal = ready(tmp_path / "journal")
    assert journal.append([entry(1, 10_000), entry(2, 0)])
    assert journal.append([entry(3, 5)])
    journal.close()
    assert [(e.path, e.received_at, len(e.data)) for e in reopened(tmp_path / "journal")] == [
        ("objects/1.dcm", 1, 10_000),
        ("objects/2.dcm", 2, 0),
        ("objects/3.dcm", 3, 5),
    ]


def test_cleared_records_are_gone(tmp_path: Path) -> None:
    journal = ready(tmp_path / "journal")
    assert journal.append([entry(1, 100)])
    journal.clear()
    assert journal.append([entry(2, 100)])
    journal.close()
    assert [e.received_at for e in reopened(tmp_path / "journal")] == [2]


@pytest.mark.usefixtures("small_halves")
def test_both_halves_are_used_in_turn(tmp_path: Path) -> None:
    journal = ready(tmp_path / "journal")
    written = []
    for number in range(60):
        deadline_s = time.monotonic() + 10
        while not journal.append([entry(number, 3000)]):  # a half is being made durable
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        written.append(number)
    journal.close()
    read = [e.received_at for e in reopened(tmp_path / "journal")]
    assert read == written[-len(read) :]
    assert 16 <= len(read) <= 32


@pytest.mark.usefixtures("small_halves")
def test_there_is_no_room_while_no_half_is_durable(tmp_path: Path) -> None:
    may_return = threading.Event()

    def barrier() -> None:
        may_return.wait(20)

    journal = Journal(tmp_path / "journal", barrier=barrier)
    journal.open()
    journal.start()
    while not journal.is_ready:
        time.sleep(0.005)
    taken = sum(journal.append([entry(number, 3000)]) for number in range(40))
    assert taken == 32
    may_return.set()
    journal.close()
    assert len(reopened(tmp_path / "journal")) == 32


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 9000), min_size=1, max_size=6), harm=st.integers(0, 60_000))
def test_after_any_harm_a_beginning_is_left(lengths: list[int], harm: int) -> None:
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HALF_BYTES", 32 * module.BLOCK_BYTES)
        path = Path(directory) / "journal"
        journal = ready(path)
        for number, length in enumerate(lengths):
            assert journal.append([entry(number, length)])
        journal.close()
        descriptor = os.open(path, os.O_RDWR)
        byte = os.pread(descriptor, 1, harm)
        os.pwrite(descriptor, bytes([byte[0] ^ 0xFF]), harm)
        os.close(descriptor)
        read = reopened(path)
        assert [e.received_at for e in read] == list(range(len(read)))
        assert all(e.data == bytes([e.received_at]) * lengths[e.received_at] for e in read)


def failing_fdatasync(descriptor: int) -> None:
    raise OSError(5, "Input/output error")


def test_a_record_that_was_not_synced_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is recorded behind it can be read: the numbers have no gap."""
    journal = ready(tmp_path / "journal")
    assert journal.append([entry(1, 100)])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr(os, "fdatasync", failing_fdatasync)
        journal.append([entry(2, 100)])
    assert journal.append([entry(3, 100)])
    journal.close()
    assert [e.received_at for e in reopened(tmp_path / "journal")] == [1, 3]


def test_a_record_that_was_taken_back_is_not_there(tmp_path: Path) -> None:
    journal = ready(tmp_path / "journal")
    assert journal.append([entry(1, 100)])
    assert journal.append([entry(2, 100)])
    journal.take_back()
    assert [e.received_at for e in journal.entries()] == [1]
    assert journal.append([entry(3, 100)])
    journal.close()
    assert [e.received_at for e in reopened(tmp_path / "journal")] == [1, 3]


def test_a_distrusted_journal_keeps_what_it_holds_and_takes_nothing(tmp_path: Path) -> None:
    journal = ready(tmp_path / "journal")
    assert journal.append([entry(1, 100)])
    journal.distrust()
    assert not journal.append([entry(2, 100)])
    journal.covered()
    with pytest.raises(OSError, match="keeps what it holds"):
        journal.clear()
    assert [e.received_at for e in journal.entries()] == [1]
    journal.trust_again()
    assert journal.append([entry(3, 100)])
    journal.close()
    assert [e.received_at for e in reopened(tmp_path / "journal")] == [3]


def test_a_journal_that_could_not_be_cleared_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first record may be gone: what was recorded behind it would not be found after a crash."""
    journal = ready(tmp_path / "journal")
    assert journal.append([entry(1, 100)])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr(os, "fdatasync", failing_fdatasync)
        journal.clear()
    assert not journal.append([entry(2, 100)])
    journal.trust_again()
    assert journal.append([entry(3, 100)])
    journal.close()
    assert [e.received_at for e in reopened(tmp_path / "journal")] == [3]


@pytest.mark.usefixtures("small_halves")
def test_a_barrier_that_fails_in_the_background_is_not_forgotten(tmp_path: Path) -> None:
    def barrier() -> None:
        raise OSError(5, "Input/output error")

    journal = Journal(tmp_path / "journal", barrier=barrier)
    journal.open()
    journal.start()
    while not journal.is_ready:
        time.sleep(0.005)
    assert all(journal.append([entry(number, 3000)]) for number in range(17))  # the first half is full
    deadline_s = time.monotonic() + 10
    while journal.is_trusted:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    assert [e.received_at for e in journal.entries()] == list(range(17))
    journal.close()
