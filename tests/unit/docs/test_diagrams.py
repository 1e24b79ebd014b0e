"""
The diagrams are what the tables say.
"""

from __future__ import annotations

import runpy
from pathlib import Path

DIAGRAMS = Path(__file__).parents[3] / "docs" / "diagrams"


def test_the_upper_layer_is_drawn_from_its_table() -> None:
    drawn = runpy.run_path(str(DIAGRAMS / "draw_upper_layer.py"))["draw"]()
    assert (DIAGRAMS / "upper_layer.dot").read_text() == drawn, "run docs/diagrams/draw_upper_layer.py"
