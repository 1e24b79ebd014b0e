"""
Every real file goes in and comes back from disk, byte for byte, in its transfer syntax (PS3.4 B.4.1, level 2).
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pynetdicom import AE, _config
from pynetdicom.presentation import build_context

from pacs.dataset.part10 import read_file_meta
from tests.conftest import MakeServer
from tests.dicom import Client
from tests.samples import Sample, samples
from tests.server import AE_TITLE, Server, run_tool


def stored(server: Server) -> set[tuple[str, str, bytes]]:
    """Give SOP Instance UID, transfer syntax and data set of every object on disk."""
    found: set[tuple[str, str, bytes]] = set()
    for path in server.objects():
        with path.open("rb") as file:
            meta = read_file_meta(file)
            file.seek(meta.data_set_offset)
            found.add((meta.sop_instance_uid, meta.transfer_syntax_uid, file.read()))
    return found


def what_is_stored(sample: Sample) -> tuple[str, str, bytes]:
    return sample.sop_instance_uid, sample.transfer_syntax_uid, sample.data_set


def test_every_real_file_comes_back_from_disk_byte_for_byte(make_server: MakeServer) -> None:
    """Files that share a SOP Instance UID are kept beside each other."""
    server = make_server({"storage": {"duplicate_policy": "rename"}})
    sent = samples()
    assert len(sent) > 200
    refused: dict[str, int] = {}
    for sample in sent:
        with Client(server.port, (sample.sop_class_uid, sample.transfer_syntax_uid)) as client:
            assert client.accept.presentation_contexts[0].result == 0, sample.path.name
            response = client.store(sample.data_set, sample.sop_instance_uid, sop_class_uid=sample.sop_class_uid)
        if response.status != 0:
            refused[sample.path.name] = response.status
    assert refused == {}
    on_disk = stored(server)
    for sample in sent:
        assert what_is_stored(sample) in on_disk, sample.path.name
    assert len(on_disk) == len(sent)


def test_pynetdicom_stores_files_as_they_are(make_server: MakeServer) -> None:
    """Its chunked sender takes the data set from the file without decoding it."""
    server = make_server({"storage": {"duplicate_policy": "rename"}})
    chosen = [s for s in samples() if len(s.data_set) < 300_000 and has_agreeing_uids(s)][:60]
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        for sample in chosen:
            store_with_pynetdicom(server, sample)
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = False
    on_disk = stored(server)
    for sample in chosen:
        assert what_is_stored(sample) in on_disk


def has_agreeing_uids(sample: Sample) -> bool:
    """Whether the file's head names the instance of its data set; pynetdicom's request takes it from the head."""
    with sample.path.open("rb") as file:
        return read_file_meta(file).sop_instance_uid == sample.sop_instance_uid


def store_with_pynetdicom(server: Server, sample: Sample) -> None:
    entity = AE(ae_title="PYNETDICOM")
    entity.requested_contexts = [build_context(sample.sop_class_uid, sample.transfer_syntax_uid)]
    association = entity.associate("127.0.0.1", server.port, ae_title=AE_TITLE)
    assert association.is_established
    status = association.send_c_store(sample.path)
    association.release()
    assert status.Status == 0


def files_in(transfer_syntax: str, directory: Path) -> int:
    """Copy the samples of a transfer syntax into a directory."""
    chosen = [s for s in samples() if s.transfer_syntax_uid == transfer_syntax and len(s.data_set) < 2_000_000]
    for number, sample in enumerate(chosen):
        (directory / f"{number}.dcm").write_bytes(sample.path.read_bytes())
    return len(chosen)


@pytest.mark.parametrize(
    ("option", "transfer_syntax"),
    [
        ("-xi", "1.2.840.10008.1.2"),
        ("-xe", "1.2.840.10008.1.2.1"),
        ("-xb", "1.2.840.10008.1.2.2"),
        ("-xd", "1.2.840.10008.1.2.1.99"),
        ("-xs", "1.2.840.10008.1.2.4.70"),
        ("-xy", "1.2.840.10008.1.2.4.50"),
        ("-xx", "1.2.840.10008.1.2.4.51"),
        ("-xv", "1.2.840.10008.1.2.4.90"),
        ("-xw", "1.2.840.10008.1.2.4.91"),
        ("-xr", "1.2.840.10008.1.2.5"),
    ],
)
def test_storescu_stores_each_transfer_syntax(
    server: Server, tmp_path: Path, option: str, transfer_syntax: str
) -> None:
    count = files_in(transfer_syntax, tmp_path)
    assert count > 0
    output = run_tool(
        "storescu", "-v", "-aec", AE_TITLE, "+sd", option, "127.0.0.1", str(server.port), str(tmp_path), check=False
    ).stdout
    assert output.count("Success") >= 1, output
    assert transfer_syntax in {syntax for _, syntax, _ in stored(server)}


def test_dcmsend_stores_mixed_files(server: Server, tmp_path: Path) -> None:
    for number, sample in enumerate(s for s in samples()[:40] if len(s.data_set) < 1_000_000):
        (tmp_path / f"{number}.dcm").write_bytes(sample.path.read_bytes())
    output = run_tool(
        "dcmsend", "-v", "-aec", AE_TITLE, "+sd", "127.0.0.1", str(server.port), str(tmp_path), check=False
    ).stdout
    assert "with status SUCCESS" in output, output
    assert len(server.objects()) > 10


def test_stock_storescu_is_not_slowed_by_delayed_acknowledgments(server: Server, tmp_path: Path) -> None:
    """With Nagle's algorithm in the way 40 messages take at least 1.7 s; without, a fraction."""
    sample = next(s for s in samples() if s.path.name == "CT_small.dcm")
    for number in range(40):
        (tmp_path / f"{number}.dcm").write_bytes(sample.path.read_bytes())
    started_s = time.monotonic()
    run_tool("storescu", "-aec", AE_TITLE, "+sd", "127.0.0.1", str(server.port), str(tmp_path))
    assert time.monotonic() - started_s < 1.2
