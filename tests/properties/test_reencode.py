"""
Any data set that pydicom writes is the same to pydicom in any other encoding; garbage is an error and nothing else.
"""

from __future__ import annotations

import io
import warnings
from typing import Any, Final

import pydicom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.syntaxes import targets
from tests.transcoding import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, as_read, differences, transcoded

ENCODINGS: Final = (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN)

text = st.text("ABC 0123", max_size=11).map(str.strip)
short = st.integers(0, 0xFFFF)
values: Final[dict[int, tuple[str, st.SearchStrategy[Any]]]] = {
    0x00080018: ("UI", st.sampled_from(["", "1.2", "1.2.3", "1.2.840.10008.1.2"])),
    0x00080060: ("CS", text),
    0x00100010: ("PN", text),
    0x00180050: ("DS", st.integers(-999, 999)),
    0x00189087: ("FD", st.floats(allow_nan=False)),
    0x00209161: ("UI", st.just("1.2.3.4")),
    0x00280009: ("AT", st.integers(0x00100000, 0x7FFFFFFF)),
    0x00280010: ("US", short),
    0x00280103: ("US", st.sampled_from([0, 1])),
    0x00700022: ("FL", st.integers(-1000, 1000)),
    0x00420011: ("OB", st.binary(max_size=40)),
    0x00660040: ("OL", st.binary(max_size=6).map(lambda data: data * 4)),
    0x00720078: ("UL", st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=3)),
    0x0072007C: ("SL", st.integers(-(1 << 31), (1 << 31) - 1)),
    0x00720083: ("UV", st.integers(0, (1 << 64) - 1)),
    0x60003000: ("OW", st.binary(max_size=10).map(lambda data: data * 2)),
    0x00090010: ("LO", st.sampled_from(["SOMEBODY", "GEMS_IDEN_01"])),
    0x00091001: ("LO", text),
    0x00091027: ("UN", st.binary(max_size=10).map(lambda data: data * 2)),
}


def data_set(chosen: dict[int, Any]) -> Dataset:
    made = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, value in sorted(chosen.items()):
            made.add(DataElement(tag, "SQ" if tag == 0x0040A730 else values[tag][0], value))
    return made


leaves = st.fixed_dictionaries({}, optional={tag: strategy for tag, (_, strategy) in values.items()}).map(data_set)


def with_items(children: st.SearchStrategy[Dataset]) -> st.SearchStrategy[Dataset]:
    def put(parent: Dataset, items: list[Dataset], is_undefined: bool) -> Dataset:
        parent.ContentSequence = items
        parent["ContentSequence"].is_undefined_length = is_undefined
        for item in items:
            item.is_undefined_length_sequence_item = not is_undefined
        return parent

    return st.builds(put, leaves, st.lists(children, max_size=3), st.booleans())


data_sets = st.recursive(leaves, with_items, max_leaves=6)


def encoded(made: Dataset, transfer_syntax: str) -> bytes:
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(
            out,
            made,
            implicit_vr=made.file_meta.TransferSyntaxUID.is_implicit_VR,
            little_endian=made.file_meta.TransferSyntaxUID.is_little_endian,
            force_encoding=True,
        )
    written = out.getvalue()
    value = transfer_syntax.encode()
    return written[written.index(value) + len(value) + len(value) % 2 :]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=data_sets, source=st.sampled_from(ENCODINGS), other=st.integers(0, 2))
def test_any_data_set_is_the_same_in_another_encoding(made: Dataset, source: str, other: int) -> None:
    target = targets(source)[other]
    data = encoded(made, source)
    assert differences(as_read(data, source), as_read(transcoded(data, source, target), target)) == []


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), source=st.sampled_from(ENCODINGS), other=st.integers(0, 2))
def test_garbage_is_an_error_or_read_and_nothing_else(data: bytes, source: str, other: int) -> None:
    try:
        transcoded(data, source, targets(source)[other])
    except TranscodingError as error:
        assert str(error)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=data_sets, position=st.integers(0, 5000), value=st.integers(0, 255), source=st.sampled_from(ENCODINGS))
def test_a_damaged_data_set_is_an_error_or_read_and_nothing_else(
    made: Dataset, position: int, value: int, source: str
) -> None:
    data = bytearray(encoded(made, source))
    if data:
        data[position % len(data)] = value
    try:
        transcoded(bytes(data), source, targets(source)[0])
    except TranscodingError as error:
        assert str(error)
