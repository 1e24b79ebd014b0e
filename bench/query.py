"""
C-FIND: one study by its UID, a hundred by a wild card, and all of 10,000; and how little 20,000 more studies cost.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.association import Association
from bench.generate_index import STUDIES as GENERATED_STUDIES
from bench.generate_index import study_uid as generated_study_uid
from bench.load import Refused
from bench.peers import AE_TITLE, QRSCP, Orthanc, Peer, ProductionPACS
from bench.suite import Promise, Suite, SuiteCase
from pacs.dataset.elements import ElementEncoder
from pacs.dimse import CFindRQ, CStoreRQ

EXPLICIT: Final = "1.2.840.10008.1.2.1"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
STUDIES: Final = 10_000
FILLING: Final = 8  # associations

_ENCODER: Final = ElementEncoder(EXPLICIT)


def study_uid(number: int) -> str:
    """Give the UID of a study."""
    return f"2.25.8.1{number:08d}"


def _padded(vr: str, text: str) -> bytes:
    value = text.encode()
    return value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)


def encode(values: Mapping[int, tuple[str, str]]) -> bytes:
    """Give a data set of texts."""
    return _ENCODER.data_set((tag, vr, _padded(vr, text)) for tag, (vr, text) in sorted(values.items()))


def attributes(number: int) -> dict[int, tuple[str, str]]:
    """Give the attributes of the one object of a study."""
    return {
        0x00080016: ("UI", MR),
        0x00080018: ("UI", f"{study_uid(number)}.1.1"),
        0x00080020: ("DA", f"20{number % 20:02d}{number % 12 + 1:02d}{number % 28 + 1:02d}"),
        0x00080030: ("TM", f"{number % 24:02d}{number % 60:02d}00"),
        0x00080050: ("SH", f"A{number:07d}"),
        0x00080060: ("CS", "MR"),
        0x00080090: ("PN", "Referring^Doctor"),
        0x00081030: ("LO", "Head without contrast"),
        0x00100010: ("PN", f"BENCH{number:05d}^PATIENT"),
        0x00100020: ("LO", f"P{number:07d}"),
        0x00100030: ("DA", "19700101"),
        0x00100040: ("CS", "O"),
        0x0020000D: ("UI", study_uid(number)),
        0x0020000E: ("UI", f"{study_uid(number)}.1"),
        0x00200010: ("SH", f"S{number:07d}"),
        0x00200011: ("IS", "1"),
        0x00200013: ("IS", "1"),
    }


def identifier(**keys: str) -> bytes:
    """Give the identifier of a query for studies, with the usual return keys."""
    values = {
        0x00080020: ("DA", ""), 0x00080030: ("TM", ""), 0x00080050: ("SH", ""), 0x00080052: ("CS", "STUDY"),
        0x00081030: ("LO", ""), 0x00100010: ("PN", keys.get("name", "")), 0x00100020: ("LO", ""),
        0x00100030: ("DA", ""), 0x0020000D: ("UI", keys.get("uid", "")), 0x00200010: ("SH", ""),
    }  # fmt: skip
    return encode(values)


def qrscp_identifier(**keys: str) -> bytes:
    """Give what pynetdicom's qrscp understands: an empty key matches the empty text alone there."""
    values = {0x00080052: ("CS", "STUDY")}
    if "uid" in keys:
        values[0x0020000D] = ("UI", keys["uid"])
    if "name" in keys:
        values[0x00100010] = ("PN", keys["name"])
    return encode(values)


def fill(peer: Peer) -> None:
    """Put 10,000 studies of one object into a peer."""
    if isinstance(peer, QRSCP):
        peer.insert((attributes(number), "") for number in range(STUDIES))
        return
    faults: list[BaseException] = []

    def store(first: int) -> None:
        try:
            association = Association(peer.port, AE_TITLE, MR, EXPLICIT)
            for number in range(first, STUDIES, FILLING):
                values = attributes(number)
                command = CStoreRQ(
                    message_id=1, affected_sop_class_uid=MR, affected_sop_instance_uid=values[0x00080018][1],
                    has_data_set=True,
                )  # fmt: skip
                association.store(command, encode(values))
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


