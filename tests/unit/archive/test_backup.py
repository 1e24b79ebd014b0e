"""
What is no backup, what a backup must not overwrite, and an archive that lacks a file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pacs.archive.backup import SUMS, BackupError, BackupMaker, read_backup, restore_files
from pacs.archive.index.database import migrate


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Give an archive with two objects, one of which has no file."""
    root = tmp_path / "archive"
    (root / "objects").mkdir(parents=True)
    migrate(root / "index.db")
    with closing(sqlite3.connect(root / "index.db")) as index:
        for number in (1, 2):
            index.execute(
                "INSERT INTO instances (series_pk, sop_instance_uid, transfer_syntax_uid, path, size_bytes,"
                " data_set_offset, received_at) VALUES (1, ?, '1.2', ?, 3, 0, 0)",
                (f"1.2.{number}", f"objects/{number}.dcm"),
            )
        index.commit()
    (root / "objects" / "1.dcm").write_bytes(b"one")
    yield root


def maker(root: Path, destination: Path, *, may_link: bool = True) -> BackupMaker:
    return BackupMaker(
        root_path=root,
        index_path=root / "index.db",
        destination=destination,
        databases={},
        files={},
        about_to_leave=lambda _: None,
        may_link=may_link,
        progress=lambda _: None,
    )


@pytest.mark.parametrize("may_link", [True, False])
def test_what_the_archive_itself_lacks_is_named_and_the_rest_backed_up(
    root: Path, tmp_path: Path, may_link: bool
) -> None:
    made = maker(root, tmp_path / "backup", may_link=may_link).make()
    assert (made.objects, made.linked, made.missing) == (1, int(may_link), ("1.2.2",))
    assert read_backup(tmp_path / "backup") == made
    with pytest.raises(BackupError, match="exists already"):
        maker(root, tmp_path / "backup").make()


def test_a_backup_that_was_broken_off_is_begun_anew(root: Path, tmp_path: Path) -> None:
    (tmp_path / "backup.partial" / "objects").mkdir(parents=True)
    (tmp_path / "backup.partial" / "objects" / "1.dcm").write_bytes(b"half")
    maker(root, tmp_path / "backup").make()
    assert (tmp_path / "backup" / "objects" / "1.dcm").read_bytes() == b"one"
    assert not (tmp_path / "backup.partial").exists()


def test_what_is_no_backup_of_ours_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no backup"):
        read_backup(root)
    made = tmp_path / "backup"
    maker(root, made).make()
    description = json.loads((made / "backup.json").read_text())
    (made / "backup.json").write_text(json.dumps(description | {"format": 2}))
    with pytest.raises(BackupError, match="does not know"):
        read_backup(made)
    for line in (f"{'0' * 64}  /etc/passwd", f"{'0' * 64}  ../outside", "x  index.db"):
        (made / SUMS).write_text(line + "\n")
        with pytest.raises(BackupError, match="none of ours"):
            restore_files(made, lambda name: tmp_path / "elsewhere" / name, lambda _: None, 1)
    assert not (tmp_path / "elsewhere").exists()
