"""
`pacsctl import`: real files, with a server and without one, again and again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import UID

from pacs.dataset.part10 import read_file_meta
from tests.audit import wait_for_record
from tests.samples import Sample, samples
from tests.server import Server

FILES = 20
MANY = 1500


def run_import(server: Server, *paths: Path, options: tuple[str, ...] = (), status: int = 0) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("pacsctl")), "import", *map(str, paths), *options]
    ended = subprocess.run(
        [*command, "--json", "-c", str(server.config)],
        cwd=server.directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == status, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def uid_in_head(sample: Sample) -> str:
    with sample.path.open("rb") as file:
        return read_file_meta(file).sop_instance_uid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory of real files, one of each UID, with something else among them."""
    folder = tmp_path_factory.mktemp("folder")
    by_uid = {uid_in_head(sample): sample for sample in samples() if len(sample.data_set) < 300_000}
    by_uid = {uid: sample for uid, sample in by_uid.items() if uid == sample.sop_instance_uid}
    for number, sample in enumerate(list(by_uid.values())[-FILES:]):
        place = folder / f"{number % 3}"
        place.mkdir(exist_ok=True)
        shutil.copy(sample.path, place / f"{number}.dcm")
    (folder / "notes.txt").write_text("no image")
    return folder


def stored_data_sets(server: Server) -> set[bytes]:
    found = set()
    for path in server.objects():
        with path.open("rb") as file:
            offset = read_file_meta(file).data_set_offset
            file.seek(offset)
            found.add(file.read())
    return found


def test_files_are_imported_bit_for_bit_and_left_out_the_second_time(server: Server, folder: Path) -> None:
    first = run_import(server, folder)
    assert (first["stored"], first["no_dicom_file"], first["failed"]) == (FILES, 1, [])
    originals = {sample.data_set for sample in samples()}
    assert len(stored_data_sets(server)) == FILES
    assert stored_data_sets(server) <= originals
    again = run_import(server, folder)
    assert (again["stored"], again["skipped"]) == (0, FILES)
    compared = run_import(server, folder, options=("--compare",))
    assert (compared["stored"], compared["identical"]) == (0, FILES)
    wait_for_record(server, "AETITLES=PACSCTL")


def test_without_a_server_the_archive_is_filled_all_the_same(server: Server, folder: Path) -> None:
    assert server.stop() == 0
    broken = server.directory / "broken.dcm"
    broken.write_bytes(next(folder.rglob("*.dcm")).read_bytes()[:1500])
    found = run_import(server, broken, folder, status=1)
    assert found["stored"] == FILES
    assert [item["path"] for item in found["failed"]] == [str(broken)]
    server.start()
    assert len(server.objects()) == FILES
    assert run_import(server, folder)["skipped"] == FILES


@pytest.mark.parametrize("name", ["rtplan.dcm", "rtdose_expb.dcm", "chrJapMulti.dcm"])
def test_a_file_whose_head_is_of_another_object_is_imported(server: Server, name: str) -> None:
    """Who edits a data set often leaves the File Meta Information as it was; the data set is the object."""
    (sample,) = (sample for sample in samples() if sample.path.name == name)
    assert uid_in_head(sample) != sample.sop_instance_uid
    assert run_import(server, sample.path)["stored"] == 1
    assert stored_data_sets(server) == {sample.data_set}
    assert run_import(server, sample.path)["skipped"] == 1


def test_objects_that_are_to_be_deidentified_are_not_imported_past_it(tmp_path: Path, folder: Path) -> None:
    server = Server(tmp_path, {"security": {"anonymization": {"auto_anonymize": True}}})
    command = [str(Path(sys.executable).with_name("pacsctl")), "import", str(folder), "-c", str(server.config)]
    refused = subprocess.run(command, cwd=server.directory, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "start the server" in refused.stderr
    assert not (server.root / "objects").exists()


@pytest.mark.parametrize("has_server", [True, False])
def test_an_import_that_is_interrupted_ends_at_once_and_goes_on_later(
    folder: Path, tmp_path: Path, has_server: bool
) -> None:
    data_set = pydicom.dcmread(next(folder.rglob("*.dcm")))
    many = tmp_path / "many"
    many.mkdir()
    for number in range(MANY):
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{number}")
        data_set.save_as(many / f"{number}.dcm")
    server = Server(tmp_path)
    if has_server:
        server.start()
    try:
        command = [str(Path(sys.executable).with_name("pacsctl")), "import", str(many), "-c", str(server.config)]
        importing = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline_s = time.monotonic() + 20
        while len(server.objects()) < 50:
            assert importing.poll() is None, importing.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        importing.send_signal(signal.SIGINT)
        out, err = importing.communicate(timeout=20)
        assert (importing.returncode, out, len(err.splitlines())) == (1, "", 1), err
        assert "interrupted" in err
        found = run_import(server, many)
        assert found["skipped"] >= 50
        assert found["skipped"] + found["stored"] == MANY
    finally:
        if has_server:
            server.stop()
    assert not has_server or "Traceback" not in server.log()


def test_a_pipe_among_the_files_holds_nobody_up(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    os.mkfifo(files / "pipe")
    server = Server(tmp_path)
    server.start()
    try:
        found = run_import(server, files, status=1)
    finally:
        assert server.stop() == 0
    assert found["failed"] == [{"path": str(files / "pipe"), "reason": "no regular file"}]
