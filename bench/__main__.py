"""
Runs everything side by side, alternating, and prints medians and ratios against what is promised.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import load, query, retrieve, suite
from bench.data import Template, make_template
from bench.memory import use_free_memory
from bench.peers import AE_TITLE, KINDS, Peer, remove

RESULTS: Final = Path(__file__).parent / "results"
CT: Final = make_template("CT_small.dcm", 512, 512)
SMALL: Final = make_template("MR_small.dcm", 66, 66)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: what is done to a peer, giving operations a second."""

    name: str
    peers: tuple[str, ...]
    measure: Callable[[Peer, int], float]
    is_tuned: bool = True


@dataclass(frozen=True, slots=True)
class Promise:
    """A ratio that must be reached."""

    case: str
    peer: str
    at_least: float
    aim: float


def _store(template: Template, associations: int, each: int) -> Callable[[Peer, int], float]:
    def measure(peer: Peer, run: int) -> float:
        result = load.store(peer.port, AE_TITLE, template, associations=associations, each=each, run=run)
        if result.refused:
            print(f"    {peer.name} refused {result.refused} of {result.count}")
        return result.per_second

    return measure


def _echo(peer: Peer, run: int) -> float:
    return load.echo(peer.port, AE_TITLE, count=3000).per_second


def _associations(peer: Peer, run: int) -> float:
    return load.associate(peer.port, AE_TITLE, count=3000).per_second


