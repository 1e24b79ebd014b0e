"""
Canaries: a value that is found nowhere else, in every row of Table E.1-1, at every depth, in every profile.
"""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.deidentification.profiles import Policy
from pacs.deidentification.tables import Profile
from pacs.deidentification.vault import Vault
from tests.deidentification import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    PRIVATE_SOP_CLASS,
    deidentify,
    encode,
    make_vault,
    minimal,
    read,
    read_big_endian,
)

WRAPPERS: Final = (0x52009230, 0x00209113, 0x00089215)  # sequences outside the table
SYNTAXES: Final = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
CARRIER: Final = 0x00181210  # in the items of sequences: an attribute that is always kept
IN_EVERY_OBJECT: Final = frozenset((0x00080016, 0x00080018, 0x00100010, 0x00100020, 0x0020000D, 0x0020000E))


@lru_cache(maxsize=1)
def table() -> tuple[dict[str, str], ...]:
    """Read the specification, as the test understands it."""
    with files("pacs.deidentification").joinpath("data", "profile_actions.csv").open(encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def concrete(row: dict[str, str]) -> int:
    """Give a tag for a row, one of a group for repeating groups and private elements."""
    pattern = {"private": "00991001", "50xxxxxx": "50023000"}.get(row["tag"], row["tag"])
    return int(pattern.replace("xx", "04"), 16)


def canary(row: dict[str, str], number: int) -> tuple[str, Any, bytes]:
    """Give VR, value, and the bytes to look for."""
    vr = row["vr"].split("/")[0] or "LO"
    word = b"CANARY%04d" % number
    match vr:
        case "SQ":
            return vr, [[(CARRIER, "SH", word)]], word
        case "DA":
            value = b"19%02d%02d%02d" % (50 + number % 40, 2 + number % 10, 3 + number % 25)
        case "DT":
            value = b"19%02d%02d%02d112233.%06d" % (50 + number % 40, 2 + number % 10, 3 + number % 25, number)
        case "TM":
            value = b"112233.%06d" % number
        case "UI":
            value = b"1.3.6.1.4.1.55555.%d" % (70000 + number)
        case "AS":
            value = b"097Y"
        case "DS" | "IS":
            value = b"7755%04d" % number
        case "US":
            value = b"%02d" % (number % 100)
        case _:
            value = word
    return vr, value, value


def wrapped(elements: list[Any], depth: int) -> list[Any]:
    """Put elements into sequences."""
    for tag in WRAPPERS[:depth]:
        elements = [(tag, "SQ", [elements])]
    return elements


def at_depth(data_set: pydicom.Dataset, depth: int) -> pydicom.Dataset:
    """Give the item at a depth."""
    for tag in reversed(WRAPPERS[:depth]):
        data_set = data_set[tag].value[0]
    return data_set


def expected(row: dict[str, str], profile: Profile, depth: int) -> str:
    """Give the action, with the README's own exceptions."""
    tag = concrete(row)
    if tag >> 16 == 4 or (tag >> 16 == 2 and depth == 0):
        return "X"
    return row[profile.value]


def check(row: dict[str, str], action: str, item: pydicom.Dataset, sought: bytes, *, is_known: bool) -> None:
    """Hold one attribute of the output against its action."""
    tag = concrete(row)
    where = f"{row['tag']} {row['keyword']}: {action}"
    found = item.get_item(tag) if tag in item else None
    if action in ("X", "C|X"):
        assert found is None, where
        return
    if action == "K":
        assert found is not None, where
        value = item[tag].value
        if row["vr"] == "US":
            return  # a number; its two bytes are no canary
        # in implicit VR pydicom gives the bytes of a sequence that its dictionary does not know yet
        text = str(value[0][CARRIER].value) if isinstance(value, pydicom.Sequence) else value
        assert sought in (bytes(text) if isinstance(text, bytes) else str(text).encode()), where
        return
    if found is None:
        assert is_known or action not in ("U", "D", "C|D", "Z"), where
        return
    value = item[tag].value
    if row["vr"] == "SQ":
        inner = str([list(entry) for entry in value]).encode()
        assert action == "X/Z/U*" or sought not in inner, where
        return
    text = value if isinstance(value, bytes) else str(value).encode()
    if action == "K:cap90":
        assert text == b"090Y", where
    elif action == "C:year":
        assert sought[:8] not in text or text[4:8] == b"0101", where
        assert len(text) in (0, 4, 8) or row["vr"] not in ("DA", "DT"), where
    elif action == "C:shift" and row["vr"] == "TM":
        assert text == sought, where
    else:
        assert sought not in text, where
    if action == "D" and not is_known:
        assert text, where
    if action == "U":
        assert text.startswith(b"2.25."), where


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """Give one vault for all."""
    return make_vault(tmp_path_factory.mktemp("vault"))


def run(vault: Vault, rows: list[tuple[int, dict[str, str]]], profile: Profile, depth: int, **how: Any) -> None:
    """De-identify an object with canaries in some rows, and look at each."""
    sop_class, syntax = how.get("sop_class", PRIVATE_SOP_CLASS), how.get("syntax", EXPLICIT)
    elements: list[Any] = minimal(sop_class=sop_class)
    inner: list[Any] = []
    sought = {}
    for number, row in rows:
        tag = concrete(row)
        vr, value, sought[row["tag"]] = canary(row, number)
        if depth == 0 and tag in IN_EVERY_OBJECT:
            continue
        inner.append((tag, vr, value))
    present = {tag for tag, _, _ in inner}
    elements = [element for element in elements if depth or element[0] not in present] + wrapped(inner, depth)
    output = deidentify(
        encode(elements, syntax, is_open=how.get("is_open", False)), Policy(profile), vault, syntax=syntax
    )
    data_set = read_big_endian(output) if syntax == BIG_ENDIAN else read(output)
    item = at_depth(data_set, depth)
    is_known = sop_class == CT
    for _, row in rows:
        if depth == 0 and concrete(row) in IN_EVERY_OBJECT:
            continue
        action = expected(row, profile, depth)
        check(row, action, item, sought[row["tag"]], is_known=is_known)
        word = sought[row["tag"]]
        if action not in ("K", "X/Z/U*") and not (action == "C:shift" and row["vr"] == "TM") and len(word) > 8:
            assert syntax == DEFLATED or word not in output, row["tag"]


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("profile", list(Profile), ids=lambda profile: profile.value)
@pytest.mark.parametrize("sop_class", [PRIVATE_SOP_CLASS, CT], ids=["private", "ct"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=["explicit", "implicit", "big_endian", "deflated"])
def test_no_canary_is_found_where_the_table_forbids_it(
    vault: Vault, profile: Profile, depth: int, sop_class: str, syntax: str
) -> None:
    """Every row at once, each with a canary of its own."""
    run(vault, list(enumerate(table())), profile, depth, sop_class=sop_class, syntax=syntax)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_canary_is_found_whatever_the_encoding(vault: Vault, data: st.DataObject) -> None:
    """Some rows, at any depth, in any byte order, with defined and undefined lengths."""
    numbers = data.draw(st.sets(st.integers(0, len(table()) - 1), min_size=1, max_size=12))
    rows = [(number, table()[number]) for number in sorted(numbers)]
    run(
        vault,
        rows,
        data.draw(st.sampled_from(list(Profile))),
        data.draw(st.integers(0, 3)),
        syntax=data.draw(st.sampled_from(SYNTAXES)),
        is_open=data.draw(st.booleans()),
        sop_class=data.draw(st.sampled_from((PRIVATE_SOP_CLASS, CT))),
    )


def test_the_table_has_every_row_and_every_action() -> None:
    """Edition 2026d; a new one is a new file, and this test says what changed."""
    counts: dict[str, int] = {}
    for row in table():
        counts[row["basic"]] = counts.get(row["basic"], 0) + 1
    assert len(table()) == 657
    assert counts == {
        "X": 417, "D": 93, "U": 55, "Z": 42, "X/D": 23, "X/Z": 11, "X/Z/D": 8, "Z/D": 6, "X/Z/U*": 2,
    }  # fmt: skip


def test_the_transformer_names_no_attribute() -> None:
    """Rules key on tags: none of the dictionary's keywords is in the transformer's code."""
    root = Path(str(files("pacs.deidentification")))
    keywords = {row["keyword"] for row in table()} | set(pydicom.datadict.keyword_dict)
    keywords -= {"", "UID", "Item", "Event", "Message", "Rows", "Columns"}
    for name in ("transform.py", "rules.py"):
        words = set(re.findall(r"\w+", (root / name).read_text()))
        assert not words & keywords, name
