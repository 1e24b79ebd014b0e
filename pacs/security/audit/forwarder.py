"""
Sends audit records to the collector, in order, and waits for it when it is away.

Nothing is lost over restarts of either side; after a broken connection some records may be sent twice (their numbers
tell). When more waits than the spool may hold the oldest are given up, which is an alert; the log still has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.security.audit.spool import Portion, Spool
from pacs.security.audit.syslog import SyslogFormat
from pacs.security.audit.transports import Connection, Transport

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0
FINISH_S: Final = 3.0


class Forwarder:
    """
    Keeps the collector up to date.

    Args:
        changed: told whether the collector is there, and why not.
        gave_up: told how many records will not be sent.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        spool: Spool,
        transport: Transport,
        message_format: SyslogFormat,
        reactor: Any,
        changed: Callable[[bool, str], None],
        gave_up: Callable[[int], None],
    ) -> None:
        self._spool = spool
        self._transport = transport
        self._format = message_format
        self._reactor = reactor
        self._changed = changed
        self._gave_up = gave_up
        self._running: Deferred[None] | None = None
        self._waiting: Deferred[None] | None = None
        self._is_away = False
        self._is_finishing = False
        self._is_woken = False

    def start(self, last_sequence: int) -> None:
        """
        Begin to send.

        Args:
            last_sequence: of the log's last record.
        """
        self._spool.log_goes_to(last_sequence)
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    def wake(self) -> None:
        """There are new records."""
        self._is_woken = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def finish(self) -> None:
        """Send what is left while the collector is there, for some seconds; the rest waits for the next start."""
        running = self._running
        if running is None:
            return
        self._is_finishing = True
        timer = self._reactor.callLater(0.0 if self._is_away else FINISH_S, running.cancel)
        self.wake()
        await running
        if timer.active():
            timer.cancel()
        await deferToThread(self._spool.close)

    # -- within

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                connection = await self._transport.connect()
                try:
                    await deferToThread(self._spool.rewind)
                    await self._send(connection)
                    return
                finally:
                    connection.close()
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the collector can't be reached
                if not self._is_away:
                    pause_s = FIRST_PAUSE_S
                self._say_away(error)
            if self._is_finishing:
                return
            await deferLater(self._reactor, pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _send(self, connection: Connection) -> None:
        """Send whatever there is and will be; return only at the end."""
        connection.lost.addCallback(lambda _: self.wake())
        while True:
            self._is_woken = False
            portion: Portion = await deferToThread(self._spool.read)
            if portion.skipped:
                self.log.error(
                    "{count} audit records were not sent to the collector: too many wait", count=portion.skipped
                )
                self._gave_up(portion.skipped)
            if portion.records:
                await connection.send([self._format.encode(record) for record in portion.records])
                await deferToThread(self._spool.confirm, portion.records[-1].position.sequence)
                self._say_back()
            elif self._is_finishing:
                return
            else:
                await self._wait(connection)

    async def _wait(self, connection: Connection) -> None:
        """Wait for new records, or for the connection to end."""
        if connection.is_lost:
            raise ConnectionError("the collector closed the connection")
        if self._is_woken:
            return
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        await waiting
        if connection.is_lost:
            raise ConnectionError("the collector closed the connection")

    def _say_away(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            reason = str(error) or type(error).__name__
            self.log.warn("the audit collector is away: {reason}; records wait in the audit log", reason=reason)
            self._changed(False, f"the audit collector is away: {reason}")

    def _say_back(self) -> None:
        if self._is_away:
            self._is_away = False
            self.log.info("the audit collector is back")
            self._changed(True, "the audit collector is back")

    def _ended(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("audit records are no longer sent to the collector", failure)
            self._changed(False, "audit records are no longer sent to the collector")
