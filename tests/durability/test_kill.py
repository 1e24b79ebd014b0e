"""
The server is killed while eight associations store: nothing acknowledged is lost or altered, nothing half-written is
visible, and each restart is ready in under two seconds.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from pacs.dataset.part10 import read_file_meta
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.server import AE_TITLE, Server, run_tool

CT = (CT_IMAGE_STORAGE, EXPLICIT)
ASSOCIATIONS = 8
READY_S = 2.0


@dataclass(slots=True)
class Ledger:
    """What was sent, and what of it was acknowledged: SHA-256 of the data set by SOP Instance UID."""

    sent: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def store_until_killed(server: Server, ledger: Ledger, round_: int, number: int) -> None:
    generator = random.Random(round_ * 100 + number)
    study = f"1.2.{round_ + 1}.{number + 1}"
    try:
        client = Client(server.port, CT, calling=f"KILL{number}")
        for count in range(1, 100_000):
            uid = f"{study}.{count}"
            size = generator.choice((64, 5_000, 200_000, 600_000))
            data_set = ct_data_set(uid, study=study, series=f"{study}.0", pixels=generator.randbytes(size))
            digest = hashlib.sha256(data_set).hexdigest()
            with ledger.lock:
                ledger.sent[uid] = digest
            if client.store(data_set, uid, message_id=count % 65535 + 1).status == 0:
                with ledger.lock:
                    ledger.acknowledged[uid] = digest
    except (OSError, AssertionError):
        return  # the server is gone


def check(server: Server, ledger: Ledger) -> None:
    on_disk: dict[str, str] = {}
    for path in server.objects():
        with path.open("rb") as file:
            meta = read_file_meta(file)
            file.seek(meta.data_set_offset)
            on_disk[meta.sop_instance_uid] = hashlib.sha256(file.read()).hexdigest()
    lost = [uid for uid, digest in ledger.acknowledged.items() if on_disk.get(uid) != digest]
    assert lost == [], f"{len(lost)} acknowledged objects are lost or altered"
    halves = [uid for uid, digest in on_disk.items() if ledger.sent.get(uid) != digest]
    assert halves == [], f"{len(halves)} objects on disk were never sent so"
    found = found_by_query(server, {uid.rpartition(".")[0] for uid in ledger.sent})
    assert set(ledger.acknowledged) <= found
    assert found <= set(on_disk)


def found_by_query(server: Server, studies: set[str]) -> set[str]:
    """Give the SOP Instance UIDs that C-FIND tells of some studies, each with one series."""
    found: set[str] = set()
    for study in studies:
        output = run_tool(
            "findscu", "-v", "-S", "-aec", AE_TITLE, "-k", "QueryRetrieveLevel=IMAGE",
            "-k", f"StudyInstanceUID={study}", "-k", f"SeriesInstanceUID={study}.0", "-k", "SOPInstanceUID",
            "127.0.0.1", str(server.port), timeout=300,
        ).stdout  # fmt: skip
        found |= {
            line.split("[")[1].split("]")[0].strip("\0 ")
            for line in output.splitlines()
            if "SOPInstanceUID" in line and "[" in line
        }
    return found


def start_s(server: Server) -> float:
    """Give how long the last start took from the end of the imports, which are the machine's business, until ready."""
    while True:  # it listens before it says so
        lines = [line for line in server.log().splitlines() if " starting up." in line or "is ready on" in line]
        if "is ready on" in lines[-1]:
            break
        time.sleep(0.01)
    begun, ready = (datetime.fromisoformat(line.split()[0]) for line in lines[-2:])
    return (ready - begun).total_seconds()


def kill_rounds(server: Server, rounds: int) -> None:
    ledger = Ledger()
    whole_s: list[float] = []
    for round_ in range(rounds):
        threads = [
            threading.Thread(target=store_until_killed, args=(server, ledger, round_, number))
            for number in range(ASSOCIATIONS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(random.Random(round_).uniform(0.2, 1.2))
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
        whole_s.append(server.ready_s)
        own_s = start_s(server)
        assert own_s < READY_S, f"round {round_}: ready after {own_s:.2f} s"
        check(server, ledger)
    print(
        f"\nkilled {rounds} times: {len(ledger.sent)} objects sent, {len(ledger.acknowledged)} acknowledged,"
        f" none lost or altered; restarts took {min(whole_s):.2f} to {max(whole_s):.2f} s with the interpreter's start"
    )
    assert min(whole_s) < READY_S  # the fastest is what a start takes, the others what else the machine had to do


def test_five_kills_lose_nothing_that_was_acknowledged(make_server: MakeServer) -> None:
    kill_rounds(make_server(), 5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_kills_lose_nothing_that_was_acknowledged(make_server: MakeServer) -> None:
    kill_rounds(make_server(), 50)
