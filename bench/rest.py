"""
The REST API's lists: one study of 10,000 by a filter, pages of 1,000, what clients cost a sender beside them, and any
filtered page of 1,000,000 instances in 20,000 studies: `python -m bench.rest [one] [pages] [beside] [large] [matrix]`.
`matrix` asks for each filter in each order, takes five minutes, and can be asked for by resource: `matrix-series`.

The client keeps its connections open and parses no more of an answer than its length, so that it is not the bottleneck;
the server's own CPU time is given besides.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bench import load
from bench.data import make_template
from bench.generate_index import STUDIES as LARGE_STUDIES
from bench.generate_index import study_uid as large_study_uid
from bench.load import Refused
from bench.peers import AE_TITLE, ProductionPACS, free_port
from bench.query import STUDIES, fill, study_uid
from bench.rest_matrix import RESOURCES, paths

SMALL: Final = make_template("MR_small.dcm", 66, 66)
RUNS: Final = 5

ONE_PER_SECOND: Final = 3_000
PAGED_PER_SECOND: Final = 30_000
CLIENTS: Final = 8
REQUESTS_PER_SECOND: Final = 200
LARGEST_COST: Final = 1 / 3
LARGEST_PAGE_S: Final = 0.05
ASKED_EACH: Final = 3
ASKED_AGAIN_S: Final = 0.04
WORST_SHOWN: Final = 5

FILTERED: Final = (
    f"studies?study_instance_uid={large_study_uid(17)}",
    "studies?patient_id=L0000017",
    "studies?patient_id=L00000*",
    "studies?patient_name=large00*",
    "studies?patient_name=*PATIENT",
    "studies?patient_name=LARGE19999*",
    "studies?accession_number=L0019999",
    "studies?accession_number=*99",
    "studies?study_date=20110203",
    "studies?study_date_from=20050101&study_date_to=20061231&limit=1000",
    "studies?study_date_from=20050101&sort=-study_date",
    "studies?modality=CT&sort=patient_name",
    "studies?modality=MR",
    "studies?study_description=abd*&offset=19000&limit=1000",
    "studies?study_description=*head*",
    "studies?referring_physician=nobody",
    "studies?sort=-patient_name&offset=10000&limit=1000",
    "patients?patient_name=large1*",
    "patients?birth_date=19700101&sort=-patient_name",
    "patients?sex=F",
    "series?modality=CT&limit=1000",
    "series?modality=CT&sort=-series_number&offset=20000",
    "series?series_description=x*",
    f"studies/{large_study_uid(4711)}/instances?limit=1000",
    f"studies/{large_study_uid(4711)}/series",
    f"series/{large_study_uid(4711)}.1/instances?sort=-instance_number",
)
"""A page of each is asked of the large archive."""


class RestPACS(ProductionPACS):
    """Ourselves, with a port for HTTP that is known."""

    http_port: int = 0

    def command(self) -> Sequence[str]:
        command = super().command()
        self.http_port = free_port()
        config = self.directory / "config.yaml"
        config.write_text(config.read_text().replace("rest_api: {port: 0}", f"rest_api: {{port: {self.http_port}}}"))
        return command

    @property
    def token(self) -> str:
        """Of the first administrator."""
        return (self.directory / "data" / "admin.token").read_text().strip()


@dataclass
class Connection:
    """One connection that is kept."""

    peer: RestPACS
    headers: bytes = b""
    received: bytes = b""
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.peer.http_port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.headers = f"Host: localhost\r\nAuthorization: Bearer {self.peer.token}\r\n\r\n".encode()

    def request(self, path: str) -> bytes:
        """Give the bytes of a GET."""
        return f"GET /api/v1/{path} HTTP/1.1\r\n".encode() + self.headers

    def get(self, request: bytes) -> bytes:
        """Send a request; give the body of its answer, which must be a success."""
        self.send(request)
        return self.receive()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self.socket.sendall(request)

    def receive(self) -> bytes:
        """Give the body of an answer, which must be a success."""
        data = self.received
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise Refused(data[:200].decode("latin-1"))
        place = head.index(b"content-length:") + 15
        last = end + 4 + int(head[place : head.find(b"\r\n", place) if b"\r\n" in head[place:] else None])
        pieces, length = [data], len(data)
        while length < last:
            pieces.append(self._more())
            length += len(pieces[-1])
        data = b"".join(pieces)
        self.received = data[last:]
        return data[end + 4 : last]

    def _more(self) -> bytes:
        data = self.socket.recv(1 << 20)
        if not data:
            raise Refused("the server closed the connection")
        return data


@contextmanager
def filled(directory: Path, studies: int) -> Iterator[RestPACS]:
    """Give a server with so many studies: stored, or many more of them in the index alone."""
    peer = RestPACS("productionpacs", directory)
    peer.start()
    if studies == STUDIES:
        fill(peer)
    else:
        peer.stop()
        script = [sys.executable, "-m", "bench.generate_index", str(directory / "data" / "index.db"), str(studies)]
        subprocess.run(script, check=True)
        peer.restart()
    peer.settle()
    try:
        yield peer
    finally:
        peer.stop()


def _say(name: str, figures: Sequence[float], unit: str, *, is_kept: Callable[[float], bool], wanted: str) -> None:
    median = statistics.median(figures)
    spread = f"{min(figures):.4g}..{max(figures):.4g}"
    print(f"{name:24} {median:10.4g} {unit:22} ({spread})  wanted: {wanted}: {'ok' if is_kept(median) else 'NOT YET'}")


def one(peer: RestPACS) -> None:
    """A filter that matches one study, one request after the other on each of two connections: it is always busy."""
    for name, query in (
        ("one-uid", lambda n: f"studies?study_instance_uid={study_uid(n * 7919 % STUDIES)}"),
        ("one-accession", lambda n: f"studies?accession_number=A{n * 7919 % STUDIES:07d}"),
        ("one-patient", lambda n: f"studies?patient_id=P{n * 7919 % STUDIES:07d}"),
        ("one-name", lambda n: f"studies?patient_name=BENCH{n * 7919 % STUDIES:05d}*"),
        ("one-resource", lambda n: f"studies/{study_uid(n * 7919 % STUDIES)}"),
    ):
        rates, of_cpu = [], []
        for _ in range(RUNS):
            connections = [Connection(peer), Connection(peer)]
            requests = [connections[0].request(query(number)) for number in range(1500)]
            cpu_s, started_s = peer.cpu_s(), time.perf_counter()
            for number, request in enumerate(requests):
                if number >= 2:
                    body = connections[number % 2].receive()
                connections[number % 2].send(request)
            for connection in connections:
                body = connection.receive()
            duration_s, cpu_s = time.perf_counter() - started_s, peer.cpu_s() - cpu_s
            if name != "one-resource" and json.loads(body)["pagination"]["total"] != 1:
                raise Refused("not one match")
            rates.append(len(requests) / duration_s)
            of_cpu.append(len(requests) / cpu_s)
        _say(name, rates, "requests/s", is_kept=lambda v: v >= ONE_PER_SECOND, wanted=f"{ONE_PER_SECOND}")
        _say("", of_cpu, "requests/s of CPU", is_kept=lambda v: v >= ONE_PER_SECOND, wanted=f"{ONE_PER_SECOND}")


def pages(peer: RestPACS) -> None:
    """All studies in pages of 1,000."""
    rates = []
    for _ in range(RUNS):
        connection = Connection(peer)
        requests = [connection.request(f"studies?limit=1000&offset={offset}") for offset in range(0, STUDIES, 1000)]
        started_s = time.perf_counter()
        bodies = [connection.get(request) for request in requests]
        rates.append(STUDIES / (time.perf_counter() - started_s))
        uids = {item["study_instance_uid"] for body in bodies for item in json.loads(body)["data"]}
        if len(uids) != STUDIES:
            raise Refused(f"{len(uids)} studies of {STUDIES}")
    _say("pages-1000", rates, "studies/s", is_kept=lambda v: v >= PAGED_PER_SECOND, wanted=f"{PAGED_PER_SECOND}")


def beside(peer: RestPACS) -> None:
    """A sender alone, and beside clients that ask 200 times a second together."""
    costs, achieved = [], []
    for run in range(RUNS):
        alone = load.store(peer.port, AE_TITLE, SMALL, associations=1, each=1500, run=2 * run).per_second
        with asking(peer) as asked:
            with_clients = load.store(peer.port, AE_TITLE, SMALL, associations=1, each=1500, run=2 * run + 1).per_second
        costs.append(1 - with_clients / alone)
        achieved.append(asked.per_second)
        print(f"    {alone:.0f}/s alone, {with_clients:.0f}/s beside {asked.per_second:.0f} requests/s")
    _say("beside-cost", costs, "of the sender's rate", is_kept=lambda v: v < LARGEST_COST, wanted="less than a third")
    _say("beside-asked", achieved, "requests/s", is_kept=lambda v: v > 0.9 * REQUESTS_PER_SECOND, wanted="200")


@dataclass
class Asked:
    """What the clients got."""

    count: int = 0
    duration_s: float = 0.0

    @property
    def per_second(self) -> float:
        """Requests that were answered."""
        return self.count / self.duration_s


@contextmanager
def asking(peer: RestPACS) -> Iterator[Asked]:
    """Have clients ask at their rate meanwhile, in a process of their own."""
    command = [sys.executable, "-m", "bench.rest", "--clients", str(peer.http_port), str(peer.directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    asked = Asked()
    started_s = time.perf_counter()
    try:
        yield asked
    finally:
        asked.duration_s = time.perf_counter() - started_s
        output, _ = process.communicate("\n")
        asked.count = int(output)


def clients(port: int, directory: Path) -> None:
    """Ask until a line comes."""
    peer = RestPACS("productionpacs", directory)
    peer.http_port = port
    counts = [0] * CLIENTS
    is_over = threading.Event()

    def ask(client: int) -> None:
        connection = Connection(peer)
        requests = [
            connection.request(f"studies?study_instance_uid={study_uid(number * 7919 % STUDIES)}")
            for number in range(1000)
        ]
        begin_s = time.perf_counter()
        while not is_over.wait(
            max(0.0, begin_s + counts[client] * CLIENTS / REQUESTS_PER_SECOND - time.perf_counter())
        ):
            connection.get(requests[counts[client] % len(requests)])
            counts[client] += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    is_over.set()
    for thread in threads:
        thread.join()
    print(sum(counts))


def large(peer: RestPACS) -> None:
    """A page of every kind of filter; the client's time is an upper bound of the server's."""
    worst: list[float] = []
    for path in FILTERED:
        connection = Connection(peer)
        request = connection.request(path)
        times = []
        for _ in range(RUNS):
            started_s = time.perf_counter()
            body = connection.get(request)
            times.append(time.perf_counter() - started_s)
        found = json.loads(body)["pagination"]
        worst.append(statistics.median(times))
        print(f"    {worst[-1] * 1000:8.2f} ms  {found['count']:5} of {found['total']:7}  {path}")
    _say("large-page", [max(worst)], "s", is_kept=lambda v: v < LARGEST_PAGE_S, wanted="50 ms")


def matrix(peer: RestPACS, resources: Sequence[str] = tuple(RESOURCES)) -> None:
    """
    Each filter in each order: the server's own time, from a request's header to its answer, the fastest of three.

    What is near the limit is asked for three times more at the end: what else a machine does may last for seconds.
    """
    connection = Connection(peer)
    for resource in resources:
        fastest = {path: _fastest_s(connection, resource, path) for path in paths(resource)}
        again = [path for path, duration_s in fastest.items() if duration_s >= ASKED_AGAIN_S]
        for path in again:
            fastest[path] = min(fastest[path], _fastest_s(connection, resource, path))
        figures = sorted(((duration_s, path) for path, duration_s in fastest.items()), reverse=True)
        over = sum(duration_s >= LARGEST_PAGE_S for duration_s, _ in figures)
        for duration_s, path in figures[: max(over, WORST_SHOWN)]:
            print(f"    {duration_s * 1000:8.2f} ms  {path}")
        print(f"    {resource}: {over} of {len(figures):,} over the limit; server time, fastest of {ASKED_EACH},")
        print(f"    of {2 * ASKED_EACH} for the {len(again)} that had {ASKED_AGAIN_S * 1000:.0f} ms or more")
        _say(f"matrix-{resource}", [figures[0][0]], "s", is_kept=lambda v: v < LARGEST_PAGE_S, wanted="50 ms")


def _fastest_s(connection: Connection, resource: str, path: str) -> float:
    request = connection.request(path)
    times = []
    before_s = _served_s(connection, resource)
    for _ in range(ASKED_EACH):
        connection.get(request)
        after_s = _served_s(connection, resource)
        times.append(after_s - before_s)
        before_s = after_s
    return min(times)


def _served_s(connection: Connection, resource: str) -> float:
    """Give how long the server has had for all requests of a list."""
    name = f'pacs_http_request_seconds_sum{{method="GET",route="/api/v1/{resource}"}} '.encode()
    metrics = connection.get(connection.request("system/metrics"))
    place = metrics.find(name)
    return float(metrics[place + len(name) :].split(None, 1)[0]) if place >= 0 else 0.0


CASES: Final[dict[str, tuple[int, Callable[[RestPACS], None]]]] = {
    "one": (STUDIES, one),
    "pages": (STUDIES, pages),
    "beside": (STUDIES, beside),
    "large": (LARGE_STUDIES, large),
    "matrix": (LARGE_STUDIES, matrix),
}
CASES_OF_MATRIX: Final = {f"matrix-{name}": (LARGE_STUDIES, partial(matrix, resources=(name,))) for name in RESOURCES}


def main() -> None:
    """Measure what is named, or everything."""
    if sys.argv[1:2] == ["--clients"]:
        clients(int(sys.argv[2]), Path(sys.argv[3]))
        return
    wanted = [(name, *(CASES | CASES_OF_MATRIX)[name]) for name in sys.argv[1:] or CASES]
    with tempfile.TemporaryDirectory(prefix="bench-rest-") as base:
        for studies in sorted({studies for _, studies, _ in wanted}):
            with filled(Path(base) / str(studies), studies) as peer:
                for _, of_studies, measure in wanted:
                    if of_studies == studies:
                        measure(peer)


if __name__ == "__main__":
    main()
