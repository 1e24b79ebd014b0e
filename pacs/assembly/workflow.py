"""
The worklist's, the performed steps' and storage commitment's part of the assembly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pacs.archive.archive import Archive
from pacs.config import Configuration
from pacs.control.server import ControlCommand, Progress
from pacs.events import EventBus
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.net.nodes import RemoteNodes
from pacs.security.access import Principal, Role
from pacs.services.authorization import Authorization
from pacs.services.commitment import StorageCommitmentService
from pacs.services.mpps import MPPSNotifier, MPPSService
from pacs.services.sop_classes import is_storage_sop_class
from pacs.services.worklist import WorklistService
from pacs.tasks.commitment import Commitments
from pacs.tasks.queue import TaskQueue
from pacs.workflow.steps import PerformedSteps
from pacs.workflow.worklist import Worklist

OPERATOR_ADDRESS = "localhost"


@dataclass(frozen=True, slots=True)
class Workflow:
    """
    What the rest of the assembly needs of it.

    Attributes:
        worklist, steps: for other doors.
        services: for the dispatcher.
        command: of the control socket, for `pacsctl worklist`.
    """

    worklist: Worklist
    steps: PerformedSteps
    services: tuple[WorklistService, MPPSService, StorageCommitmentService]
    command: ControlCommand


def make_workflow(
    configuration: Configuration,
    *,
    archive: Archive,
    authorization: Authorization,
    associations: Callable[[], Iterable[Association]],
    nodes: RemoteNodes,
    tasks: TaskQueue,
    bus: EventBus,
    metrics: Metrics,
    reactor: Any,
) -> Workflow:
    """
    Build it.

    Args:
        associations: gives the open ones.
    """
    worklist = Worklist(archive=archive, bus=bus)
    steps = PerformedSteps(archive=archive, bus=bus)
    commitments = Commitments(
        archive=archive,
        queue=tasks,
        nodes=nodes,
        associations=associations,
        is_storage_sop_class=is_storage_sop_class,
        ae_title=configuration.server.ae_title,
        metrics=metrics,
        clock=reactor,
    )
    MPPSNotifier(associations=associations, bus=bus, clock=reactor)
    return Workflow(
        worklist,
        steps,
        (
            WorklistService(
                worklist=worklist,
                authorization=authorization,
                bus=bus,
                metrics=metrics,
                clock=reactor,
                identifier_bytes=configuration.server.limits.identifier_bytes,
            ),
            MPPSService(steps=steps, archive=archive, authorization=authorization),
            StorageCommitmentService(commitments=commitments, archive=archive, authorization=authorization),
        ),
        worklist_command(worklist),
    )


def worklist_command(worklist: Worklist) -> ControlCommand:
    """Give what `pacsctl worklist` asks for."""
    operator = Principal("pacsctl", OPERATOR_ADDRESS, Role.ADMINISTRATOR)

    async def command(request: dict[str, Any], _: Progress) -> dict[str, Any]:
        return await worklist.perform(request, operator)

    return command
