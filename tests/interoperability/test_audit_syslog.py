"""
A collector from Debian receives the audit messages over UDP and TLS, whatever happens to either side in between.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pacs.control.client import command_server
from tests.audit import check_message, records, wait_for_record
from tests.collector import Collector, make_certificate
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.server import Server, free_port

CT = (CT_IMAGE_STORAGE, EXPLICIT)
MakeCollector = Callable[..., Collector]


@pytest.fixture
def make_collector(tmp_path: Path) -> Iterator[MakeCollector]:
    """Give a function that makes a collector; all are ended."""
    collectors: list[Collector] = []

    def make(transport: str, port: int) -> Collector:
        collector = Collector(tmp_path / f"collector{len(collectors)}", port=port, transport=transport)
        collectors.append(collector)
        return collector

    yield make
    for collector in collectors:
        collector.stop()


def syslog(transport: str, port: int, collector: Collector, **more: Any) -> dict[str, Any]:
    trust = {"ca_certificate": str(collector.certificate)} if transport == "tls" else {}
    return {"logging": {"audit_syslog": {"host": "127.0.0.1", "port": port, "transport": transport, **trust, **more}}}


def beside_a_collector(
    make_server: MakeServer, make_collector: MakeCollector, transport: str
) -> tuple[Server, Collector]:
    """Start a collector, and a server that sends to it."""
    port = free_port()
    collector = make_collector(transport, port)
    collector.start()
    return make_server(syslog(transport, port, collector)), collector


def store(server: Server, number: int) -> int:
    """Store an object of a new study; give the number of its record."""
    uid = f"1.2.3.{number}"
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set(uid, study=uid), uid).status == 0
    (record,) = wait_for_record(server, f'"{uid}"')
    return int(record["sequence"])


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_a_collector_receives_every_message_in_order_and_whole(
    make_server: MakeServer, make_collector: MakeCollector, transport: str
) -> None:
    server, collector = beside_a_collector(make_server, make_collector, transport)
    for number in range(3):
        last = store(server, number)
    collector.wait_for(last)
    assert server.stop() == 0
    last = records(server)[-1]["sequence"]
    collector.wait_for(last)
    assert collector.sequences() == list(range(1, last + 1))
    by_sequence = {record["sequence"]: record for record in records(server)}
    for line in collector.received():
        head, _, xml = line.partition("<AuditMessage")
        match = re.match(
            r'<85>1 (\S+Z) \S+ productionpacs \d+ DICOM\+RFC3881 \[chain@32473 sequence="(\d+)" previous="(\w+)"', head
        )
        assert match is not None, head
        record = by_sequence[int(match[2])]
        assert (match[1], match[3]) == (record["time"], record["previous"])
        assert f"<AuditMessage{xml}" == record["message"]
        check_message(record["message"])


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_what_happens_while_the_collector_is_away_arrives_later_over_restarts_of_both(
    make_server: MakeServer, make_collector: MakeCollector, transport: str
) -> None:
    port = free_port()
    collector = make_collector(transport, port)
    server = make_server(syslog(transport, port, collector))
    store(server, 1)
    collector.start()
    collector.wait_for(store(server, 2))
    collector.stop()
    store(server, 3)
    server.kill()
    server.start()
    store(server, 4)
    assert "audit_collector is degraded" in server.log()
    collector.start()
    last = store(server, 5)
    collector.wait_for(last)
    assert sorted(collector.sequences())[:last] == list(range(1, last + 1))


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_a_record_that_is_longer_than_a_datagram_holds_nothing_up(
    make_server: MakeServer, make_collector: MakeCollector, transport: str
) -> None:
    """It is whole over TLS and in the log; what is sent over UDP names its number, and is cut."""
    server, collector = beside_a_collector(make_server, make_collector, transport)
    studies = [[f"1.2.3.{number}", f"PATIENT-{number}", [[CT_IMAGE_STORAGE, 1]]] for number in range(100)]
    request = {"what": "export", "user": "root", "destination": "file:///somewhere", "studies": studies}
    command_server(server.root, "audit-record", request, lambda _: None)
    last = store(server, 1)
    collector.wait_for(last)
    assert collector.sequences() == list(range(1, last + 1))
    (long,) = (line for line in collector.received() if "PATIENT-50" in line)
    assert long.endswith("</AuditMessage>") == (transport == "tls")
    assert ("is cut for the collector" in server.log()) == (transport == "udp")


def test_a_new_log_is_sent_from_its_first_record_on(make_server: MakeServer, make_collector: MakeCollector) -> None:
    """The old one was moved away with its key, which is what the server asks for when the key is lost."""
    server, collector = beside_a_collector(make_server, make_collector, "tls")
    for number in range(3):
        last = store(server, number)
    collector.wait_for(last)
    assert server.stop() == 0
    old = len(collector.received())
    paths = [Path(server.root, name) for name in ("audit.key", "audit.head")]
    paths += [path for path in server.directory.rglob("audit.log") if path.is_file()]
    for path in paths:
        path.rename(path.with_name(f"old-{path.name}"))
    server.start()
    last = store(server, 9)
    wait_s = time.monotonic() + 20
    while len(collector.received()) < old + last:
        assert time.monotonic() < wait_s
        time.sleep(0.1)
    assert any('"1.2.3.9"' in line for line in collector.received()[old:])


def test_a_collector_with_another_certificate_gets_nothing(
    make_server: MakeServer, make_collector: MakeCollector, tmp_path: Path
) -> None:
    port = free_port()
    collector = make_collector("tls", port)
    collector.start()
    other = make_certificate(tmp_path, name="other")
    server = make_server(syslog("tls", port, collector, ca_certificate=str(other)))
    store(server, 1)
    store(server, 2)
    assert "the audit collector is away" in server.log()
    assert collector.received() == []


def test_more_than_the_spool_may_hold_is_given_up_with_an_alert(
    make_server: MakeServer, make_collector: MakeCollector
) -> None:
    port = free_port()
    collector = make_collector("tls", port)
    server = make_server(syslog("tls", port, collector, spool_bytes=65536))
    for number in range(50):
        with Client(server.port, CT) as client:
            uid = f"1.2.3.{number}"
            assert client.store(ct_data_set(uid, study=uid), uid).status == 0
    wait_for_record(server, "110104", number=50)
    collector.start()
    wait_for_record(server, "were not sent to the audit collector")
    last = store(server, 99)
    collector.wait_for(last)
    sequences = collector.sequences()
    assert sequences == list(range(sequences[0], last + 1))
    assert sequences[0] > 1
    assert "audit records were not sent" in server.log()


def test_a_missing_ca_file_is_a_fault_of_the_start(make_server: MakeServer, make_collector: MakeCollector) -> None:
    collector = make_collector("tls", 1)
    with pytest.raises(RuntimeError, match=r"audit_syslog.*no-such"):
        make_server(syslog("tls", 1, collector, ca_certificate="/no-such.pem"))
