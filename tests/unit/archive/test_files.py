"""
What is synced for one object.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pacs.archive.objects import files
from pacs.archive.objects.files import FileStore


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the paths that are synced from now on."""
    paths: list[str] = []

    def noting(sync: Callable[[int], None]) -> Callable[[int], None]:
        def note(descriptor: int) -> None:
            paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            sync(descriptor)

        return note

    monkeypatch.setattr(os, "fsync", noting(os.fsync))
    monkeypatch.setattr(os, "fdatasync", noting(os.fdatasync))
    return paths


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    (tmp_path / "log").write_bytes(b"log")
    made = FileStore(tmp_path, index_directory=tmp_path)
    made.open()
    return made


def place(store: FileStore, path: str) -> None:
    store.rename(store.write_incoming([b"object"]), path)


def test_new_directories_are_synced_with_the_first_object_and_not_again(
    store: FileStore, synced: list[str], tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    place(store, "objects/study/series/1.dcm")
    store.sync_file("objects/study/series/1.dcm")
    store.sync_log(log)
    new = {"objects", "objects/study", "objects/study/series", "objects/study/series/1.dcm", "log", "."}
    assert {Path(path) for path in synced} == {tmp_path / name for name in new}
    synced.clear()
    place(store, "objects/study/series/2.dcm")
    store.sync_file("objects/study/series/2.dcm")
    store.sync_log(log)
    assert [Path(path) for path in synced] == [
        tmp_path / name for name in ("objects/study/series/2.dcm", "objects/study/series", "log")
    ]


def test_a_barrier_has_synced_new_directories_too(store: FileStore, synced: list[str], tmp_path: Path) -> None:
    place(store, "objects/study/series/1.dcm")
    store.barrier()
    place(store, "objects/study/series/2.dcm")
    store.sync_file("objects/study/series/2.dcm")
    store.sync_log(str(tmp_path / "log"))
    assert str(tmp_path / "objects") not in synced


def test_a_new_directory_that_was_removed_is_nobodys_failure(store: FileStore, tmp_path: Path) -> None:
    place(store, "objects/other/series/1.dcm")
    store.discard("objects/other/series/1.dcm")
    store.remove_empty_directories(["objects/other/series/1.dcm"])
    place(store, "objects/third/series/1.dcm")
    (tmp_path / "objects/third/series/1.dcm").unlink()
    (tmp_path / "objects/third/series").rmdir()
    (tmp_path / "objects/third").rmdir()  # by somebody else
    place(store, "objects/study/series/1.dcm")
    store.sync_file("objects/study/series/1.dcm")
    store.sync_log(str(tmp_path / "log"))


def test_a_loss_is_told_to_each_that_makes_barriers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells each open file once what could not be written (syncfs(2)); no disk here can be made to lose that."""
    told: set[int] = set()

    def syncfs(descriptor: int) -> int:
        is_news = descriptor not in told
        told.add(descriptor)
        return -1 if is_news else 0

    store = FileStore(tmp_path, index_directory=tmp_path)
    another = store.another_barrier()
    store.open()
    monkeypatch.setattr(files, "_SYNCFS", syncfs)
    for barrier in (store.barrier, another):
        with pytest.raises(OSError, match="syncfs"):
            barrier()
        barrier()
    store.close()
