"""
Whatever the split of the bytes, the indications are the same; whatever the bytes, no exception comes of them.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.ul import AReleaseRQ, DataFragment, Indication, Limits, Role, State, UpperLayer
from tests.unit.ul.test_reader import FULL


def layer_in(state: State) -> UpperLayer:
    layer = UpperLayer(role=Role.ACCEPTOR, limits=Limits())
    layer.transport_opened()
    layer.state = state
    return layer


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context_id, control) + data


def joined(indications: list[Indication]) -> list[object]:
    """Join the fragments of one presentation data value."""
    result: list[object] = []
    for indication in indications:
        if not isinstance(indication, DataFragment):
            result.append(repr(indication))
            continue
        last = result[-1] if result else None
        if isinstance(last, list) and last[:2] == [indication.context_id, indication.is_command] and not last[2]:
            last[3] += bytes(indication.data)
            last[2] = indication.is_last
        else:
            result.append([indication.context_id, indication.is_command, indication.is_last, bytes(indication.data)])
    return result


values = st.builds(pdv, st.integers(1, 255), st.sampled_from([2, 3]), st.binary(max_size=200))
data_pdus = st.lists(values, min_size=1, max_size=3).map(
    lambda parts: struct.pack(">BxL", 4, sum(map(len, parts))) + b"".join(parts)
)
streams = st.lists(data_pdus, max_size=5).map(lambda pdus: b"".join(pdus) + AReleaseRQ().encode())


@given(stream=streams, cuts=st.lists(st.integers(0, 3000), max_size=30))
def test_any_split_gives_the_same_indications(stream: bytes, cuts: list[int]) -> None:
    whole = joined(layer_in(State.STA6).receive_data(stream))
    layer = layer_in(State.STA6)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    parts: list[Indication] = []
    for start, end in pairwise(places):
        parts += layer.receive_data(stream[start:end])
    assert joined(parts) == whole


@given(
    data=st.binary(max_size=400), state=st.sampled_from([State.STA2, State.STA3, State.STA6, State.STA7, State.STA13])
)
def test_garbage_raises_nothing(data: bytes, state: State) -> None:
    layer = layer_in(state)
    layer.receive_data(data)
    layer.data_to_send()


@settings(max_examples=300)
@given(position=st.integers(6, len(FULL.encode()) - 1), value=st.integers(0, 255))
def test_a_damaged_request_raises_nothing(position: int, value: int) -> None:
    data = bytearray(FULL.encode())
    data[position] = value
    layer_in(State.STA2).receive_data(bytes(data))
