"""
Draws the Upper Layer state machine from the table that the code walks: `python docs/diagrams/draw_upper_layer.py`.

Render it with `dot -Tsvg docs/diagrams/upper_layer.dot`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from pacs.ul import TRANSITIONS


def draw() -> str:
    """Give the diagram in Graphviz's language; edges with the same ends are one."""
    edges: dict[tuple[int, int], list[str]] = defaultdict(list)
    for (event, state), transition in TRANSITIONS.items():
        for next_state in transition.next_states:
            edges[int(state), int(next_state)].append(f"Evt{int(event)} {transition.action.value}")
    lines = ["digraph upper_layer {", "  rankdir=LR; node [shape=circle]; edge [fontsize=9];"]
    for (state, next_state), labels in sorted(edges.items()):
        label = "\\n".join(labels)
        lines.append(f'  Sta{state} -> Sta{next_state} [label="{label}"];')
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    Path(__file__).with_name("upper_layer.dot").write_text(draw(), encoding="utf-8")
