"""
Why a worklist item or a performed step is refused; what each means to a peer is the services' business.
"""

from __future__ import annotations


class WorkflowError(Exception):
    """
    Attributes:
        comment: for the peer, the operator and the log; without patient data.
        tags: of the attributes that it is about.
    """

    def __init__(self, comment: str, tags: tuple[int, ...] = ()) -> None:
        super().__init__(comment)
        self.comment = comment
        self.tags = tags


class NotFound(WorkflowError):
    """There is no such item or step."""


class Duplicate(WorkflowError):
    """There is a step with this UID already."""


class InvalidValue(WorkflowError):
    """A value that an attribute can't have."""


class MissingAttribute(WorkflowError):
    """An attribute is required and is not there."""


class MissingValue(WorkflowError):
    """An attribute is required to have a value and has none."""


class StepIsFinal(WorkflowError):
    """The step is completed or discontinued; it may no longer be changed (PS3.4 F.7.2.2.2)."""
