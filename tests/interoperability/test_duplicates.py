"""
The same SOP Instance UID again: the three policies, and a patient-safety matter (RELIABILITY S5).
"""

from __future__ import annotations

import sqlite3
import threading

import pytest

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.server import Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)


@pytest.mark.parametrize(("policy", "status", "count"), [("replace", 0, 1), ("reject", 0x0111, 1), ("rename", 0, 2)])
def test_other_content_is_treated_by_the_policy(make_server: MakeServer, policy: str, status: int, count: int) -> None:
    server = make_server({"storage": {"duplicate_policy": policy}})
    one, other = ct_data_set("1.2.50", pixels=b"\x01" * 64), ct_data_set("1.2.50", pixels=b"\x02" * 64)
    with Client(server.port, CT) as client:
        assert client.store(one, "1.2.50").status == 0
        assert client.store(one, "1.2.50", message_id=2).status == 0
        assert len(server.objects()) == 1, "identical: nothing is written"
        assert client.store(other, "1.2.50", message_id=3).status == status
        assert client.store(one if policy == "reject" else other, "1.2.50", message_id=4).status == 0
    contents = [path.read_bytes() for path in server.objects()]
    assert len(contents) == count
    if policy == "replace":
        assert contents[0].endswith(other)
    if policy == "reject":
        assert contents[0].endswith(one)


@pytest.mark.parametrize(("patient_id", "study"), [("ID2", "1.2.3"), ("ID1", "1.2.4")])
def test_the_same_instance_under_another_patient_or_study_is_refused(
    server: Server, patient_id: str, study: str
) -> None:
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set("1.2.51"), "1.2.51").status == 0
        response = client.store(ct_data_set("1.2.51", patient_id=patient_id, study=study), "1.2.51", message_id=2)
        assert response.status == 0xC000
        assert response.error_comment
    assert len(server.objects()) == 1


def test_concurrent_stores_of_one_uid_have_one_whole_winner(server: Server) -> None:
    data_sets = [ct_data_set("1.2.52", pixels=bytes([number]) * 300_000) for number in range(8)]
    ready = threading.Barrier(len(data_sets))
    statuses: list[int] = []

    def work(number: int) -> None:
        with Client(server.port, CT, calling=f"RACE{number}") as client:
            ready.wait(30)
            statuses.append(client.store(data_sets[number], "1.2.52").status)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(data_sets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [0] * len(data_sets)
    (path,) = server.objects()
    assert any(path.read_bytes().endswith(data_set) for data_set in data_sets)


@pytest.mark.parametrize("policy", ["replace", "rename"])
def test_senders_that_repeat_each_other_are_all_answered(make_server: MakeServer, policy: str) -> None:
    """New objects and known ones, short and long, in one batch: each goes its way, and whoever waits has its answer."""
    server = make_server({"storage": {"duplicate_policy": policy}})
    senders, objects = 6, 12
    ready = threading.Barrier(senders)
    statuses: list[int] = []

    def data_set(sender: int, number: int) -> bytes:
        return ct_data_set(f"1.2.56.{number}", pixels=bytes([sender]) * (200_000 if number % 4 == 0 else 5_000))

    def work(sender: int) -> None:
        with Client(server.port, CT, calling=f"REPEAT{sender}") as client:
            ready.wait(30)
            message_id = 0
            for number in range(objects):
                own = f"1.2.57.{sender}.{number}"
                for data, uid in ((data_set(sender, number), f"1.2.56.{number}"), (ct_data_set(own), own)):
                    message_id += 1
                    statuses.append(client.store(data, uid, message_id=message_id).status)

    threads = [threading.Thread(target=work, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [0] * (2 * senders * objects)
    with sqlite3.connect(server.root / "index.db") as connection:
        rows = connection.execute("SELECT sop_instance_uid, path FROM instances").fetchall()
        counted = connection.execute("SELECT sum(num_instances) FROM patients").fetchone()
    connection.close()
    assert {server.root / path for _, path in rows} == set(server.objects())
    assert counted == (len(rows),)
    assert sum(uid.startswith("1.2.57.") for uid, _ in rows) == senders * objects
    for number in range(objects):
        kept = [(server.root / path).read_bytes() for uid, path in rows if uid == f"1.2.56.{number}"]
        assert len(kept) == (senders if policy == "rename" else 1)
        sent = [data_set(sender, number) for sender in range(senders)]
        assert len({i for i, data in enumerate(sent) if any(k.endswith(data) for k in kept)}) == len(kept)


@pytest.mark.parametrize("size", [64, 300_000])
def test_a_file_that_the_index_does_not_know_is_not_overwritten(server: Server, size: int) -> None:
    """Its name is taken, which shows when the disk has begun with the new object already."""
    with Client(server.port, CT) as client:
        for number in range(1, 8):
            assert client.store(ct_data_set(f"1.2.59.{number}"), f"1.2.59.{number}", message_id=number).status == 0
        unknown = server.objects()[0].parent / "1.2.58.dcm"
        unknown.write_bytes(b"not ours")
        data_set = ct_data_set("1.2.58", pixels=b"\x07" * size)
        assert client.store(data_set, "1.2.58", message_id=9).status == 0
        assert client.store(ct_data_set("1.2.59.9"), "1.2.59.9", message_id=10).status == 0
    assert unknown.read_bytes() == b"not ours"
    server.kill()
    server.start()
    with sqlite3.connect(server.root / "index.db") as connection:
        ((path,),) = connection.execute("SELECT path FROM instances WHERE sop_instance_uid = '1.2.58'").fetchall()
        assert connection.execute("SELECT count(*) FROM instances").fetchone() == (9,)
    connection.close()
    assert (server.root / path).read_bytes().endswith(data_set)
    assert unknown != server.root / path


def test_one_patient_id_with_two_names_is_two_patients_in_conflict(server: Server) -> None:
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set("1.2.53", name="One^A", study="1.2.53.1"), "1.2.53").status == 0
        assert client.store(ct_data_set("1.2.54", name="Two^B", study="1.2.54.1"), "1.2.54", message_id=2).status == 0
        assert client.store(ct_data_set("1.2.55", name="", study="1.2.55.1"), "1.2.55", message_id=3).status == 0
    with sqlite3.connect(server.root / "index.db") as connection:
        rows = connection.execute("SELECT patient_name, is_conflict, num_studies FROM patients ORDER BY pk").fetchall()
    connection.close()
    assert rows == [("One^A", 1, 2), ("Two^B", 1, 1)]


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("uid_hierarchical", "1.2.3/1.2.3.4/1.2.56.dcm"),
        ("flat", None),
        ("date_based", "2024/01/02/1.2.3/1.2.56.dcm"),
    ],
)
def test_objects_are_named_by_the_scheme(make_server: MakeServer, scheme: str, expected: str | None) -> None:
    server = make_server({"storage": {"naming_scheme": scheme}})
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set("1.2.56"), "1.2.56").status == 0
    (path,) = server.objects()
    name = str(path.relative_to(server.root / "objects"))
    assert name == expected if expected else name.endswith("/1.2.56.dcm") and len(name.split("/")) == 3


def test_a_full_disk_is_answered_a700_and_reads_go_on(make_server: MakeServer) -> None:
    server = make_server({"storage": {"min_free_bytes": 1 << 60}})
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set("1.2.57", pixels=bytes(500_000)), "1.2.57").status == 0xA700
    with Client(server.port) as client:
        assert client.echo() == 0
    assert server.objects() == []
