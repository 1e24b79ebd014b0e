"""
The sizes that a peer may not exceed; each is checked at the length field, before anything is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Limits of one Upper Layer connection.

    Attributes:
        associate_pdu_bytes: A-ASSOCIATE-RQ and -AC; 128 contexts with 40 transfer syntaxes each are about 140 KB.
        max_pdu_length: the variable field of P-DATA-TF, as announced to the peer (PS3.8 D.1).
    """

    associate_pdu_bytes: int = 256 * 1024
    max_pdu_length: int = 131072
