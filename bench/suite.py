"""
Cases that need archives with something in them: the peers are filled once, and measured in turn for each case.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.load import Refused
from bench.peers import Peer


@dataclass(frozen=True, slots=True)
class SuiteCase:
    """
    One thing to measure.

    Attributes:
        measure: gives operations a second.
        peers: whose turns there are; those of the suite when it is empty.
    """

    name: str
    measure: Callable[[Peer], float]
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """
    Peers, what fills them, and what is measured of them.

    Attributes:
        make: gives the peers, not started, below a directory.
        fill: puts into one of them, started, what the cases ask for.
    """

    name: str
    make: Callable[[Path], Mapping[str, Peer]]
    fill: Callable[[Peer], None]
    cases: tuple[SuiteCase, ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """A ratio of medians that must be reached; of the same peer in another case when `of_case` says so."""

    case: str
    peer: str
    at_least: float
    aim: float
    of_case: str = ""


Medians = dict[tuple[str, str], float]


def fill(suite: Suite, base: Path, *, but: frozenset[str] = frozenset()) -> dict[str, Peer]:
    """Start and fill the peers, but some; the caller stops them."""
    peers = {name: peer for name, peer in suite.make(base / suite.name).items() if name not in but}
    try:
        for peer in peers.values():
            peer.start()
            suite.fill(peer)
        for peer in peers.values():
            peer.settle()
    except BaseException:
        stop(peers)
        raise
    return peers


def measure(suite: Suite, peers: Mapping[str, Peer], runs: int) -> Medians:
    """Measure all cases, the peers taking turns; the first turn warms up. Prints, and gives medians."""
    medians: Medians = {}
    for case in suite.cases:
        names = [name for name in case.peers or tuple(peers) if name in peers]
        figures: dict[str, list[float]] = {name: [] for name in names}
        for run in range(runs + 1):
            for name in names:
                os.sync()  # what another has left unwritten would be written meanwhile
                try:
                    figure = case.measure(peers[name])
                except (Refused, OSError) as error:
                    print(f"    {case.name}: {name}: {error}")
                    continue
                if run:
                    figures[name].append(figure)
        for name, values in figures.items():
            if values:
                medians[case.name, name] = statistics.median(values)
                spread = f"{min(values):.0f}..{max(values):.0f}"
                print(f"{case.name:22} {name:15} {medians[case.name, name]:9.1f}/s  ({spread})")
    for name, peer in peers.items():
        print(f"{suite.name:22} {name:15} {peer.peak_resident_kib() / 1024:9.0f} MiB")
    return medians


def stop(peers: Mapping[str, Peer]) -> None:
    """Stop the peers."""
    for peer in peers.values():
        peer.stop()


def verdicts(promises: tuple[Promise, ...], medians: Medians, ours: str) -> list[str]:
    """Give a line for each promise whose figures are there."""
    lines = []
    for promise in promises:
        one, other = medians.get((promise.case, ours)), medians.get((promise.of_case or promise.case, promise.peer))
        if one and other:
            ratio = one / other
            verdict = "aim" if ratio >= promise.aim else "ok" if ratio >= promise.at_least else "TOO LOW"
            against = promise.of_case or promise.peer
            wanted = f"(at least {promise.at_least}, aim {promise.aim})"
            lines.append(f"{promise.case:22} / {against:20} {ratio:7.2f}  {wanted}  {verdict}")
    return lines
