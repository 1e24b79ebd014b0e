"""
Runs of elements that were seen before: what the objects of a series have in common is recognized by one comparison,
instead of being read element by element.

A run is what stood between two places of a data set: the tags, VRs and lengths of some elements, one behind the other.
Where the same ones stand again, at once or in the next object, their values are where they were. Where they differ, the
run ends there from then on, so runs settle between the elements whose lengths vary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

SHORTEST_RUN: Final = 3  # elements; reading fewer one by one is as fast
LONGEST_RUN: Final = 128
RUNS: Final = 4096  # then all begin again: what is not sent any more is forgotten
MISMATCHES: Final = 4096  # and so do runs that have been cut again and again
HEADER_BYTES: Final = 8

Header = tuple[int, int, int]
"""Tag, VR and 16-bit length, as numbers of their bytes."""


class Run:
    """
    Some elements, one behind the other.

    Attributes:
        byte_count: of all of them.
        heads: gives their headers, from a buffer and a position in it.
        expected: what `heads` gives when they are there.
        tags: of those whose values are wanted.
        wanted_values: gives these values, from a buffer and a position in it.
    """

    __slots__ = ("byte_count", "expected", "heads", "tags", "wanted_values")

    def __init__(self, expected: tuple[bytes, ...], tags: Sequence[int | None], lengths: Sequence[int]) -> None:
        heads = Struct("<" + "".join(f"8s{length}x" for length in lengths))
        self.byte_count = heads.size
        self.expected = expected
        self.heads = heads.unpack_from
        self.tags = tuple(tag for tag in tags if tag is not None)
        values = (f"8x{length}{'x' if tag is None else 's'}" for tag, length in zip(tags, lengths, strict=True))
        self.wanted_values = Struct("<" + "".join(values)).unpack_from


class Runs:
    """
    The runs of one kind of data set, by the header that they begin with.

    Args:
        header: reads one.
        wanted: tags whose values are kept, by the number of their bytes.

    Attributes:
        get: gives the run that begins with a header, or None.
    """

    __slots__ = ("_barred", "_by_header", "_header", "_mismatches", "_wanted", "get")

    def __init__(self, header: Struct, wanted: Mapping[int, int]) -> None:
        self._header = header
        self._wanted = wanted
        self._by_header: dict[Header, Run] = {}
        self._barred: set[Header] = set()  # after these something else stands each time
        self._mismatches = 0
        self.get = self._by_header.get

    def learn(self, headers: Sequence[bytes]) -> None:
        """Remember what was read one by one."""
        fields: list[Header] = [self._header.unpack(header) for header in headers]
        first = next((index for index, header in enumerate(fields) if header not in self._barred), len(fields))
        fields = fields[first:]
        if len(fields) < SHORTEST_RUN or len({tag for tag, _, _ in fields}) < len(fields):  # of two, the first counts
            return
        if len(self._by_header) >= RUNS or self._mismatches >= MISMATCHES:
            self._by_header.clear()
            self._barred.clear()
            self._mismatches = 0
        tags = [self._wanted.get(tag) for tag, _, _ in fields]
        self._by_header[fields[0]] = Run(tuple(headers[first:]), tags, [length for _, _, length in fields])

    def differs(self, run: Run, heads: tuple[bytes, ...]) -> None:
        """Something else stood where a run was expected: keep what was the same."""
        self._mismatches += 1
        same = next(index for index, head in enumerate(heads) if head != run.expected[index])
        header: Header = self._header.unpack(run.expected[0])
        self._by_header.pop(header, None)
        if same < SHORTEST_RUN:
            self._barred.add(header)
        else:
            self.learn(run.expected[:same])