def _stock_storescu(peer: Peer, run: int) -> float:
    """Store files with DCMTK's storescu as it is shipped, its environment untouched."""
    directory = peer.directory / f"files-{run}"
    directory.mkdir()
    count = 40
    for number in range(count):
        _write_file(directory / f"{number}.dcm", run, number)
    environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    started_s = time.perf_counter()
    subprocess.run(
        ["storescu", "-aec", AE_TITLE, "+sd", "127.0.0.1", str(peer.port), str(directory)],
        check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return count / (time.perf_counter() - started_s)


def _write_file(path: Path, run: int, number: int) -> None:
    from bench.data import TRANSFER_SYNTAX, UID_LENGTH, uid
    from pacs.dataset.part10 import encode_file_meta

    data = bytearray(CT.head + CT.tail)
    for place, value in zip(CT.places, (uid(run, 99), uid(run, 99, 1), uid(run, 99, number)), strict=True):
        data[place : place + UID_LENGTH] = value
    head = encode_file_meta(
        sop_class_uid=CT.sop_class_uid,
        sop_instance_uid=uid(run, 99, number).decode(),
        transfer_syntax_uid=TRANSFER_SYNTAX,
        source_ae_title="BENCH",
        implementation_class_uid="2.25.1",
        implementation_version_name="BENCH",
    )
    path.write_bytes(head + data)


OURS: Final = "productionpacs"
CASES: Final = (
    Case("ct-1", (OURS, "orthanc", "pynetdicom", "storescp"), _store(CT, 1, 300)),
    Case("ct-16", (OURS, "orthanc", "pynetdicom", "dcmqrscp"), _store(CT, 16, 40)),
    Case("small-1", (OURS, "orthanc", "pynetdicom"), _store(SMALL, 1, 1500)),
    Case("small-16", (OURS, "orthanc", "pynetdicom"), _store(SMALL, 16, 250)),
    Case("stock-storescu", (OURS, "orthanc"), _stock_storescu, is_tuned=False),
    Case("echo", (OURS, "orthanc"), _echo),
    Case("associations", (OURS, "orthanc"), _associations),
)

PROMISES: Final = (
    Promise("ct-1", "orthanc", 2.5, 3.5),
    Promise("ct-16", "orthanc", 3, 4),
    Promise("small-1", "orthanc", 2.5, 3),
    Promise("small-16", "orthanc", 4, 6),
    Promise("ct-1", "pynetdicom", 3.5, 4.5),
    Promise("ct-16", "pynetdicom", 20, 25),
    Promise("small-1", "pynetdicom", 5, 6),
    Promise("small-16", "pynetdicom", 20, 30),
    Promise("ct-16", "dcmqrscp", 2.5, 3.5),
    Promise("stock-storescu", "orthanc", 15, 25),
    Promise("echo", "orthanc", 1.0, 1.2),
    Promise("associations", "orthanc", 0.75, 1.0),
)


SUITES: Final = (*query.SUITES, *retrieve.SUITES)


def _measure_suites(names: Sequence[str], runs: int, base: Path, *, only_ours: bool) -> list[str]:
    """Fill and measure archives for queries and retrievals; give what became of the promises."""
    lines: list[str] = []
    others = frozenset(("orthanc", "qrscp")) if only_ours else frozenset()
    for each in SUITES:
        if names and each.name not in names:
            continue
        peers = suite.fill(each, base, but=others)
        try:
            medians = suite.measure(each, peers, runs)
        finally:
            suite.stop(peers)
        lines += suite.verdicts((*query.PROMISES, *retrieve.PROMISES), medians, OURS)
        lines += suite.verdicts(query.LARGE_PROMISES, medians, "large")
    return lines


def _measure(case: Case, runs: int, base: Path) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Run a case, the peers taking turns; give figures and the peak of resident memory of each."""
    peers = {
        name: KINDS[name](name, base / f"{case.name}-{name}", is_tuned=case.is_tuned or name == OURS)
        for name in case.peers
    }
    figures: dict[str, list[float]] = {name: [] for name in peers}
    memory: dict[str, int] = {}
    try:
        for peer in peers.values():
            peer.start()
        for run in range(runs + 1):
            for name, peer in peers.items():
                use_free_memory(base / "memory")
                os.sync()
                try:
                    figure = case.measure(peer, run)
                except (load.Refused, OSError, subprocess.CalledProcessError) as error:
                    print(f"    {name}: {error}")
                    continue
                if run:  # the first warms up
                    figures[name].append(figure)
                peer.settle()
        memory = {name: peer.peak_resident_kib() for name, peer in peers.items()}
    finally:
        for peer in peers.values():
            peer.stop()
    return figures, memory


def _physical(base: Path) -> dict[str, float]:
    """Give what the disk does by itself: CT-sized files written and synced one by one, MB a second."""
    data = CT.head + CT.tail
    started_s = time.perf_counter()
    count = 100
    base.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        descriptor = os.open(base / f"raw-{number}", os.O_WRONLY | os.O_CREAT, 0o600)
        for start in range(0, len(data), 131072):
            os.write(descriptor, data[start : start + 131072])
        os.fsync(descriptor)
        os.close(descriptor)
    duration_s = time.perf_counter() - started_s
    return {"disk_ct_files_per_second": count / duration_s, "disk_mb_per_second": count * len(data) / duration_s / 1e6}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two runs")
    parser.add_argument("--case", action="append", help="only these cases, or suites: query, large-index, retrieve")
    parser.add_argument("--only-ours", action="store_true", help="no peers")
    parser.add_argument("--keep", action="store_true", help="leave the servers' data; deleting slows the next run down")
    parser.add_argument("--directory", type=Path, help="where the servers keep their data; a real disk")
    options = parser.parse_args(arguments)
    runs = 2 if options.quick else options.runs
    base = Path(tempfile.mkdtemp(prefix="bench-", dir=options.directory or "/var/tmp"))
    report: dict[str, object] = {"physical": _physical(base / "raw")}
    print("physical:", report["physical"])
    medians: dict[tuple[str, str], float] = {}
    try:
        for case in CASES:
            if options.case and case.name not in options.case:
                continue
            if options.only_ours:
                case = Case(case.name, (OURS,), case.measure, case.is_tuned)
            figures, memory = _measure(case, runs, base)
            report[case.name] = {"figures": figures, "peak_resident_kib": memory}
            for name, values in figures.items():
                if values:
                    medians[case.name, name] = statistics.median(values)
                    spread = f"{min(values):.0f}..{max(values):.0f}"
                    print(f"{case.name:15} {name:15} {medians[case.name, name]:9.1f}/s  ({spread})"
                          f"  {memory[name] / 1024:.0f} MiB")  # fmt: skip
            if "ct" in case.name and OURS in memory and "orthanc" in memory:
                print(f"{case.name:15} memory / orthanc: {memory[OURS] / memory['orthanc']:.2f} (at most 0.5, aim 0.3)")
        if not options.case or any(each.name in options.case for each in SUITES):
            verdicts = _measure_suites(options.case or (), runs, base, only_ours=options.only_ours)
            report["suites"] = verdicts
            print("\n".join(("", *verdicts)))
    finally:
        if not options.keep:
            remove(base)
    print()
    for promise in PROMISES:
        ours, theirs = medians.get((promise.case, OURS)), medians.get((promise.case, promise.peer))
        if ours and theirs:
            ratio = ours / theirs
            verdict = "aim" if ratio >= promise.aim else "ok" if ratio >= promise.at_least else "TOO LOW"
            wanted = f"(at least {promise.at_least}, aim {promise.aim})"
            print(f"{promise.case:15} / {promise.peer:12} {ratio:6.2f}  {wanted}  {verdict}")
    RESULTS.mkdir(exist_ok=True)
    name = time.strftime("%Y%m%d-%H%M%S.json")
    (RESULTS / name).write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
