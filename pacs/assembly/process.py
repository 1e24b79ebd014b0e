"""
The server as a process: what it takes and gives back at its start and its end, what signals do, and its exit status.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import CancelledError
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from pacs.archive.errors import IndexTooNew
from pacs.config import Configuration
from pacs.control.lock import RootPathLock, RootPathLocked
from pacs.monitoring.logs import make_observer
from pacs.ordered_service import OrderedMultiService
from pacs.security.audit import AuditKeyError
from pacs.ul import AbstractSyntaxSupport

SWITCH_INTERVAL_S: Final = 0.0005  # the threads share the interpreter; none waits for 5 ms
GARBAGE_THRESHOLDS: Final = (5_000, 20, 20)
FILES_OF_OUR_OWN: Final = 600  # half-open connections and those that a flood holds, the index, objects in threads
M_ARENA_MAX: Final = -8  # glibc, malloc.h


class Server(OrderedMultiService):
    """
    The whole server: takes the lock, starts everything in order, and ends the process cleanly.

    Attributes:
        observer: logs as the configuration says.
        support: tells how an abstract syntax is supported.

    Args:
        configuration: of the file, the environment and the defaults.
        reload: called on SIGHUP.
    """

    def __init__(
        self,
        *,
        configuration: Configuration,
        support: Callable[[str], AbstractSyntaxSupport | None],
        lock: RootPathLock,
        reload: Callable[[], None],
        reactor: Any,
    ) -> None:
        super().__init__()
        self.support = support
        self.observer = make_observer(
            level=configuration.logging.level, log_format=configuration.logging.format, out=sys.stdout
        )
        self._configuration = configuration
        self._lock = lock
        self._reload = reload
        self._reactor = reactor
        self._is_stopping = False
        self._exit_status = 0

    def setServiceParent(self, parent: Any) -> None:
        """Join the application; it logs as the configuration says."""
        super().setServiceParent(parent)
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)

    def startService(self) -> None:
        _harden(self._configuration.server.max_associations)
        try:
            self._lock.acquire()
        except (RootPathLocked, OSError) as error:
            print(f"productionpacs: {error}", file=sys.__stderr__)  # the log has taken sys.stderr
            raise SystemExit(1) from None
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._reactor.callWhenRunning(self._install_signal_handlers)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._exit)
        self.when_started.addCallbacks(_settle, self._could_not_start)
        super().startService()

    async def _stop_children(self) -> None:
        await super()._stop_children()
        self._lock.release()
        self.log.info("stopped")

    def _install_signal_handlers(self) -> None:
        """Our own: twistd's leave the signal's number as exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signaled)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))

    def _signaled(self, number: int, frame: FrameType | None) -> None:
        if self._is_stopping:
            os._exit(1)  # the second one: at once; what was acknowledged is on disk
        self._is_stopping = True
        self._reactor.callFromThread(self._reactor.stop)

    def _could_not_start(self, failure: Failure) -> None:
        if self._is_stopping and failure.check(CancelledError):
            return
        self._exit_status = 1
        if failure.check(CannotListenError, IndexTooNew, AuditKeyError, OSError):
            self.log.critical("the server can't start: {reason}", reason=failure.getErrorMessage())
        else:
            self.log.failure("the server can't start", failure)
        self._reactor.callLater(0, self._reactor.stop)

    def _exit(self) -> None:
        """Leave a failed start's status: twistd itself would exit with 0."""
        if self._exit_status:
            sys.stdout.flush()
            os._exit(self._exit_status)


def _settle(_: object) -> None:
    """Take what the start made out of the garbage collector's sight: it stays, and looking through it costs 20 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _share_one_heap() -> None:
    """Have all threads allocate from one heap: the interpreter lets one run at a time, and several cost 3 MB."""
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    except (OSError, AttributeError):
        return  # another C library


def _harden(max_associations: int) -> None:
    """Keep what is written to ourselves, leave no patient data in core dumps, allow as many files as are needed."""
    os.umask(0o077)
    _share_one_heap()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = FILES_OF_OUR_OWN + 2 * max_associations
    if hard != resource.RLIM_INFINITY and hard < needed:
        Server.log.warn(
            "the limit of open files is {limit}, {needed} are needed for server.max_associations; raise 'ulimit -n'",
            limit=hard,
            needed=needed,
        )
