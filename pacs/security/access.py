"""
Who may do what: principals, roles, and the table of rights (the contract's section 4) as data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Role(Enum):
    """The roles of the contract; `NONE` may C-ECHO only."""

    NONE = "none"
    VIEWER = "viewer"
    TECHNOLOGIST = "technologist"
    ADMINISTRATOR = "administrator"


class Operation(Enum):
    """What a right is needed for."""

    ECHO = "echo"
    READ = "read"
    MOVE_TO_SELF = "move_to_self"
    STORE = "store"
    MOVE_TO_NODE = "move_to_node"
    STATUS = "status"
    VERIFY_NODE = "verify_node"
    ADMINISTER = "administer"


_VIEWER: Final = frozenset({Operation.ECHO, Operation.READ, Operation.MOVE_TO_SELF, Operation.STATUS})
_TECHNOLOGIST: Final = _VIEWER | {Operation.STORE, Operation.MOVE_TO_NODE, Operation.VERIFY_NODE}

RIGHTS: Final[Mapping[Role, frozenset[Operation]]] = {
    Role.NONE: frozenset({Operation.ECHO}),
    Role.VIEWER: _VIEWER,
    Role.TECHNOLOGIST: _TECHNOLOGIST,
    Role.ADMINISTRATOR: frozenset(Operation),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """
    Who asks.

    Attributes:
        name: the calling AE title, or a user's name.
        peer_address: where from.
    """

    name: str
    peer_address: str
    role: Role

    def may(self, operation: Operation) -> bool:
        """Whether the role has the right."""
        return operation in RIGHTS[self.role]
