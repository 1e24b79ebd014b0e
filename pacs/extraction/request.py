"""
Which frames are asked for: the Frame Range Keys and their rules, PS3.4 Y.3.2.1.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pacs.extraction.errors import Cause, ExtractionError

TO_THE_END: Final = 0xFFFFFFFF
TIME_TOLERANCE_S: Final = 1e-6
"""Frames have their times in decimal, to the microsecond at best (DT); a request has them in binary."""


class FrameKey(Enum):
    """The keys of the FRAME level (PS3.4 table Y.6-2), by tag."""

    SIMPLE_FRAME_LIST = 0x00081161
    CALCULATED_FRAME_LIST = 0x00081162
    TIME_RANGE = 0x00081163

    @property
    def vr(self) -> str:
        """Of its value."""
        return "FD" if self is FrameKey.TIME_RANGE else "UL"

    @property
    def value_bytes(self) -> int:
        """Of one of its values."""
        return 8 if self is FrameKey.TIME_RANGE else 4

    @property
    def name_in_standard(self) -> str:
        """Its name in PS3.6."""
        return self.name.replace("_", " ").title()


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """
    One Frame Range Key with its value.

    Attributes:
        value: as asked, in little endian.
    """

    key: FrameKey
    value: bytes

    def check(self) -> None:
        """
        See that the rules are kept that need no object to be known.

        Raises:
            ExtractionError: INVALID_REQUEST.
        """
        if self.key is FrameKey.TIME_RANGE:
            self._time_range()
        elif self.key is FrameKey.SIMPLE_FRAME_LIST:
            self._simple_list()
        else:
            self._sub_ranges()

    def frames(self, count: int, times_s: Sequence[float] | None = None) -> list[int]:
        """
        Give the numbers of the frames that are asked for and there, in their order; the first frame is 1.

        Args:
            count: how many frames the object has.
            times_s: when each of them was, after the Content Time; None when that is unknown.

        Raises:
            ExtractionError: INVALID_REQUEST, NOT_TIMED, or NO_SUCH_FRAMES.
        """
        if self.key is FrameKey.TIME_RANGE:
            found = self._within(times_s)
        elif self.key is FrameKey.SIMPLE_FRAME_LIST:
            found = [number for number in self._simple_list() if number <= count]
        else:
            found = [
                number
                for first, last, increment in self._sub_ranges()
                for number in range(first, min(last, count) + 1, increment)
            ]
        if not found:
            raise ExtractionError(Cause.NO_SUCH_FRAMES, f"none of the {count} frames is in the {self._name}")
        return found

    @property
    def _name(self) -> str:
        return self.key.name_in_standard

    def _simple_list(self) -> Sequence[int]:
        numbers = array("I", self._whole(4))
        if not numbers or numbers[0] < 1:
            raise self._invalid("frame numbers begin with 1")
        if any(following <= number for number, following in itertools.pairwise(numbers)):
            raise self._invalid("frame numbers must increase, none twice")
        return numbers

    def _sub_ranges(self) -> list[tuple[int, int, int]]:
        numbers = array("I", self._whole(4))
        if not numbers or len(numbers) % 3:
            raise self._invalid("three numbers are needed a sub-range")
        ranges = [(numbers[at], numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3)]
        behind = 1
        for first, last, increment in ranges:
            if first < 1:
                raise self._invalid("frame numbers begin with 1")
            if last < first:
                raise self._invalid("a sub-range ends before it begins")
            if increment < 1:
                raise self._invalid("the increment must be greater than zero")
            if first < behind:
                raise self._invalid("sub-ranges must increase, not overlap")
            behind = (last if last == TO_THE_END else first + (last - first) // increment * increment) + 1
        return ranges

    def _time_range(self) -> tuple[float, float]:
        numbers = array("d", self._whole(8))
        if len(numbers) != 2:
            raise self._invalid("it must have two values, start and end")
        start, end = numbers
        if not (math.isfinite(start) and math.isfinite(end)) or end < start:
            raise self._invalid("it must begin before it ends")
        return start, end

    def _within(self, times_s: Sequence[float] | None) -> list[int]:
        start, end = self._time_range()
        if times_s is None:
            raise ExtractionError(Cause.NOT_TIMED, "the frames have no times (Frame Time, Frame Reference DateTime)")
        return [
            number
            for number, time_s in enumerate(times_s, 1)
            if start - TIME_TOLERANCE_S <= time_s <= end + TIME_TOLERANCE_S
        ]

    def _whole(self, size: int) -> bytes:
        """Give the value, which has whole numbers of some bytes."""
        if len(self.value) % size:
            raise self._invalid(f"its value has {len(self.value)} bytes")
        return self.value

    def _invalid(self, why: str) -> ExtractionError:
        return ExtractionError(Cause.INVALID_REQUEST, f"{self._name}: {why}")
