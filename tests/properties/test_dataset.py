"""
The scanner gives the same whatever the split of the bytes; garbage is a DataSetError and nothing else.
"""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pacs.archive.attributes import INDEX_TAGS
from pacs.dataset.elements import read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.scanner import DataSetScanner, ScanLimits, ScannedDataSet, _runs
from tests.dicom import ct_data_set, element

IMPLICIT, EXPLICIT, DEFLATED, BIG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)


def scan(data: bytes, transfer_syntax: str, places: list[int]) -> ScannedDataSet | str:
    scanner = DataSetScanner(transfer_syntax, wanted=INDEX_TAGS)
    try:
        for start, end in pairwise(places):
            scanner.feed(data[start:end])
        return scanner.finish()
    except DataSetError as error:
        return type(error).__name__


def item(content: bytes, *, is_open: bool) -> bytes:
    if is_open:
        return struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def sequence(items: list[bytes], is_open: bool, items_are_open: bool) -> bytes:
    content = b"".join(item(part, is_open=items_are_open) for part in items)
    if is_open:
        head = struct.pack("<HH2sxxL", 0x0040, 0xA730, b"SQ", 0xFFFFFFFF)
        return head + content + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HH2sxxL", 0x0040, 0xA730, b"SQ", len(content)) + content


leaves = st.builds(
    element,
    st.sampled_from([0x00100010, 0x00080060, 0x00280010]),
    st.sampled_from(["LO", "UN", "OB"]),
    st.binary(max_size=40),
)
trees = st.recursive(
    leaves, lambda inner: st.builds(sequence, st.lists(inner, max_size=3), st.booleans(), st.booleans()), max_leaves=12
)
data_sets = st.lists(trees, min_size=1, max_size=5).map(b"".join)
cuts = st.lists(st.integers(0, 5000), max_size=20)


def split(data: bytes, chosen: list[int]) -> list[int]:
    return sorted({0, len(data), *(cut % (len(data) + 1) for cut in chosen)})


@given(data=data_sets, chosen=cuts)
def test_any_split_gives_the_same(data: bytes, chosen: list[int]) -> None:
    whole = scan(data, EXPLICIT, [0, len(data)])
    assert isinstance(whole, ScannedDataSet)
    assert scan(data, EXPLICIT, split(data, chosen)) == whole
    assert scan(data, EXPLICIT, list(range(len(data) + 1))) == whole


short_elements = st.lists(
    st.tuples(
        st.sampled_from([0x00080060, 0x00100010, 0x00100020, 0x00200013, 0x00280010, 0x00281050, 0x00290010]),
        st.sampled_from(["LO", "DS", "IS", "PN"]),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=200,
)


@given(elements=short_elements, changes=st.lists(st.tuples(st.integers(0, 199), st.integers(0, 4)), max_size=8))
def test_what_comes_again_is_read_as_what_is_new(
    elements: list[tuple[int, str, int]], changes: list[tuple[int, int]]
) -> None:
    """The objects of a series: much the same, here and there a value of another length."""
    for number, (place, halves) in enumerate([(0, elements[0][2]), *changes]):
        tag, vr, _ = elements[place % len(elements)]
        elements[place % len(elements)] = tag, vr, halves
        values = [b"%02d" % (number + index) * half for index, (_, _, half) in enumerate(elements)]
        data = b"".join(element(tag, vr, value) for (tag, vr, _), value in zip(elements, values, strict=True))
        expected: dict[int, bytes] = {}
        for (tag, _, _), value in zip(elements, values, strict=True):
            if tag in INDEX_TAGS:
                expected.setdefault(tag, value)
        for nested in (data, sequence([data, data], False, True) + data):
            scanned = scan(nested, EXPLICIT, [0, len(nested)])
            assert isinstance(scanned, ScannedDataSet)
            assert scanned.values == expected
            assert scan(nested[:-1], EXPLICIT, [0, len(nested) - 1]) == scan_anew(nested[:-1])


def scan_anew(data: bytes) -> ScannedDataSet | str:
    """Scan without what was learned from others."""
    _runs.cache_clear()
    return scan(data, EXPLICIT, [0, len(data)])


@settings(max_examples=300, deadline=2000)
@given(data=st.binary(max_size=300), transfer_syntax=st.sampled_from([IMPLICIT, EXPLICIT, DEFLATED, BIG]), chosen=cuts)
@example(data=sequence([b"\1\2\3"], False, False), transfer_syntax=EXPLICIT, chosen=[])
def test_garbage_is_an_error_or_read_and_nothing_else(data: bytes, transfer_syntax: str, chosen: list[int]) -> None:
    assert scan(data, transfer_syntax, split(data, chosen)) == scan(data, transfer_syntax, [0, len(data)])


@settings(max_examples=300, deadline=2000)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_damaged_data_set_is_an_error_or_read_and_nothing_else(position: int, value: int) -> None:
    data = bytearray(
        ct_data_set("1.2.3") + sequence([ct_data_set("1.2.4")], False, True) + sequence([b""], True, False)
    )
    data[position % len(data)] = value
    scan(bytes(data), EXPLICIT, [0, len(data)])


@given(data=st.binary(max_size=300), transfer_syntax=st.sampled_from([IMPLICIT, EXPLICIT, BIG]))
def test_garbage_is_no_identifier(data: bytes, transfer_syntax: str) -> None:
    try:
        read_elements(data, transfer_syntax)
    except DataSetError as error:
        assert str(error)


@pytest.mark.parametrize("depth", [63, 64])
def test_64_levels_of_sequences_are_followed_and_no_more(depth: int) -> None:
    data = b""
    for _ in range(depth):
        data = sequence([data], True, True)
    assert isinstance(scan(data, EXPLICIT, [0, len(data)]), ScannedDataSet)
    for _ in range(10):
        data = sequence([data], True, True)
    assert scan(data, EXPLICIT, [0, len(data)]) == "DataSetError"


def test_items_are_limited() -> None:
    data = sequence([b""] * 11, True, False)
    scanner = DataSetScanner(EXPLICIT, wanted=INDEX_TAGS, limits=ScanLimits(sequence_items=10))
    with pytest.raises(DataSetError, match="more than 10 sequence items"):
        scanner.feed(data)


def test_bulk_is_counted_and_not_held() -> None:
    scanner = DataSetScanner(EXPLICIT, wanted=INDEX_TAGS)
    scanner.feed(ct_data_set("1.2.3", pixels=b"")[:-12])
    scanner.feed(struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", 200_000_000))
    piece = bytes(1_000_000)
    for _ in range(200):
        scanner.feed(piece)
    assert scanner.finish().byte_count > 200_000_000
