"""
What `pacs.net` can be told: names, limits and times of the associations. It reads no configuration itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AssociationSettings:
    """
    Times and sizes that hold for one association, whoever requested it.

    Attributes:
        artim_timeout_s: PS3.8 9.1.5; one timer, a byte does not restart it.
        association_timeout_s: for the answer to an association request of ours.
        idle_timeout_s: without a message for so long the association is aborted.
        fragment_timeout_s: the same between the fragments of one message, and for a peer that does not read.
        command_set_bytes: the longest command set.
        max_pdu_length: announced to the peer.
        associate_pdu_bytes: the longest A-ASSOCIATE-RQ or -AC.
    """

    artim_timeout_s: float = 30.0
    association_timeout_s: float = 30.0
    idle_timeout_s: float = 300.0
    fragment_timeout_s: float = 60.0
    unread_timeout_s: float = 60.0
    command_set_bytes: int = 65536
    max_pdu_length: int = 131072
    associate_pdu_bytes: int = 262144


@dataclass(frozen=True, slots=True)
class AcceptorSettings:
    """
    Who may associate, and how many at once.

    Attributes:
        ae_title: the called AE title that is ours.
        accepts_any_called_ae: take an association whatever its called AE title is.
        max_associations: established ones, all peers together.
        max_associations_per_peer: established ones of one calling AE title.
        max_associations_per_address: established ones from one network address.
        logs_associations: a line at the level debug for each that begins or ends.
        max_half_open: connections that have not sent their A-ASSOCIATE-RQ yet.
    """

    ae_title: str
    accepts_any_called_ae: bool = False
    max_associations: int = 100
    max_associations_per_peer: int = 50
    max_associations_per_address: int = 50
    max_half_open: int = 200
    logs_associations: bool = False