def find(make: Callable[[int], dict[str, str]], queries: int, matches: int) -> Callable[[Peer], float]:
    """Give a measurement of queries one after the other; each must have as many matches."""

    def measure(peer: Peer) -> float:
        to_bytes = qrscp_identifier if isinstance(peer, QRSCP) else identifier
        count = max(1, queries // 20) if isinstance(peer, QRSCP) else queries
        association = Association(peer.port, AE_TITLE, STUDY_ROOT_FIND, EXPLICIT)
        command = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT_FIND, has_data_set=True)
        messages = [association.message(command, to_bytes(**make(number))) for number in range(count)]
        started_s = time.perf_counter()
        found = [association.query(message) for message in messages]
        duration_s = time.perf_counter() - started_s
        association.release()
        if found != [matches] * count:
            raise Refused(f"{set(found)} matches instead of {matches}")
        return count / duration_s

    return measure


def _uid(number: int) -> dict[str, str]:
    return {"uid": study_uid(number * 7919 % STUDIES)}


def _name(number: int) -> dict[str, str]:
    return {"name": f"BENCH{number * 37 % 100:03d}*"}


def _all(_: int) -> dict[str, str]:
    return {}


def make_peers(base: Path) -> Mapping[str, Peer]:
    """Give the peers that are asked."""
    return {
        "productionpacs": ProductionPACS("productionpacs", base / "productionpacs"),
        "orthanc": Orthanc("orthanc", base / "orthanc"),
        "qrscp": QRSCP("qrscp", base / "qrscp"),
    }


QUERY: Final = Suite(
    "query",
    make_peers,
    fill,
    (
        SuiteCase("find-uid", find(_uid, 400, 1)),
        SuiteCase("find-100", find(_name, 40, 100)),
        SuiteCase("find-all", find(_all, 1, STUDIES), ("productionpacs", "orthanc")),
    ),
)


# -- a large index


def make_two(base: Path) -> Mapping[str, Peer]:
    """Give ourselves twice: one archive will be large."""
    return {name: ProductionPACS(name, base / name) for name in ("productionpacs", "large")}


def fill_large(peer: Peer) -> None:
    """Put 100 studies into a peer; and 1,000,000 instances straight into the index of the large one."""
    if peer.name == "large":
        peer.stop()
        script = [sys.executable, "-m", "bench.generate_index", str(peer.directory / "data" / "index.db")]
        subprocess.run(script, check=True)
        peer.restart()
    association = Association(peer.port, AE_TITLE, MR, EXPLICIT)
    for number in range(100):
        values = attributes(number)
        command = CStoreRQ(
            message_id=1, affected_sop_class_uid=MR, affected_sop_instance_uid=values[0x00080018][1], has_data_set=True
        )
        association.store(command, encode(values))
    association.release()


@functools.cache
def _generated(number: int) -> dict[str, str]:
    return {"uid": generated_study_uid(number * 7919 % GENERATED_STUDIES)}


def _hundred(number: int) -> dict[str, str]:
    return {"uid": study_uid(number * 37 % 100)}


LARGE: Final = Suite(
    "large-index",
    make_two,
    fill_large,
    (
        SuiteCase("large-uid", find(_hundred, 400, 1)),
        SuiteCase("large-prefix", find(lambda number: {"name": f"BENCH0000{number % 10}*"}, 400, 1)),
        SuiteCase("large-prefix-100", find(lambda number: {"name": "BENCH000*"}, 40, 100)),
        SuiteCase("large-generated-uid", find(_generated, 400, 1), ("large",)),
    ),
)

SUITES: Final = (QUERY, LARGE)

PROMISES: Final = (
    Promise("find-uid", "orthanc", 20, 40),
    Promise("find-100", "orthanc", 6, 10),
    Promise("find-all", "orthanc", 8, 15),
    Promise("find-uid", "qrscp", 50, 50),
    Promise("find-100", "qrscp", 50, 50),
)
LARGE_PROMISES: Final = (
    Promise("large-uid", "productionpacs", 0.8, 1.0),
    Promise("large-prefix", "productionpacs", 0.8, 1.0),
    Promise("large-prefix-100", "productionpacs", 0.8, 1.0),
)
"""The large archive against the one with 100 studies."""
