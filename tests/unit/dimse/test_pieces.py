"""
Pieces laid out as PDUs in place, against the plain way of making PDUs (PS3.8 9.3.5 and annex D).
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pacs.dimse import PieceBuffer, encode_data_set_fragments


def fill(buffer: PieceBuffer, data: bytes) -> None:
    position = 0
    for place in buffer.places(len(data)):
        place[:] = data[position : position + len(place)]
        position += len(place)
    assert position == len(data)


@given(
    st.integers(64, 300),
    st.integers(1, 2000),
    st.lists(st.tuples(st.binary(max_size=3000), st.sampled_from((1, 3, 255))), min_size=1, max_size=5),
)
def test_data_sets_one_after_the_other_are_cut_as_they_are_by_copying(
    max_pdu_length: int, piece_bytes: int, data_sets: list[tuple[bytes, int]]
) -> None:
    buffer = PieceBuffer(max_pdu_length=max_pdu_length, piece_bytes=piece_bytes)
    for data, context_id in data_sets:
        sent = b""
        for start in range(0, max(1, len(data)), buffer.capacity):
            piece = data[start : start + buffer.capacity]
            fill(buffer, piece)
            sent += buffer.pdus(context_id, len(piece), is_last=start + buffer.capacity >= len(data))
        expected = b"".join(encode_data_set_fragments(context_id, data, max_pdu_length, is_last=True))
        assert sent == expected


def test_an_odd_piece_is_padded_with_a_null() -> None:
    buffer = PieceBuffer(max_pdu_length=64, piece_bytes=100)
    fill(buffer, b"\xff" * 58)
    fill(buffer, b"abc")
    assert buffer.pad(4) == 4
    assert buffer.pad(3) == 4
    assert bytes(buffer.pdus(1, 4, is_last=True))[-4:] == b"abc\0"
