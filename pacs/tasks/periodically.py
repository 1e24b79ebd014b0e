"""
What is looked after from time to time, and goes on when it fails once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pacs.archive.errors import ArchiveError


class Periodically:
    """
    Calls a coroutine function from time to time; a failure is logged, and the next call comes.

    Args:
        what: it does, for the log.
    """

    def __init__(
        self,
        what: str,
        function: Callable[[], Coroutine[Any, Any, None]],
        interval_s: float,
        *,
        clock: IReactorTime,
        log: Logger,
    ) -> None:
        self._function = function
        self._interval_s = interval_s
        self._what = what
        self._log = log
        self._loop = LoopingCall(self._once)
        self._loop.clock = clock

    def start(self) -> None:
        """Call it now, and then again."""
        self._loop.start(self._interval_s)

    def stop(self) -> None:
        """Call it no more."""
        if self._loop.running:
            self._loop.stop()

    async def _once(self) -> None:
        try:
            await self._function()
        except ArchiveError as error:
            self._log.warn("{what} is put off: {reason}", what=self._what, reason=error.comment)
        except Exception:  # noqa: BLE001 - the border: it must not end the calls
            self._log.failure("{what} failed", what=self._what)
