"""
Large objects and many associations: memory depends on neither.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import MakeServer
from tests.dicom import EXPLICIT, Client, ct_data_set
from tests.server import Server

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
MEMORY_KIB = 150_000
MB = 1 << 20


def large_data_set(uid: str, pixel_bytes: int) -> Iterator[bytes]:
    """Give a multi-frame object piece by piece."""
    head = ct_data_set(uid, sop_class=ENHANCED_CT, pixels=b"")
    yield head[: head.rindex(b"\xe0\x7f\x10\x00")]
    yield struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", pixel_bytes)
    piece = bytes(range(256)) * 64
    for _ in range(pixel_bytes // len(piece)):
        yield piece


def store_large(server: Server, pixel_bytes: int) -> None:
    with Client(server.port, (ENHANCED_CT, EXPLICIT)) as client:
        client.socket.settimeout(600)
        data_set = large_data_set("1.2.900", pixel_bytes)
        assert client.store(data_set, "1.2.900", sop_class_uid=ENHANCED_CT).status == 0
    (path,) = server.objects()
    assert path.stat().st_size > pixel_bytes
    assert server.resident_kib("VmHWM") < MEMORY_KIB


def test_an_object_of_400_mb_is_stored_in_less_than_150_mb_of_memory(server: Server) -> None:
    store_large(server, 400 * MB)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_an_object_of_2_gb_is_stored_in_less_than_150_mb_of_memory(server: Server) -> None:
    store_large(server, 2048 * MB)


def test_two_hundred_associations_store_at_once(make_server: MakeServer) -> None:
    limits = {"associations_per_address": 300}
    server = make_server({"server": {"max_associations": 300, "max_associations_per_peer": 300, "limits": limits}})
    count, each = 200, 3
    ready = threading.Barrier(count)
    statuses: list[int] = []

    def work(number: int) -> None:
        with Client(server.port, ("1.2.840.10008.5.1.4.1.1.2", EXPLICIT), calling=f"MANY{number}") as client:
            ready.wait(60)
            for i in range(1, each + 1):
                uid = f"1.2.901.{number + 1}.{i}"
                data_set = ct_data_set(uid, study=f"1.2.901.{number + 1}", series=f"1.2.902.{number + 1}")
                statuses.append(client.store(data_set, uid, message_id=i).status)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert statuses == [0] * (count * each)
    assert len(server.objects()) == count * each
