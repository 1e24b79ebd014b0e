"""
Peers that do not take the stored transfer syntax get another one, from the real server; its processes end with it.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from pydicom.pixels.utils import pixel_array

from pacs.transcoding.syntaxes import COMPRESSED
from tests.conftest import MakeServer
from tests.dicom import Client
from tests.retrieve import Requester, final, identifier
from tests.samples import Sample, samples
from tests.server import Server
from tests.transcoding import BIG_ENDIAN, CHANGED_BY_DECODING, DEFLATED, EXPLICIT, IMPLICIT, as_read, differences

COMPOSITE_GET: Final = "1.2.840.10008.5.1.4.1.2.4.3"
DAMAGED: Final = "JPEG2000-embedded-sequence-delimiter.dcm"
WITHOUT_OTHER_DECODER: Final = ("JPEG-lossy.dcm", "JPGExtended.dcm", "J2K_pixelrep_mismatch.dcm")
DEADLINE_S: Final = 30.0


def one_per_uid(wanted: list[Sample]) -> dict[str, Sample]:
    return {sample.sop_instance_uid: sample for sample in reversed(wanted)}


COMPRESSED_FILES: Final = one_per_uid([s for s in samples() if s.transfer_syntax_uid in COMPRESSED])


def fill(server: Server, wanted: list[Sample]) -> None:
    for sample in wanted:
        with Client(server.port, (sample.sop_class_uid, sample.transfer_syntax_uid)) as client:
            client.store(sample.data_set, sample.sop_instance_uid, sop_class_uid=sample.sop_class_uid)


def children(server: Server) -> list[int]:
    """Give the server's transcoding processes."""
    found = []
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"pacs.transcoding" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline_s, "a transcoding process has outlived the server"
        time.sleep(0.05)


def get(server: Server, wanted: dict[str, Sample], transfer_syntax: str) -> Any:
    contexts = sorted({(sample.sop_class_uid, transfer_syntax) for sample in wanted.values()})
    requester = Requester(server.port, COMPOSITE_GET, contexts)
    result = requester.get(identifier("IMAGE", image=sorted(wanted)))
    requester.release()
    return result


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server with all compressed files."""
    server = Server(tmp_path_factory.mktemp("transcoding"))
    server.start()
    fill(server, list(COMPRESSED_FILES.values()))
    yield server
    assert server.stop() == 0


def test_compressed_files_come_decoded_and_one_that_can_not_be_fails_alone(filled: Server) -> None:
    """Pixels equal pydicom's own decoding; the damaged one is a failed sub-operation, the association goes on."""
    result = get(filled, COMPRESSED_FILES, EXPLICIT)
    damaged = {uid for uid, sample in COMPRESSED_FILES.items() if sample.path.name == DAMAGED}
    assert final(result).status == 0xB000
    assert set(result.failed_uids) == damaged
    assert result.counters == (None, len(COMPRESSED_FILES) - 1, 1, 0)
    assert "can't be decoded" in (final(result).error_comment or "")
    compared = 0
    for uid, data_set in result.data_sets.items():
        sample = COMPRESSED_FILES[uid]
        original, received = as_read(sample.data_set, sample.transfer_syntax_uid), as_read(data_set, EXPLICIT)
        assert differences(original, received, but=CHANGED_BY_DECODING) == []
        if sample.path.name in WITHOUT_OTHER_DECODER:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert np.array_equal(pixel_array(original), pixel_array(received))
        compared += 1
    assert compared > 30


def test_the_server_itself_stays_small_and_loads_no_codec(filled: Server) -> None:
    """Decoding 120 frames of 900 KB, and 55 files more, is not seen in the server's memory."""
    maps = Path(f"/proc/{filled.pid}/maps").read_text()
    assert "numpy" not in maps and "gdcm" not in maps and "openjpeg" not in maps
    assert filled.resident_kib("VmHWM") < 110 * 1024


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, DEFLATED, BIG_ENDIAN])
def test_uncompressed_files_come_in_the_encoding_that_is_taken(server: Server, transfer_syntax: str) -> None:
    names = ("CT_small.dcm", "rtplan.dcm", "test-SR.dcm", "MR_small_bigendian.dcm")
    wanted = one_per_uid([s for s in samples() if s.path.name in names])
    fill(server, list(wanted.values()))
    result = get(server, wanted, transfer_syntax)
    assert final(result).status == 0
    for uid, sample in wanted.items():
        original = as_read(sample.data_set, sample.transfer_syntax_uid)
        assert differences(original, as_read(result.data_sets[uid], transfer_syntax)) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_server(make_server: MakeServer, number: signal.Signals) -> None:
    server = make_server()
    wanted = dict(list(COMPRESSED_FILES.items())[:1])
    fill(server, list(wanted.values()))
    get(server, wanted, EXPLICIT)
    pids = children(server)
    assert pids
    if number is signal.SIGTERM:
        assert server.stop() == 0
    else:
        server.kill()
    wait_until_gone(pids)


def test_a_killed_process_is_replaced(filled: Server) -> None:
    wanted = {uid: sample for uid, sample in COMPRESSED_FILES.items() if sample.path.name == "MR_small_RLE.dcm"}
    assert final(get(filled, wanted, EXPLICIT)).status == 0
    pids = children(filled)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(pids)
    deadline_s = time.monotonic() + DEADLINE_S
    while final(get(filled, wanted, EXPLICIT)).status != 0:
        assert time.monotonic() < deadline_s
    assert set(children(filled)).isdisjoint(pids)
