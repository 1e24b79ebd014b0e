"""
Syncs that go on while something else is done: the disk makes an object's file and name durable while its rows are
written.

One thread, one sync at a time. Waiting for the disk takes no interpreter's lock, so the two do run side by side.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class SyncThread:
    """Runs one sync at a time for one other thread."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-sync", daemon=True)
        self.is_running = False

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._asked.put(None)
        self._thread.join()

    def begin(self, sync: Callable[[], None]) -> None:
        """Begin a sync; `wait` is to follow before the next one."""
        self.is_running = True
        self._asked.put(sync)

    def wait(self) -> None:
        """
        Wait for the sync that was begun; return at once when there is none.

        Raises:
            OSError: it has failed. It is told once.
        """
        if not self.is_running:
            return
        error = self._ended.get()
        self.is_running = False
        if error is not None:
            raise error

    def _run_in_thread(self) -> None:
        while (sync := self._asked.get()) is not None:
            try:
                sync()
            except Exception as error:  # noqa: BLE001 - whoever waits has it
                self._ended.put(error)
            else:
                self._ended.put(None)
