"""
Store throughput with `auto_anonymize`, beside the plain figure: `python -m bench.anonymize [DIRECTORY]`.

CT images of 512x512, de-identified and verified by worker processes on their way in, on one association and on four;
the two servers take turns. At least a third of the plain figure is promised on one association.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from bench import load
from bench.data import make_template
from bench.peers import AE_TITLE, Peer, ProductionPACS, remove

CT: Final = make_template("CT_small.dcm", 512, 512)
ASSOCIATIONS: Final = (1, 4)
COUNT: Final = 240
RUNS: Final = 3
PROMISED: Final = 1 / 3


class Anonymizing(ProductionPACS):
    """Ourselves, with everything that arrives de-identified."""

    def command(self) -> Sequence[str]:
        command = super().command()
        config = self.directory / "config.yaml"
        begin, rest = config.read_text().split("security: {", 1)
        config.write_text(f"{begin}security: {{anonymization: {{auto_anonymize: true}}, {rest}")
        return command


def main() -> None:
    """Measure, alternating, and print medians and the ratio."""
    directory = Path(tempfile.mkdtemp(prefix="bench-anonymize-", dir=sys.argv[1] if len(sys.argv) > 1 else None))
    peers: tuple[Peer, ...] = (
        ProductionPACS("plain", directory / "plain"),
        Anonymizing("auto_anonymize", directory / "anonymized"),
    )
    for peer in peers:
        peer.start()
    try:
        for associations in ASSOCIATIONS:
            _show(associations, {peer.name: [] for peer in peers}, peers)
    finally:
        for peer in peers:
            peer.stop()
        remove(directory)


def _show(associations: int, rates: dict[str, list[float]], peers: Sequence[Peer]) -> None:
    for run in range(RUNS + 1):
        for peer in peers:
            each = COUNT // associations
            number = associations * 100 + run
            result = load.store(peer.port, AE_TITLE, CT, associations=associations, each=each, run=number)
            if result.refused:
                print(f"    {peer.name} refused {result.refused} of {result.count}")
            if run:  # the first warms up
                rates[peer.name].append(result.per_second)
    medians = {name: median(values) for name, values in rates.items()}
    for name, values in rates.items():
        listed = ", ".join(f"{value:.0f}" for value in values)
        print(f"{associations} associations, {name:16} {medians[name]:6.0f} CT/s  ({listed})")
    ratio = medians["auto_anonymize"] / medians["plain"]
    print(f"{associations} associations, ratio {ratio:.2f}" + (f", promised {PROMISED:.2f}" * (associations == 1)))


if __name__ == "__main__":
    main()
