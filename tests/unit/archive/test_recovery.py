"""
The sweep for files that the index does not know, whatever the clock does.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pacs.archive.candidate import Candidate
from pacs.archive.index.writer import IndexWriter
from pacs.archive.recovery import Sweep
from tests.unit.archive.test_transaction import Small, small

__all__ = ["small"]


def forget(writer: IndexWriter) -> None:
    """Have the index forget every object."""
    writer.execute("DELETE FROM instances")


def swept(small: Small) -> list[str]:
    """Sweep; give the UIDs of what was found."""
    found: list[Candidate] = []
    ended = threading.Event()
    sweep = Sweep(settings=small.settings, store=small.store, take_in=found.append, ended=ended.set)
    sweep.start()
    assert ended.wait(20)
    assert sweep.is_complete
    return [candidate.header.sop_instance_uid for candidate in found]


@pytest.mark.parametrize("put_back_s", [0, 3600])
def test_a_file_from_before_the_start_is_found(
    small: Small, monkeypatch: pytest.MonkeyPatch, put_back_s: float
) -> None:
    (stored,) = small.commit([small.candidate("1.2.1")])
    path = Path(small.store.absolute(stored.path))
    small.commit([], forget)
    named_s = os.stat(path).st_ctime
    monkeypatch.setattr(time, "time", lambda: named_s + 1 - put_back_s)
    assert swept(small) == ["1.2.1"]


def test_a_file_that_arrives_meanwhile_is_left_alone(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    (stored,) = small.commit([small.candidate("1.2.1")])
    small.commit([], forget)
    named_s = os.stat(small.store.absolute(stored.path)).st_ctime
    times = iter([named_s - 1])
    monkeypatch.setattr(time, "time", lambda: next(times, named_s + 1))
    assert swept(small) == []
