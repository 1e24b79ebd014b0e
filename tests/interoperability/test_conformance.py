"""
The conformance statement says what the server negotiates, no more and no less.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydicom._uid_dict import UID_dictionary

from pacs.archive.attributes import ATTRIBUTES
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client
from tests.server import Server, run_tool

MOST_CONTEXTS = 128


FRAME_LEVEL: Final = ("Calculated Frame List (0008,1162)", "Concatenation UID", "Slice Vector", "Mask Subtraction")


def conformance(server: Server, *options: str) -> str:
    command = str(Path(sys.executable).with_name("pacsctl"))
    return run_tool(command, "conformance", "-c", str(server.config), *options).stdout


def accepted(server: Server, proposed: Sequence[tuple[str, str]]) -> list[bool]:
    """Give which of some pairs of SOP class and transfer syntax the server accepts."""
    found: list[bool] = []
    for start in range(0, len(proposed), MOST_CONTEXTS):
        with Client(server.port, *proposed[start : start + MOST_CONTEXTS]) as client:
            found += [context.result == 0 for context in client.accept.presentation_contexts]
    return found


def test_the_statement_is_what_the_server_negotiates(server: Server) -> None:
    stated: dict[str, dict[str, Any]] = {
        item["uid"]: item for item in json.loads(conformance(server, "--json"))["sop_classes"]
    }
    known = [uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"]
    by_class = accepted(server, [(uid, EXPLICIT) for uid in known])
    assert {uid for uid, is_accepted in zip(known, by_class, strict=True) if is_accepted} == set(stated) & set(known)
    for sop_class in (CT_IMAGE_STORAGE, "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.31"):
        by_syntax = accepted(server, [(sop_class, syntax) for syntax in TRANSFER_SYNTAXES])
        taken = [syntax for syntax, is_accepted in zip(TRANSFER_SYNTAXES, by_syntax, strict=True) if is_accepted]
        assert taken == stated[sop_class]["transfer_syntaxes"]


def test_the_statement_for_people_has_every_table(server: Server) -> None:
    text = conformance(server)
    for attribute in ATTRIBUTES:
        assert attribute.keyword in text
    for word in (
        "CT Image Storage",
        "Modality Worklist",
        "JPEG 2000",
        "ISO_IR 100",
        "PS3.15 B.12",
        "110114",
        *FRAME_LEVEL,
    ):
        assert word in " ".join(text.split())  # lists are wrapped
    assert "\t" not in text
    widths = {len(line) for line in text.splitlines() if line.startswith("=====")}
    assert max(widths) < 200
