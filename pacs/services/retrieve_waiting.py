"""
Waiting for what a retrieval takes, while its requester is kept informed and may cancel (PS3.4 C.4.2.1, PS3.7 9.1.4).
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from pacs.dimse import DIMSEError
from pacs.net.association import AssociationClosed
from pacs.services.retrieve_progress import Progress

PENDING_INTERVAL_S: Final = 1.5
"""The requester hears from us at least this often, whatever we wait for."""
TICK_S: Final = 0.25

T = TypeVar("T")


async def attend(
    work: Coroutine[Deferred[Any], Any, T], progress: Progress, *, clock: IReactorTime, grace_s: float
) -> T | None:
    """
    Wait for some work.

    Args:
        grace_s: what is on its way gets so long to be finished after C-CANCEL.

    Returns:
        what it gives; None when it was ended by a C-CANCEL.
    """
    doing = Deferred.fromCoroutine(work)
    canceled_s: list[float] = []

    def tick() -> None:
        now_s = clock.seconds()
        if progress.is_canceled():
            canceled_s.append(now_s)
            if now_s - canceled_s[0] >= grace_s:
                doing.cancel()
        elif now_s - progress.last_told_s >= PENDING_INTERVAL_S:
            Deferred.fromCoroutine(progress.tell()).addErrback(lambda failure: failure.trap(AssociationClosed))

    ticking = LoopingCall(tick)
    ticking.clock = clock
    ticking.start(TICK_S, now=False)
    try:
        return await doing
    except (CancelledError, DIMSEError):  # the latter when it was ended in the middle
        if not canceled_s:
            raise  # the requester has gone, or it failed by itself
        return None
    finally:
        ticking.stop()
