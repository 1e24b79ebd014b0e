"""
Connections that are closed end, whatever their client does.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from pacs.web.channel import CLOSING_S, LimitedChannel


class SilentClient:
    """A TLS transport whose client never answers that it is being closed."""

    def __init__(self) -> None:
        self.is_losing = False
        self.is_aborted = False

    def loseConnection(self) -> None:
        self.is_losing = True

    def abortConnection(self) -> None:
        self.is_aborted = True


def test_an_idle_client_that_does_not_answer_the_close_is_gone_soon() -> None:
    clock, transport = Clock(), SilentClient()
    channel: Any = LimitedChannel()
    channel.site = SimpleNamespace(clock=clock)
    channel.transport = transport
    channel.drop()
    assert transport.is_losing
    clock.advance(CLOSING_S - 1)
    channel.drop()
    assert not transport.is_aborted
    clock.advance(1)
    channel.drop()
    assert transport.is_aborted
