"""
Who may do what: principals, roles, operations, and the table of rights (the contract's section 4) as data.

`docs/security.rst` prints the same table; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Role(Enum):
    """The roles of the contract, each with all rights of the one before; `NONE` may C-ECHO only."""

    __hash__ = object.__hash__  # members are one of a kind; Enum's own is a Python function, and they are keys

    NONE = "none"
    VIEWER = "viewer"
    TECHNOLOGIST = "technologist"
    ADMINISTRATOR = "administrator"


class Operation(Enum):
    """What a right is needed for; its value is what people are shown."""

    __hash__ = object.__hash__  # members are one of a kind; Enum's own is a Python function, and they are keys

    ECHO = "C-ECHO"
    FIND = "C-FIND"
    GET = "C-GET"
    QUERY_WORKLIST = "worklist query"
    QIDO = "QIDO-RS"
    WADO = "WADO-RS"
    READ = "read"
    MOVE_TO_SELF = "C-MOVE to the caller"
    READ_STATUS = "read status"
    READ_STATISTICS = "read statistics"
    READ_ASSOCIATIONS = "read associations"
    READ_MPPS = "read MPPS"
    READ_EVENTS = "read events"
    STORE = "C-STORE"
    STOW = "STOW-RS"
    MPPS = "MPPS"
    COMMIT = "storage commitment"
    MOVE_TO_NODE = "C-MOVE to a node"
    CHANGE_WORKLIST = "change worklist"
    VERIFY_NODE = "verify node"
    DELETE = "delete"
    MERGE = "merge"
    EDIT = "edit"
    MANAGE_TOKENS = "manage tokens"
    MANAGE_USERS = "manage users"
    READ_AUDIT_LOG = "read audit log"
    READ_CONFIGURATION = "read configuration"
    ABORT_ASSOCIATION = "abort association"
    MANAGE_JOBS = "manage jobs"
    MANAGE_ROUTES = "manage routing rules"


LEAST_ROLE: Final[Mapping[Operation, Role]] = {
    Operation.ECHO: Role.NONE,
    # patient data is read
    Operation.FIND: Role.VIEWER,
    Operation.GET: Role.VIEWER,
    Operation.QUERY_WORKLIST: Role.VIEWER,
    Operation.QIDO: Role.VIEWER,
    Operation.WADO: Role.VIEWER,
    Operation.READ: Role.VIEWER,
    Operation.MOVE_TO_SELF: Role.VIEWER,
    # the server is looked at
    Operation.READ_STATUS: Role.VIEWER,
    Operation.READ_STATISTICS: Role.VIEWER,
    Operation.READ_ASSOCIATIONS: Role.VIEWER,
    Operation.READ_MPPS: Role.VIEWER,
    Operation.READ_EVENTS: Role.VIEWER,
    # the work of a modality
    Operation.STORE: Role.TECHNOLOGIST,
    Operation.STOW: Role.TECHNOLOGIST,
    Operation.MPPS: Role.TECHNOLOGIST,
    Operation.COMMIT: Role.TECHNOLOGIST,
    Operation.MOVE_TO_NODE: Role.TECHNOLOGIST,
    Operation.CHANGE_WORKLIST: Role.TECHNOLOGIST,
    Operation.VERIFY_NODE: Role.TECHNOLOGIST,
    # what is kept, and the server itself, are changed
    Operation.DELETE: Role.ADMINISTRATOR,
    Operation.MERGE: Role.ADMINISTRATOR,
    Operation.EDIT: Role.ADMINISTRATOR,
    Operation.MANAGE_TOKENS: Role.ADMINISTRATOR,
    Operation.MANAGE_USERS: Role.ADMINISTRATOR,
    Operation.READ_AUDIT_LOG: Role.ADMINISTRATOR,
    Operation.READ_CONFIGURATION: Role.ADMINISTRATOR,
    Operation.ABORT_ASSOCIATION: Role.ADMINISTRATOR,
    Operation.MANAGE_JOBS: Role.ADMINISTRATOR,
    Operation.MANAGE_ROUTES: Role.ADMINISTRATOR,
}
"""The least role that has the right."""

_RANK: Final[Mapping[Role, int]] = {role: rank for rank, role in enumerate(Role)}

RIGHTS: Final[Mapping[Role, frozenset[Operation]]] = {
    role: frozenset(operation for operation, least in LEAST_ROLE.items() if _RANK[least] <= _RANK[role])
    for role in Role
}


def highest_role(roles: Iterable[Role]) -> Role:
    """Give the role with most rights; `NONE` when there is none."""
    return max(roles, key=_RANK.__getitem__, default=Role.NONE)


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a request comes from, as the transport tells.

    Attributes:
        certificate_names: the subject alternative names of the verified client certificate.
    """

    peer_address: str
    is_encrypted: bool = False
    certificate_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Principal:
    """
    Who asks.

    Attributes:
        name: the calling AE title, or a user's name.
        peer_address: where from.
        because: what gave the role, a key of the configuration.
        user: whose passcode or token was verified.
        certificate_names: the subject alternative names of the verified client certificate.
    """

    name: str
    peer_address: str
    role: Role
    because: str = ""
    user: str | None = None
    is_encrypted: bool = False
    certificate_names: tuple[str, ...] = ()

    def may(self, operation: Operation) -> bool:
        """Whether the role has the right."""
        return operation in RIGHTS[self.role]
