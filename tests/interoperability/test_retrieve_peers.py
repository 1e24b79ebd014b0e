"""
C-GET and C-MOVE with many peers and with bad ones: each ends with the right status and counters, in its time, and
leaves the others alone (PS3.4 C.4.2 and C.4.3, PS3.7 9.1.3 and 9.1.4).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from pacs.dimse import CCancelRQ, CGetRQ, encode_command
from pacs.dimse.messages import CStoreRSP
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set, pdv
from tests.retrieve import (
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    Requester,
    counters_of,
    deaf_scp,
    final,
    full_listener,
    identifier,
    pynetdicom_scp,
    silent_listener,
    storescp,
)
from tests.server import Server, free_port

MR_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
MIXED: Final = identifier("STUDY", study="1.2.5")
MANY: Final = identifier("STUDY", study="1.2.6")
LARGE: Final = identifier("STUDY", study="1.2.8")
LARGE_BYTES: Final = 40 << 20  # more than the sockets on both sides hold
MIXED_OBJECTS: Final = 10
MANY_OBJECTS: Final = 1000
LIMITS: Final = {
    "connect_timeout_seconds": 2,
    "association_timeout_seconds": 2,
    "response_timeout_seconds": 3,
    "unread_response_seconds": 2,
    "associations_per_remote_node": 1,
}


@pytest.fixture(scope="module")
def bad_ports() -> Iterator[dict[str, int]]:
    """Give the ports of destinations that hang, each in its way, by their AE titles."""
    promise = CStoreRSP(message_id_being_responded_to=1, status=0, has_data_set=True)
    half = deaf_scp(says=pdv(encode_command(promise), is_command=True))
    with silent_listener() as silent, full_listener() as full, deaf_scp() as deaf, half as half_port:
        yield {"SILENT": silent, "FULL": full, "DEAF": deaf, "HALF": half_port}


@pytest.fixture(scope="module")
def destination() -> int:
    """Give the port of DEST, where each test has its own storage SCP."""
    return free_port()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, bad_ports: dict[str, int], destination: int) -> Iterator[Server]:
    """Give a server with a study of CT and MR objects, one of 1,000 objects of 100 KB, and a large object."""
    ports = {"DEST": destination, **bad_ports}
    nodes = [{"ae_title": title, "host": "127.0.0.1", "port": port} for title, port in ports.items()]
    server = Server(tmp_path_factory.mktemp("peers"), {"server": {"remote_nodes": nodes, "limits": LIMITS}})
    server.start()
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        for number in range(0, MIXED_OBJECTS, 2):
            data_set = ct_data_set(f"1.2.5.{number}", study="1.2.5", series="1.2.5.1000")
            assert client.store(data_set, f"1.2.5.{number}").status == 0
        data_set = ct_data_set("1.2.8.1", study="1.2.8", series="1.2.8.1000", pixels=bytes(LARGE_BYTES))
        assert client.store(data_set, "1.2.8.1").status == 0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda first: store_many(server, range(first, MANY_OBJECTS, 8)), range(8)))
    with Client(server.port, (MR_IMAGE_STORAGE, EXPLICIT)) as client:
        for number in range(1, MIXED_OBJECTS, 2):
            data_set = ct_data_set(f"1.2.5.{number}", study="1.2.5", series="1.2.5.2000", sop_class=MR_IMAGE_STORAGE)
            assert client.store(data_set, f"1.2.5.{number}", sop_class_uid=MR_IMAGE_STORAGE).status == 0
    yield server
    assert server.stop() == 0


def store_many(server: Server, numbers: Iterable[int]) -> None:
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        for number in numbers:
            data_set = ct_data_set(f"1.2.6.{number}", study="1.2.6", series="1.2.6.1000", pixels=bytes(100_000))
            assert client.store(data_set, f"1.2.6.{number}").status == 0


BOTH: Final = ((CT_IMAGE_STORAGE, EXPLICIT), (MR_IMAGE_STORAGE, EXPLICIT))


def getter(filled: Server, *contexts: tuple[str, str], **more: Any) -> Requester:
    return Requester(filled.port, STUDY_ROOT_GET, contexts or BOTH, **more)


def mover(filled: Server, **more: Any) -> Requester:
    return Requester(filled.port, STUDY_ROOT_MOVE, **more)


# -- counters


def test_counters_are_right_at_every_step(filled: Server) -> None:
    """One pending response after each sub-operation but the last, then the final one (PS3.7 9.1.3.1)."""
    result = getter(filled).get(MIXED)
    expected = [(MIXED_OBJECTS - done, done, 0, 0) for done in range(1, MIXED_OBJECTS)]
    assert [counters_of(pending) for pending in result.pending] == expected
    assert (final(result).status, result.counters) == (0, (None, MIXED_OBJECTS, 0, 0))


def test_warnings_and_failures_of_the_receiver_are_counted(filled: Server) -> None:
    """B000, with the Failed SOP Instance UID List (PS3.4 C.4.3.1.3.2)."""
    statuses = {"1.2.5.0": 0xB007, "1.2.5.1": 0xA700, "1.2.5.2": 0x0110}
    requester = getter(filled)
    result = requester.get(MIXED, status_of=lambda request: statuses.get(request.affected_sop_instance_uid, 0))
    assert (final(result).status, result.counters) == (0xB000, (None, MIXED_OBJECTS - 3, 2, 1))
    assert sorted(result.failed_uids) == ["1.2.5.1", "1.2.5.2"]
    assert "to C-STORE" in (final(result).error_comment or "")
    assert final(requester.get(MIXED)).status == 0, "the association serves on"
    requester.release()


# -- peers that do not take everything


def test_a_peer_that_refuses_half_of_the_sop_classes_gets_the_other_half(filled: Server) -> None:
    result = getter(filled, BOTH[0]).get(MIXED)
    assert (final(result).status, result.counters) == (0xB000, (None, 5, 5, 0))
    assert sorted(result.data_sets) == [f"1.2.5.{n}" for n in range(0, MIXED_OBJECTS, 2)]
    assert sorted(result.failed_uids) == [f"1.2.5.{n}" for n in range(1, MIXED_OBJECTS, 2)]
    assert final(result).error_comment == "SOP class not accepted by the receiver"


def test_a_destination_that_refuses_half_of_the_sop_classes_gets_the_other_half(
    filled: Server, destination: int
) -> None:
    got: list[str] = []

    def keep(event: Any) -> int:
        got.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    with pynetdicom_scp(destination, keep, MR_IMAGE_STORAGE):
        result = mover(filled).move(MIXED, "DEST")
    assert (final(result).status, result.counters) == (0xB000, (None, 5, 5, 0))
    assert sorted(got) == [f"1.2.5.{n}" for n in range(1, MIXED_OBJECTS, 2)]
    assert sorted(result.failed_uids) == [f"1.2.5.{n}" for n in range(0, MIXED_OBJECTS, 2)]


def test_a_peer_that_offers_no_role_as_scp_is_told_why_it_gets_nothing(filled: Server) -> None:
    """PS3.7 D.3.3.4: without role selection the requester is no SCP of Storage."""
    result = getter(filled, has_role=False).get(MIXED)
    assert (final(result).status, result.counters) == (0xA702, (None, 0, MIXED_OBJECTS, 0))
    assert len(result.failed_uids) == MIXED_OBJECTS
    assert final(result).error_comment == "SOP class not accepted by the receiver"


# -- C-CANCEL


def test_a_canceled_c_get_stops_and_says_what_remains(filled: Server) -> None:
    requester = getter(filled)
    result = requester.get(MANY, cancel_after=5, keeps=False)
    remaining, completed, failed, warning = result.counters
    assert final(result).status == 0xFE00
    assert completed is not None and 5 <= completed < 200
    assert (remaining, failed, warning) == (MANY_OBJECTS - completed, 0, 0)
    assert len(result.requests) == completed
    assert final(requester.get(MIXED)).status == 0
    requester.release()


def test_a_request_that_comes_together_with_its_cancel_is_canceled(filled: Server) -> None:
    requester = getter(filled)
    request = CGetRQ(message_id=7, affected_sop_class_uid=STUDY_ROOT_GET, has_data_set=True)
    cancel = CCancelRQ(message_id_being_responded_to=7)
    requester.socket.sendall(
        pdv(encode_command(request), is_command=True) + pdv(MANY) + pdv(encode_command(cancel), is_command=True)
    )
    result = requester.follow()
    assert (final(result).status, result.counters) == (0xFE00, (MANY_OBJECTS, 0, 0, 0))
    assert result.data_sets == {}
    requester.release()


def test_a_canceled_c_move_to_a_slow_destination_stops(filled: Server, destination: int, tmp_path: Path) -> None:
    """The object on its way gets two seconds to arrive, here it needs one."""
    with storescp(tmp_path / "slow", destination, "--sleep-after", "1"):
        requester = mover(filled)
        started_s = time.monotonic()
        result = requester.move(MANY, "DEST", cancel_after=1)
        assert time.monotonic() - started_s < 10
    assert final(result).status == 0xFE00
    remaining, completed, failed, _ = result.counters
    assert completed is not None and 1 <= completed <= 3
    assert (remaining, failed) == (MANY_OBJECTS - completed, 0)
    requester.release()


# -- C-MOVE's destinations


def test_a_move_to_an_unknown_ae_is_refused(filled: Server) -> None:
    result = mover(filled).move(MIXED, "SOMEWHERE")
    assert final(result).status == 0xA801
    assert final(result).error_comment == "destination AE 'SOMEWHERE' is not in server.remote_nodes"


@pytest.mark.parametrize(
    ("title", "comment"),
    [
        ("DEST", "destination AE 'DEST' refuses connections"),
        ("FULL", "destination AE 'FULL' does not answer (connection)"),
        ("SILENT", "destination AE 'SILENT' does not answer (association)"),
        ("DEAF", "destination AE 'DEAF' does not answer (C-STORE)"),
        ("HALF", "destination AE 'HALF' does not answer (C-STORE)"),  # a response whose data set never comes
    ],
)
def test_a_move_to_a_destination_that_is_down_or_hangs_ends_in_its_time(
    filled: Server, title: str, comment: str
) -> None:
    started_s = time.monotonic()
    result = mover(filled).move(MIXED, title)
    assert time.monotonic() - started_s < 12
    assert (final(result).status, result.counters) == (0xA702, (None, 0, MIXED_OBJECTS, 0))
    assert len(result.failed_uids) == MIXED_OBJECTS
    assert final(result).error_comment == comment


def test_a_destination_that_does_not_answer_a_c_store_ends_the_move(filled: Server, destination: int) -> None:
    """What it answered before counts; the requester is kept informed all the time."""
    end = threading.Event()
    count = 0

    def hang(event: Any) -> int:
        nonlocal count
        count += 1
        if count > 3:
            end.wait(30)
        return 0

    with pynetdicom_scp(destination, hang, CT_IMAGE_STORAGE, MR_IMAGE_STORAGE):
        started_s = time.monotonic()
        result = mover(filled).move(MIXED, "DEST")
        duration_s = time.monotonic() - started_s
        end.set()
    assert 2 < duration_s < 15
    assert (final(result).status, result.counters) == (0xB000, (None, 3, MIXED_OBJECTS - 3, 0))
    assert final(result).error_comment == "destination AE 'DEST' does not answer (C-STORE)"


def test_the_requester_hears_from_us_every_two_seconds(filled: Server, destination: int) -> None:
    """Though a sub-operation takes longer."""

    def slow(event: Any) -> int:
        if event.request.AffectedSOPInstanceUID == "1.2.5.0":
            time.sleep(2.6)
        return 0

    with pynetdicom_scp(destination, slow, CT_IMAGE_STORAGE, MR_IMAGE_STORAGE):
        started_s = time.monotonic()
        result = mover(filled).move(MIXED, "DEST")
    assert final(result).status == 0
    assert counters_of(result.pending[0]) == (MIXED_OBJECTS, 0, 0, 0)
    times_s = [started_s, *result.pending_times_s]
    assert max(later - earlier for earlier, later in pairwise(times_s)) < 2.5


def test_an_association_that_the_destination_drops_is_opened_again(filled: Server, destination: int) -> None:
    """It goes on with the object that was on its way; every object arrives, and is counted once."""
    got: list[str] = []
    dropped = threading.Event()

    def drop_once(event: Any) -> int:
        if len(got) == 4 and not dropped.is_set():
            dropped.set()
            event.assoc.abort()
            return 0xA700
        got.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    with pynetdicom_scp(destination, drop_once, CT_IMAGE_STORAGE, MR_IMAGE_STORAGE):
        result = mover(filled).move(MIXED, "DEST")
    assert dropped.is_set()
    assert (final(result).status, result.counters) == (0, (None, MIXED_OBJECTS, 0, 0))
    assert sorted(got) == [f"1.2.5.{n}" for n in range(MIXED_OBJECTS)]


def test_an_object_that_makes_the_destination_drop_each_time_fails_alone(filled: Server, destination: int) -> None:
    def drop(event: Any) -> int:
        if event.request.AffectedSOPInstanceUID == "1.2.5.4":
            event.assoc.abort()
        return 0

    with pynetdicom_scp(destination, drop, CT_IMAGE_STORAGE, MR_IMAGE_STORAGE):
        result = mover(filled).move(MIXED, "DEST")
    assert (final(result).status, result.counters) == (0xB000, (None, MIXED_OBJECTS - 1, 1, 0))
    assert result.failed_uids == ["1.2.5.4"]


def test_the_destination_is_told_who_asked(filled: Server, destination: int) -> None:
    """Move Originator Application Entity Title and Message ID (PS3.7 9.3.1.1)."""
    origins: set[tuple[str, int]] = set()

    def keep(event: Any) -> int:
        request = event.request
        origins.add((str(request.MoveOriginatorApplicationEntityTitle).strip(), request.MoveOriginatorMessageID))
        return 0

    with pynetdicom_scp(destination, keep, CT_IMAGE_STORAGE, MR_IMAGE_STORAGE):
        mover(filled, calling="ASKER").move(MIXED, "DEST")
    assert origins == {("ASKER", 7)}


def test_a_destination_has_no_more_associations_than_allowed(filled: Server, destination: int) -> None:
    """`associations_per_remote_node` is 1 here: three moves take turns, and all succeed."""
    most = 0
    lock = threading.Lock()

    def keep(event: Any) -> int:
        nonlocal most
        with lock:
            most = max(most, sum(association.is_established for association in server.active_associations))
        time.sleep(0.02)
        return 0

    with pynetdicom_scp(destination, keep, CT_IMAGE_STORAGE, MR_IMAGE_STORAGE) as server, ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: mover(filled).move(MIXED, "DEST"), range(3)))
    assert [final(result).status for result in results] == [0, 0, 0]
    assert most == 1


def test_more_contexts_than_one_association_has_are_spread_over_several(
    filled: Server, destination: int, tmp_path: Path
) -> None:
    """70 private SOP classes need 140 contexts."""
    private = [f"1.2.3.77.{number}" for number in range(70)]
    for index in range(0, 70, 64):
        group = private[index : index + 64]
        with Client(filled.port, *((sop_class, EXPLICIT) for sop_class in group)) as client:
            for place, sop_class in enumerate(group):
                uid = f"1.2.7.{index + place}"
                data_set = ct_data_set(uid, study="1.2.7", series="1.2.7.1000", sop_class=sop_class)
                client.context_id = 2 * place + 1
                assert client.store(data_set, uid, sop_class_uid=sop_class).status == 0
    with storescp(tmp_path / "private", destination, "-pm"):
        result = mover(filled).move(identifier("STUDY", study="1.2.7"), "DEST")
    assert (final(result).status, result.counters) == (0, (None, 70, 0, 0))
    assert len(list((tmp_path / "private").iterdir())) == 70


# -- many at once


def test_eight_peers_retrieve_a_large_study_at_once_and_bad_ones_do_not_disturb_them(filled: Server) -> None:
    """One more stops reading and is aborted in its time, another one drops in the middle; memory stays bounded."""
    getter(filled).get(MIXED)
    before_kib = filled.resident_kib()

    def drops() -> None:
        requester = getter(filled)
        requester.get(MANY, stop_after=10)
        requester.socket.close()

    stalled = getter(filled)
    stalled.get(MANY, stop_after=3)  # and from now on it does not read
    with ThreadPoolExecutor(9) as pool:
        dropping = pool.submit(drops)
        results = list(pool.map(lambda _: getter(filled).get(MANY, keeps=False), range(8)))
        dropping.result()
    for result in results:
        assert (final(result).status, result.counters) == (0, (None, MANY_OBJECTS, 0, 0))
        assert set(result.data_sets) == {f"1.2.6.{n}" for n in range(MANY_OBJECTS)}
    assert filled.resident_kib("VmHWM") - before_kib < 64 * 1024
    until(lambda: filled.log().count("C-GET of REQUESTER: failure") >= 2, "both bad ones are given up")
    assert final(getter(filled).get(MIXED)).status == 0


def test_a_destination_that_stops_reading_ends_the_move_in_its_time(filled: Server) -> None:
    started_s = time.monotonic()
    result = mover(filled).move(LARGE, "DEAF")
    assert time.monotonic() - started_s < 12
    assert (final(result).status, result.counters) == (0xA702, (None, 0, 1, 0))
    assert final(result).error_comment == "destination AE 'DEAF' does not read"


def test_a_peer_that_stops_reading_in_the_middle_of_an_object_is_aborted(filled: Server) -> None:
    requester = getter(filled)
    count = filled.log().count("the peer has read nothing")
    requester.get(LARGE, stop_after=0)
    until(lambda: filled.log().count("the peer has read nothing") > count, "it is given up")
    assert final(getter(filled).get(MIXED)).status == 0
    requester.socket.close()


def test_a_server_that_stops_ends_a_move_after_its_time_of_grace(make_server: MakeServer, tmp_path: Path) -> None:
    """The association with the destination does not keep the process alive."""
    end = threading.Event()
    begun = threading.Event()

    def hang(event: Any) -> int:
        begun.set()
        end.wait(30)
        return 0

    port = free_port()
    nodes = [{"ae_title": "DEST", "host": "127.0.0.1", "port": port}]
    server = make_server({"server": {"remote_nodes": nodes, "shutdown_grace_seconds": 1}})
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        assert client.store(ct_data_set("1.2.5.0", study="1.2.5"), "1.2.5.0").status == 0
    with pynetdicom_scp(port, hang, CT_IMAGE_STORAGE):
        requester = mover(server)
        requester.begin_move(MIXED, "DEST")
        assert begun.wait(20)
        started_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_s < 10
        assert requester.follow().final is None
        end.set()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)
