"""
The objects of the benchmark that counts violations: ours has none, and the count finds what is there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.adversarial import DEPTHS, SHAPES, canaries, judge, make_objects, violations
from bench.deidentify import ours
from pacs.deidentification.tables import Profile

Objects = list[tuple[Path, int]]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Write them."""
    return make_objects(tmp_path_factory.mktemp("adversarial"))


def test_a_copy_breaks_every_row(objects: Objects, tmp_path: Path) -> None:
    """But for groups 0000 and 0002, which no writer puts there, and an object's own UIDs."""
    assert len(objects) == len(SHAPES) * len(DEPTHS) == 32
    verdict = judge(lambda source, target: os.link(source, target), objects, tmp_path / "copies")
    rows = sum(canary.tag >> 16 > 2 for canary in canaries())
    assert verdict.refused == 0
    assert verdict.violations == 32 * rows - 3 * len(SHAPES)


def test_the_engine_breaks_none(objects: Objects, tmp_path: Path) -> None:
    verdict = judge(ours(tmp_path, Profile.BASIC), objects, tmp_path / "ours")
    assert (verdict.violations, verdict.refused) == (0, 0)


def test_one_row_that_is_left_is_found(objects: Objects, tmp_path: Path) -> None:
    source, depth = objects[0]
    run = ours(tmp_path, Profile.BASIC)
    run(source, tmp_path / "out.dcm")
    assert violations(tmp_path / "out.dcm", depth) == []
    data = (tmp_path / "out.dcm").read_bytes()
    kept = next(item for item in canaries() if item.action == "Z" and item.vr == "LO" and item.tag >> 16 > 8)
    empty = kept.tag.to_bytes(4, "big")[1::-1] + kept.tag.to_bytes(4, "big")[:1:-1] + b"LO\0\0"
    assert empty in data
    changed = data.replace(empty, empty[:-2] + bytes([10, 0]) + kept.sought.encode(), 1)
    (tmp_path / "changed.dcm").write_bytes(changed)
    assert violations(tmp_path / "changed.dcm", depth) == [f"{kept.tag:08X} Z"]
