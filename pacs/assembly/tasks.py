"""
The durable task queue's part of the assembly.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from pacs.archive.archive import Archive
from pacs.events import EventBus
from pacs.monitoring.metrics import Metrics
from pacs.tasks.queue import TaskQueue

PROCESS: Final = "server"
"""What this process is called among those that share an index on one machine."""


def make_task_queue(archive: Archive, *, bus: EventBus, metrics: Metrics, reactor: Any) -> TaskQueue:
    """Build the queue; whoever has tasks to do tells it before it is started."""
    return TaskQueue(
        change=archive.change,
        run=archive.run,
        owner=f"{socket.gethostname()}/{PROCESS}",
        bus=bus,
        metrics=metrics,
        now_s=time.time,
        clock=reactor,
    )


class TaskQueueService(Service):
    """Runs the queue while the archive is open: started after it, stopped before it."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def startService(self) -> Deferred[None]:
        super().startService()
        return Deferred.fromCoroutine(self._queue.start())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._queue.stop())
