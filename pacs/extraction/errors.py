"""
Why an object with the frames that were asked for can't be made (PS3.4 table Y.4-1).
"""

from __future__ import annotations

from enum import Enum


class Cause(Enum):
    """The failures that the standard tells apart, and the one that is ours."""

    NO_SUCH_FRAMES = "none of the frames are in the object"
    SOP_CLASS = "no new object of this SOP class can be made"
    FRAMES = "the frames can't be extracted"
    NOT_TIMED = "a range of times, of an object without times"
    INVALID_REQUEST = "the list of frames breaks the rules of PS3.4 Y.3.2.1"
    RESOURCES = "there is not enough time, memory or space"


class ExtractionError(Exception):
    """
    No object was made; the text may go to a peer, whose Error Comment has 64 characters.

    Attributes:
        cause: which failure it is.
    """

    def __init__(self, cause: Cause, text: str) -> None:
        super().__init__(text)
        self.cause = cause
