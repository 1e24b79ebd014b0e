"""
Store throughput over TLS: ours in TLS 1.3 and plain, durable, beside DCMTK's storescp with TLS, neither durable nor
indexed: on one association, on 4 and on 16. `python -m bench.tls` prints the rates and the promised ratios.

The load generator's encryption runs on the same machine, for all alike.
"""

from __future__ import annotations

import argparse
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

from bench.data import TRANSFER_SYNTAX, make_template, uid
from bench.load import Client, StoreMessages
from bench.memory import use_free_memory
from bench.peers import AE_TITLE, Peer, ProductionPACS, StoreSCP, remove

CT: Final = make_template("CT_small.dcm", 512, 512)
ASSOCIATIONS: Final = (1, 4, 16)
OBJECTS: Final = 240
RUNS: Final = 9


class ProductionPACSWithTLS(ProductionPACS):
    """Ourselves, TLS alone on the port."""

    def command(self) -> Sequence[str]:
        command = super().command()
        certificate, key = make_certificate(self.directory)
        config = self.directory / "config.yaml"
        tls = f", tls: {{enabled: true, certificate: {certificate}, private_key: {key}}}}}\n"
        first, rest = config.read_text().split("}\n", 1)
        config.write_text(first + tls + rest)
        return command


class StoreSCPWithTLS(StoreSCP):
    """DCMTK's storescp, which asks for no client certificate."""

    def command(self) -> Sequence[str]:
        certificate, key = make_certificate(self.directory)
        tls = ("--enable-tls", str(key), str(certificate), "--ignore-peer-cert")
        name, *options = super().command()
        return [name, *tls, *options]


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate with OpenSSL."""
    certificate, key = directory / "server.pem", directory / "server.key"
    command = "openssl req -x509 -newkey rsa:2048 -noenc -sha256 -days 2 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    key.chmod(0o600)
    return certificate, key


def client_context() -> ssl.SSLContext:
    """Give the load generator's context: it looks at no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def processor_s(peer: Peer) -> float:
    """Give the processor time that a peer's process has used; storescp's children are not in it until they end."""
    assert peer.process is not None
    fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def store_per_second(peer: Peer, run: int, context: ssl.SSLContext | None, associations: int) -> float:
    """Give CT objects a second, on some associations at once."""
    each = OBJECTS // associations
    work: list[tuple[Client, list[bytes]]] = []
    for number in range(associations):
        client = Client(peer.port, AE_TITLE, CT.sop_class_uid, TRANSFER_SYNTAX, context)
        messages = StoreMessages(CT, client.pdu_length, uid(run, number), uid(run, number, 1))
        work.append((client, [b"".join(messages.message(uid(run, number, i), i + 1)) for i in range(each)]))

    def send(client: Client, messages: list[bytes]) -> None:
        for message in messages:
            client.call(message)

    started_s = time.perf_counter()
    with ThreadPoolExecutor(associations) as threads:
        for sent in [threads.submit(send, client, messages) for client, messages in work]:
            sent.result()
    duration_s = time.perf_counter() - started_s
    for client, _ in work:
        assert client.refused == 0, f"{peer.name} refused {client.refused}"
        client.release()
    return OBJECTS / duration_s


def main() -> None:
    """Measure, alternating, and print medians and ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench.tls", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--associations", type=int, action="append", help=f"instead of {ASSOCIATIONS}")
    parser.add_argument("--keep", action="store_true", help="leave the servers' data; deleting slows the next run down")
    parser.add_argument("--directory", type=Path, help="where the servers keep their data; a real disk")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bench-tls-", dir=options.directory or "/var/tmp"))
    peers: tuple[tuple[Peer, ssl.SSLContext | None], ...] = (
        (ProductionPACSWithTLS("productionpacs, TLS", directory / "tls"), client_context()),
        (ProductionPACS("productionpacs, plain", directory / "plain"), None),
        (StoreSCPWithTLS("storescp, TLS", directory / "storescp"), client_context()),
    )
    for peer, _ in peers:
        peer.start()
    runs = count(1)
    try:
        for associations in options.associations or ASSOCIATIONS:
            _compare(peers, associations, options.runs, runs, directory)
    finally:
        for peer, _ in peers:
            peer.stop()
        if not options.keep:
            remove(directory)


def _compare(
    peers: Sequence[tuple[Peer, ssl.SSLContext | None]],
    associations: int,
    turns: int,
    runs: Iterator[int],
    directory: Path,
) -> None:
    """Have the peers take turns; print what came of it."""
    rates: dict[str, list[float]] = {peer.name: [] for peer, _ in peers}
    costs_ms: dict[str, list[float]] = {peer.name: [] for peer, _ in peers}
    for turn in range(turns + 1):
        run = next(runs)
        for peer, context in peers:
            use_free_memory(directory / "memory")
            os.sync()  # what another has left unwritten would be written by our barriers
            before_s = processor_s(peer)
            rate = store_per_second(peer, run, context, associations)
            if turn:  # the first warms up
                rates[peer.name].append(rate)
                costs_ms[peer.name].append((processor_s(peer) - before_s) / OBJECTS * 1000)
    print(f"{associations} associations")
    medians = {name: median(values) for name, values in rates.items()}
    for name, values in rates.items():
        spread = f"{min(values):.0f}..{max(values):.0f}"
        print(
            f"  {name:24} {medians[name]:7.1f} CT/s  ({spread}), {median(costs_ms[name]):.2f} ms of processor time each"
        )
    for against, at_least in (("storescp, TLS", 0.5), ("productionpacs, plain", 0.6)):
        found = medians["productionpacs, TLS"] / medians[against]
        of_turns = [ours / theirs for ours, theirs in zip(rates["productionpacs, TLS"], rates[against], strict=True)]
        verdict = "ok" if found >= at_least else "TOO LOW"
        print(f"  TLS / {against:24} {found:.2f}, of turns {median(of_turns):.2f}  (at least {at_least})  {verdict}")


if __name__ == "__main__":
    main()
