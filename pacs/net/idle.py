"""
When a request of ours may go over an association that a peer opened: not while one of the peer's is being served, nor
while another one of ours is not answered.

One operation at a time goes either way, as was negotiated (PS3.7 D.3.3.3), and what an object is being sent by
(`Association.send_in_place`) must not be cut into.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from pacs.net.association import Association

LOOK_INTERVAL_S: Final = 0.02


async def until_idle(association: Association, *, timeout_s: float, clock: IReactorTime) -> bool:
    """
    Wait until the association has no operation in either direction, or has ended; give False when that takes too long.

    Whoever waits must send at once when this returns.
    """
    deadline_s = clock.seconds() + timeout_s
    while association.is_open and (association.is_busy or association.awaits_answer):
        if clock.seconds() > deadline_s:
            return False
        await deferLater(clock, LOOK_INTERVAL_S)
    return True
