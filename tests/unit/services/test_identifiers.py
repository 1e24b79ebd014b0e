"""
From identifiers to queries: hierarchy, negotiation, and what is refused (PS3.4 C.4.1 and C.5.1.1).
"""

from __future__ import annotations

import pytest

from pacs.archive.attributes import Level
from pacs.archive.query import Name, Period, Range, SequenceKey
from pacs.dataset.elements import Element
from pacs.dimse import DIMSEError, Status
from pacs.services.identifiers import LEVELS_OF, Identifier, Negotiated, answer_extended, parse_identifier
from pacs.services.sop_classes import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND, STUDY_ROOT_FIND

LEVEL, NAME, PATIENT_ID = 0x00080052, 0x00100010, 0x00100020
STUDY_UID, SERIES_UID, INSTANCE_UID = 0x0020000D, 0x0020000E, 0x00080018


def parse(model: str, *keys: tuple[int, str, str], negotiated: Negotiated | None = None) -> Identifier:
    elements = [Element(tag, vr, value.encode()) for tag, vr, value in keys]
    return parse_identifier(elements, levels=LEVELS_OF[model], negotiated=negotiated or Negotiated())


@pytest.mark.parametrize(
    ("model", "keys", "offending"),
    [
        (PATIENT_ROOT_FIND, [(LEVEL, "CS", "STUDY")], PATIENT_ID),
        (PATIENT_ROOT_FIND, [(LEVEL, "CS", "STUDY"), (PATIENT_ID, "LO", "")], PATIENT_ID),
        (PATIENT_ROOT_FIND, [(LEVEL, "CS", "STUDY"), (PATIENT_ID, "LO", "A*")], PATIENT_ID),
        (PATIENT_ROOT_FIND, [(LEVEL, "CS", "SERIES"), (PATIENT_ID, "LO", "A")], STUDY_UID),
        (STUDY_ROOT_FIND, [(LEVEL, "CS", "SERIES")], STUDY_UID),
        (STUDY_ROOT_FIND, [(LEVEL, "CS", "IMAGE"), (STUDY_UID, "UI", "1.2")], SERIES_UID),
        (STUDY_ROOT_FIND, [(LEVEL, "CS", "PATIENT")], LEVEL),
        (PATIENT_STUDY_ONLY_FIND, [(LEVEL, "CS", "SERIES")], LEVEL),
        (PATIENT_ROOT_FIND, [(LEVEL, "CS", "INSTANCE")], LEVEL),
        (PATIENT_ROOT_FIND, [(NAME, "PN", "A")], LEVEL),
        (STUDY_ROOT_FIND, [(LEVEL, "CS", "STUDY"), (0x00080020, "DA", "yesterday")], 0x00080020),
        (STUDY_ROOT_FIND, [(LEVEL, "CS", "STUDY"), (0x00080020, "DA", "-")], 0x00080020),
        (STUDY_ROOT_FIND, [(LEVEL, "CS", "STUDY"), (STUDY_UID, "UI", "\\".join(["1"] * 1001))], STUDY_UID),
        (STUDY_ROOT_FIND, [(LEVEL, "CS", "STUDY"), (NAME, "PN", "*" + "a" * 1000)], NAME),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_its_element(
    model: str, keys: list[tuple[int, str, str]], offending: int
) -> None:
    with pytest.raises(DIMSEError) as caught:
        parse(model, *keys)
    assert caught.value.status == Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
    assert caught.value.offending_elements == (offending,)
    assert caught.value.comment
    assert len(caught.value.comment) <= 64


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_relational_queries_need_no_unique_keys_of_the_levels_above(level: str) -> None:
    found = parse(PATIENT_ROOT_FIND, (LEVEL, "CS", level), negotiated=Negotiated(is_relational=True))
    assert found.query.level is Level(level)
    with pytest.raises(DIMSEError):
        parse(STUDY_ROOT_FIND, (LEVEL, "CS", "PATIENT"), negotiated=Negotiated(is_relational=True))


def test_a_key_of_a_lower_level_or_of_none_is_not_supported() -> None:
    """It is not returned, and a match is FF01 (PS3.4 C.2.2.1.3 and C.4.1.1.4)."""
    for tag, vr in ((0x00080060, "CS"), (0x00200013, "IS"), (0x7FE00010, "OW")):
        found = parse(STUDY_ROOT_FIND, (LEVEL, "CS", "STUDY"), (tag, vr, ""))
        assert not found.supports_all
        assert tag not in dict(found.keys)
    everything = parse(STUDY_ROOT_FIND, (LEVEL, "CS", "STUDY"), (NAME, "PN", ""), (0x00081032, "SQ", ""))
    assert everything.supports_all
    assert dict(everything.keys) == {NAME: "PN", 0x00081032: "SQ", STUDY_UID: "UI"}


def test_a_proposal_is_answered_field_by_field() -> None:
    assert answer_extended(b"\1") == b"\1"
    assert answer_extended(b"\1\1\1\1\1") == b"\1\1\1\0\0"
    assert answer_extended(b"\0\1\0") == b"\0\1\0"
    assert answer_extended(b"") is None
    assert Negotiated.of(b"\1\0\1") == Negotiated(is_relational=True, is_fuzzy=True)


def test_a_date_and_its_time_are_one_period_when_that_was_negotiated() -> None:
    keys = (
        (LEVEL, "CS", "STUDY"), (0x00080020, "DA", "20060705-20060707"), (0x00080030, "TM", "1000-1800"),
    )  # fmt: skip
    (period,) = parse(STUDY_ROOT_FIND, *keys, negotiated=Negotiated(combines_dates_and_times=True)).query.conditions
    assert isinstance(period, Period)
    apart = parse(STUDY_ROOT_FIND, *keys).query.conditions
    assert [type(condition) for condition in apart] == [Range, Range]


def test_names_are_fuzzy_only_when_that_was_negotiated() -> None:
    keys = ((LEVEL, "CS", "PATIENT"), (NAME, "PN", "Smith"))
    assert parse(PATIENT_ROOT_FIND, *keys).query.conditions == (Name(NAME, ("Smith",)),)
    fuzzy = parse(PATIENT_ROOT_FIND, *keys, negotiated=Negotiated(is_fuzzy=True)).query.conditions
    assert fuzzy == (Name(NAME, ("Smith",), is_fuzzy=True),)


def test_the_item_of_a_sequence_has_keys_of_its_own() -> None:
    item = (Element(0x00080100, "SH", b"CTCH"), Element(0x00080104, "LO", b""))
    elements = [Element(LEVEL, "CS", b"STUDY"), Element(0x00081032, "SQ", b"", (item,))]
    found = parse_identifier(elements, levels=LEVELS_OF[STUDY_ROOT_FIND])
    (key,) = found.query.conditions
    assert isinstance(key, SequenceKey)
    assert key.wanted == (0x00080100, 0x00080104)
    assert len(key.conditions) == 1


def test_an_availability_that_no_object_has_is_no_match() -> None:
    assert parse(STUDY_ROOT_FIND, (LEVEL, "CS", "STUDY"), (0x00080056, "CS", "OFFLINE")).is_unavailable
    assert not parse(STUDY_ROOT_FIND, (LEVEL, "CS", "STUDY"), (0x00080056, "CS", "ONLINE")).is_unavailable
    assert not parse(STUDY_ROOT_FIND, (LEVEL, "CS", "STUDY"), (0x00080056, "CS", "")).is_unavailable
