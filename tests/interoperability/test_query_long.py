"""
A query with 100,000 answers: it costs constant memory, and others are served beside it.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacs.dimse import CFindRQ, encode_command
from pacs.ul import ExtendedNegotiation
from tests.dicom import EXPLICIT, Client, ct_data_set, element, pdv
from tests.find import STUDY_ROOT
from tests.server import Server

STUDIES = 2_000
ANSWERS = 50 * STUDIES
RELATIONAL = ExtendedNegotiation(STUDY_ROOT, b"\1")
PENDING = 0xFF00
STATUS = bytes.fromhex("0000000902000000")  # the element's head (PS3.7 E.1)
MOST_GROWTH_KIB = 12_000
LONGEST_WAIT_S = 1.0  # on a busy machine; the query takes many times that


@pytest.fixture
def long_index(tmp_path: Path) -> Server:
    """Give a server, not running, whose index knows 100,000 instances."""
    server = Server(tmp_path)
    server.start()
    server.stop()
    command = [sys.executable, "-m", "bench.generate_index", str(server.root / "index.db"), str(STUDIES)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    return server


def ask_for_all(client: Client) -> None:
    request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT, has_data_set=True)
    identifier = element(0x00080018, "UI", b"") + element(0x00080052, "CS", b"IMAGE ") + element(0x0020000D, "UI", b"")
    client.socket.sendall(pdv(encode_command(request), is_command=True) + pdv(identifier))


def statuses(client: Client) -> Iterator[int]:
    """Give the status of each response that comes, up to the final one."""
    buffered = client.socket.makefile("rb", buffering=1 << 20)
    status = PENDING
    while status == PENDING:
        _, length = struct.unpack(">BxL", buffered.read(6))
        rest = buffered.read(length)
        while rest:
            value_length = int.from_bytes(rest[:4], "big")
            if rest[5] & 1:
                command = rest[6 : 4 + value_length]
                at = command.index(STATUS) + len(STATUS)
                status = int.from_bytes(command[at : at + 2], "little")
                yield status
            rest = rest[4 + value_length :]


def test_a_hundred_thousand_answers_cost_no_memory_and_delay_nobody(long_index: Server) -> None:
    server = long_index
    server.start()
    waits_s: list[float] = []
    is_over = threading.Event()

    def others() -> None:
        number = 0
        with Client(server.port) as echo, Client(server.port, ("1.2.840.10008.5.1.4.1.1.2", EXPLICIT)) as sender:
            while not is_over.is_set():
                number += 1
                began_s = time.monotonic()
                assert echo.echo() == 0
                assert sender.store(ct_data_set(f"1.2.5.{number}"), f"1.2.5.{number}").status == 0
                waits_s.append(time.monotonic() - began_s)

    try:
        with Client(server.port, (STUDY_ROOT, EXPLICIT), extended=(RELATIONAL,)) as client:
            ask_for_all(client)
            assert client.pdu()[0] == 4  # it has begun
            before_kib = server.resident_kib()
            beside = threading.Thread(target=others)
            beside.start()
            answers, most_kib = 1, 0
            for status in statuses(client):
                answers += status == PENDING
                if answers % 5_000 == 0:
                    most_kib = max(most_kib, server.resident_kib())
            is_over.set()
            beside.join(30)
        assert answers >= ANSWERS
        assert most_kib - before_kib < MOST_GROWTH_KIB
        assert waits_s
        assert max(waits_s) < LONGEST_WAIT_S
    finally:
        is_over.set()
        server.stop()
