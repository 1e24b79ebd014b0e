"""
C-GET and C-MOVE of 1,000 CT images of 526 KB: by one peer with long and short PDUs, by eight at once, and to DCMTK's
storescp, which throws them away.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.association import Association
from bench.data import TRANSFER_SYNTAX, UID_LENGTH, Template, make_template, uid
from bench.load import Refused
from bench.peers import AE_TITLE, DESTINATION, QRSCP, IgnoringSCP, Orthanc, Peer, ProductionPACS
from bench.query import encode
from bench.suite import Promise, Suite, SuiteCase
from pacs.dataset.part10 import encode_file_meta
from pacs.dimse import CGetRQ, CMoveRQ, CStoreRQ

STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
CT: Final[Template] = make_template("CT_small.dcm", 512, 512)
IMAGES: Final = 1000
FILLING: Final = 4
PEERS_AT_ONCE: Final = 8
CLIENT_NICENESS: Final = 10  # eight clients on the server's machine must not take its processor away
STUDY: Final = uid(77, 1)
SERIES: Final = uid(77, 2)


def image(number: int, study: bytes = STUDY) -> tuple[str, bytes]:
    """Give one image: its UID and its data set."""
    instance = uid(77, 3, number)
    head = bytearray(CT.head)
    for place, value in zip(CT.places, (study, SERIES, instance), strict=True):
        head[place : place + UID_LENGTH] = value
    return instance.decode(), bytes(head) + CT.tail


def fill(peer: Peer) -> None:
    """Put the study into a peer."""
    if isinstance(peer, QRSCP):
        _fill_qrscp(peer)
        return
    faults: list[BaseException] = []

    def store(first: int) -> None:
        try:
            association = Association(peer.port, AE_TITLE, CT.sop_class_uid, TRANSFER_SYNTAX)
            for number in range(first, IMAGES, FILLING):
                instance, data_set = image(number)
                command = CStoreRQ(
                    message_id=1, affected_sop_class_uid=CT.sop_class_uid, affected_sop_instance_uid=instance,
                    has_data_set=True,
                )  # fmt: skip
                association.store(command, data_set)
            association.release()
        except (OSError, Refused) as error:
            faults.append(error)

    threads = [threading.Thread(target=store, args=(first,)) for first in range(FILLING)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise Refused(f"filling: {faults[0]}")


def _fill_qrscp(peer: QRSCP) -> None:
    def instances() -> list[tuple[dict[int, tuple[str, str]], str]]:
        found = []
        for number in range(IMAGES):
            instance, data_set = image(number)
            path = peer.directory / f"{number}.dcm"
            head = encode_file_meta(
                sop_class_uid=CT.sop_class_uid,
                sop_instance_uid=instance,
                transfer_syntax_uid=TRANSFER_SYNTAX,
                source_ae_title="BENCH",
                implementation_class_uid="2.25.1",
                implementation_version_name="BENCH",
            )
            path.write_bytes(head + data_set)
            values = {
                0x00080016: ("UI", CT.sop_class_uid), 0x00080018: ("UI", instance), 0x00100020: ("LO", "1CT1"),
                0x0020000D: ("UI", STUDY.decode()), 0x0020000E: ("UI", SERIES.decode()),
            }  # fmt: skip
            found.append((values, str(path)))
        return found

    peer.insert(instances())


IDENTIFIER: Final = encode({0x00080052: ("CS", "STUDY"), 0x0020000D: ("UI", STUDY.decode())})


def _get(peer: Peer, max_pdu_length: int) -> int:
    association = Association(
        peer.port, AE_TITLE, STUDY_ROOT_GET, TRANSFER_SYNTAX, stores=(CT.sop_class_uid,), max_pdu_length=max_pdu_length
    )
    request = CGetRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT_GET, has_data_set=True)
    received = association.follow(association.message(request, IDENTIFIER))
    association.release()
    if received.status:
        raise Refused(f"C-GET ends with {received.status:04X}")
    if received.objects != IMAGES:
        raise Refused(f"{received.objects} images instead of {IMAGES}")
    return received.objects


def get(max_pdu_length: int) -> Callable[[Peer], float]:
    """Give a measurement of one C-GET, in images a second."""

    def measure(peer: Peer) -> float:
        started_s = time.perf_counter()
        count = _get(peer, max_pdu_length)
        return count / (time.perf_counter() - started_s)

    return measure


def _get_behind(peer: Peer) -> None:
    os.nice(CLIENT_NICENESS)
    _get(peer, 131072)


def get_by_eight(peer: Peer) -> float:
    """Retrieve by eight clients at once, each a process of its own; give the sum."""
    context = multiprocessing.get_context("fork")
    started_s = time.perf_counter()
    clients = [context.Process(target=_get_behind, args=(peer,)) for _ in range(PEERS_AT_ONCE)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if any(client.exitcode for client in clients):
        raise Refused("one of eight peers failed")
    return PEERS_AT_ONCE * IMAGES / (time.perf_counter() - started_s)


def move(peer: Peer) -> float:
    """Move the study to storescp; give images a second."""
    association = Association(peer.port, AE_TITLE, STUDY_ROOT_MOVE, TRANSFER_SYNTAX)
    request = CMoveRQ(
        message_id=1, affected_sop_class_uid=STUDY_ROOT_MOVE, move_destination=DESTINATION, has_data_set=True
    )
    started_s = time.perf_counter()
    received = association.follow(association.message(request, IDENTIFIER))
    duration_s = time.perf_counter() - started_s
    association.release()
    if received.status:
        raise Refused(f"C-MOVE ends with {received.status:04X}")
    return IMAGES / duration_s


def make_peers(base: Path) -> Mapping[str, Peer]:
    """Give the peers, and the storescp that two of them send to."""
    sink = IgnoringSCP("storescp", base / "storescp")
    return {
        "storescp": sink,
        "productionpacs": ProductionPACS("productionpacs", base / "productionpacs", destination_port=sink.port),
        "orthanc": Orthanc("orthanc", base / "orthanc", destination_port=sink.port),
        "qrscp": QRSCP("qrscp", base / "qrscp"),
    }


def _fill(peer: Peer) -> None:
    if not isinstance(peer, IgnoringSCP):
        fill(peer)


BOTH: Final = ("productionpacs", "orthanc")

RETRIEVE: Final = Suite(
    "retrieve",
    make_peers,
    _fill,
    (
        SuiteCase("get-128k", get(131072), (*BOTH, "qrscp")),
        SuiteCase("get-16k", get(16384), BOTH),
        SuiteCase("move-storescp", move, BOTH),
        SuiteCase("get-8-peers", get_by_eight, ("productionpacs",)),
    ),
)

SUITES: Final = (RETRIEVE,)

PROMISES: Final = (
    Promise("get-128k", "orthanc", 1.4, 1.8),
    Promise("get-16k", "orthanc", 1.5, 2.0),
    Promise("get-128k", "qrscp", 60, 60),
    Promise("move-storescp", "orthanc", 1.3, 1.3),
    Promise("get-8-peers", "productionpacs", 1.0, 1.0, of_case="get-128k"),
)
