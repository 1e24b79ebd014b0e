"""
Pending responses by the thousand, against the plain way of making them (PS3.7 9.3.3.2 and 9.3.4.2).
"""

from __future__ import annotations

import pytest

from pacs.dimse import CGetRQ, CMoveRQ, MessageReader
from pacs.dimse.messages import CGetRSP, CMoveRSP
from pacs.services.retrieve_progress import PendingEncoder
from pacs.ul import DataFragment

REQUESTS = (
    CGetRQ(message_id=7, affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.3"),
    CMoveRQ(message_id=65535, affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.2", move_destination="A"),
)


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("max_pdu_length", [0, 64, 128, 16384])
def test_each_has_its_counters(request_: CGetRQ | CMoveRQ, max_pdu_length: int) -> None:
    """Numbers of more than 16 bits are told as the largest."""
    encoder = PendingEncoder(request_.response(0xFF00), 3, max_pdu_length)
    for counters in ((3, 2, 1, 0), (0, 65535, 65534, 256), (100_000, 1, 2, 3)):
        command = None
        reader, pdus = MessageReader(), encoder.encode(*counters)
        while pdus:
            length = int.from_bytes(pdus[2:6], "big")
            body, pdus = pdus[6 : 6 + length], pdus[6 + length :]
            command = reader.receive(DataFragment(body[4], bool(body[5] & 1), bool(body[5] & 2), memoryview(body[6:])))
        assert isinstance(command, CGetRSP | CMoveRSP)
        assert (
            command.number_of_remaining_suboperations,
            command.number_of_completed_suboperations,
            command.number_of_failed_suboperations,
            command.number_of_warning_suboperations,
        ) == tuple(min(counter, 65535) for counter in counters)
        assert command.message_id_being_responded_to == request_.message_id
