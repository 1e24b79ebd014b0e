"""
Modality Performed Procedure Step SOP classes, PS3.4 annex F, as SCP: N-CREATE and N-SET, N-GET by the Retrieve SOP
class, and N-EVENT-REPORT by the Notification SOP class to whoever holds an association with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as AnswerTimedOut
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.archive.archive import Archive
from pacs.archive.errors import ArchiveError
from pacs.dataset.elements import read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES, is_for_messages
from pacs.dataset.values import Value, ValueEncoder, Values, values_of
from pacs.dimse import (
    Command,
    DIMSEError,
    NCreateRQ,
    NEventReportRQ,
    NGetRQ,
    NSetRQ,
    Response,
    Status,
)
from pacs.events import EventBus, MPPSChanged
from pacs.net.association import Answer, Association, AssociationClosed
from pacs.net.dispatch import Handler
from pacs.net.idle import until_idle
from pacs.net.source import DataSetSource
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.ul import AbstractSyntaxSupport, AcceptedContext
from pacs.workflow import tags
from pacs.workflow.errors import (
    Duplicate,
    InvalidValue,
    MissingAttribute,
    MissingValue,
    NotFound,
    StepIsFinal,
    WorkflowError,
)
from pacs.workflow.item import new_uid
from pacs.workflow.step import StepStatus
from pacs.workflow.steps import PerformedSteps

MPPS: Final = "1.2.840.10008.3.1.2.3.3"
MPPS_RETRIEVE: Final = "1.2.840.10008.3.1.2.3.4"
MPPS_NOTIFICATION: Final = "1.2.840.10008.3.1.2.3.5"

MAY_NO_LONGER_BE_UPDATED: Final = 0xA710
"""The Error ID of PS3.4 table F.7.2-2."""

OPTIONAL_ATTRIBUTES_NOT_SUPPORTED: Final = 0x0001
"""The warning of PS3.4 table F.8.2-2."""

EVENT_TYPES: Final[Mapping[str, int]] = {
    StepStatus.IN_PROGRESS.value: 1,
    StepStatus.COMPLETED.value: 2,
    StepStatus.DISCONTINUED.value: 3,
}
UPDATED: Final = 4
"""Event Type IDs of PS3.4 table F.9.2-1."""

STATUS_OF: Final[Mapping[type[WorkflowError], int]] = {
    NotFound: Status.NO_SUCH_OBJECT_INSTANCE,
    Duplicate: Status.DUPLICATE_SOP_INSTANCE,
    InvalidValue: Status.INVALID_ATTRIBUTE_VALUE,
    MissingAttribute: Status.MISSING_ATTRIBUTE,
    MissingValue: Status.MISSING_ATTRIBUTE_VALUE,
    StepIsFinal: Status.PROCESSING_FAILURE,
}

LONGEST_STEP_BYTES: Final = 4 << 20  # about 40,000 images

NOTIFIED_WITHIN_S: Final = 60.0
ANSWERED_WITHIN_S: Final = 30.0

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID: Final = 64


def refusal_of(error: WorkflowError | ArchiveError) -> DIMSEError:
    """Give the status that a refused step is answered with (PS3.4 F.7.2.1.4, F.7.2.2.4; PS3.7 10.1)."""
    if isinstance(error, ArchiveError):
        return DIMSEError(Status.RESOURCE_LIMITATION, error.comment)
    error_id = MAY_NO_LONGER_BE_UPDATED if isinstance(error, StepIsFinal) else None
    return DIMSEError(STATUS_OF.get(type(error), Status.PROCESSING_FAILURE), error.comment, error_id=error_id)


class MPPSService:
    """Keeps the performed procedure steps of modalities."""

    log: ClassVar[Logger] = Logger()
    _support = AbstractSyntaxSupport(accepts_transfer_syntax=is_for_messages)

    def __init__(self, *, steps: PerformedSteps, archive: Archive, authorization: Authorization) -> None:
        self._steps = steps
        self._archive = archive
        self._authorization = authorization
        self.handlers: Mapping[type[Command], Handler] = {
            NCreateRQ: self.n_create,
            NSetRQ: self.n_set,
            NGetRQ: self.n_get,
        }

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the three SOP classes."""
        return self._support if abstract_syntax in (MPPS, MPPS_RETRIEVE, MPPS_NOTIFICATION) else None

    async def n_create(
        self, association: Association, context: AcceptedContext, request: NCreateRQ, data_set: DataSetSource | None
    ) -> Response:
        """Make a step (PS3.4 F.7.2.1)."""
        self._authorization.require(association, Operation.MPPS)
        _require_class(context, request.affected_sop_class_uid, MPPS)
        values = await self._read(context, data_set)
        uid = self._new_uid(association, request, values)
        try:
            await self._steps.create(uid, values, association.principal)
        except (WorkflowError, ArchiveError) as error:
            raise refusal_of(error) from error
        return request.response(Status.SUCCESS, affected_sop_instance_uid=uid)

    async def n_set(
        self, association: Association, context: AcceptedContext, request: NSetRQ, data_set: DataSetSource | None
    ) -> Response:
        """Change a step (PS3.4 F.7.2.2)."""
        self._authorization.require(association, Operation.MPPS)
        _require_class(context, request.requested_sop_class_uid, MPPS)
        values = await self._read(context, data_set)
        try:
            await self._steps.change(request.requested_sop_instance_uid, values, association.principal)
        except (WorkflowError, ArchiveError) as error:
            raise refusal_of(error) from error
        return request.response(Status.SUCCESS)

    async def n_get(
        self, association: Association, context: AcceptedContext, request: NGetRQ, data_set: DataSetSource | None
    ) -> Answer:
        """Give attributes of a step, all of them when none is named (PS3.4 F.8.2.1)."""
        self._authorization.require(association, Operation.READ_MPPS)
        _require_class(context, request.requested_sop_class_uid, MPPS_RETRIEVE)
        try:
            step = await self._steps.get(request.requested_sop_instance_uid)
        except (WorkflowError, ArchiveError) as error:
            raise refusal_of(error) from error
        wanted = request.attribute_identifier_list
        found = {tag: value for tag, value in step.values.items() if not wanted or tag in wanted}
        status = OPTIONAL_ATTRIBUTES_NOT_SUPPORTED if any(tag not in found for tag in wanted) else Status.SUCCESS
        encoded = await self._archive.in_thread(ValueEncoder(context.transfer_syntax).data_set, found, "")
        return Answer(request.response(status, has_data_set=True), encoded)

    # -- within

    async def _read(self, context: AcceptedContext, data_set: DataSetSource | None) -> Values:
        if data_set is None:
            raise DIMSEError(Status.MISSING_ATTRIBUTE, "there is no data set")
        try:
            raw = await data_set.read(LONGEST_STEP_BYTES)
        except DIMSEError as error:
            raise DIMSEError(Status.RESOURCE_LIMITATION, error.comment) from error
        values: Values = await self._archive.in_thread(_values_of, raw, context.transfer_syntax)
        return values

    def _new_uid(self, association: Association, request: NCreateRQ, values: Values) -> str:
        """Give the UID of the request; some modalities put it into the data set, or leave it to us."""
        uid = (request.affected_sop_instance_uid or values.get(tags.SOP_INSTANCE_UID, Value("UI")).text).strip("\0 ")
        if uid:
            if len(uid) > _LONGEST_UID or not _UID.fullmatch(uid):
                raise DIMSEError(Status.INVALID_OBJECT_INSTANCE, "the SOP Instance UID is no UID")
            return uid
        uid = new_uid()
        self.log.info(
            "{calling_ae_title} makes a step without a SOP Instance UID; it is {sop_instance_uid}",
            calling_ae_title=association.calling_ae_title,
            sop_instance_uid=uid,
        )
        return uid


def _values_of(raw: bytes, transfer_syntax: str) -> Values:
    try:
        elements = read_elements(raw, transfer_syntax)
    except DataSetError as error:
        raise DIMSEError(Status.PROCESSING_FAILURE, f"data set: {error}") from error
    return values_of(elements, "", "<" if TRANSFER_SYNTAXES[transfer_syntax].is_little_endian else ">")


def _require_class(context: AcceptedContext, sop_class_uid: str, needed: str) -> None:
    """Each operation has its SOP class; the step itself is of the first one (PS3.4 F.7.2.1.2)."""
    if context.abstract_syntax != needed:
        raise DIMSEError(Status.UNRECOGNIZED_OPERATION, "the operation is not one of this SOP class")
    if sop_class_uid not in (needed, MPPS):
        raise DIMSEError(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context")


class MPPSNotifier:
    """
    Tells peers that hold an association with the Notification SOP class of each change (PS3.4 F.9), one by one.

    Args:
        associations: gives the open ones.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self, *, associations: Callable[[], Iterable[Association]], bus: EventBus, clock: IReactorTime
    ) -> None:
        self._associations = associations
        self._clock = clock
        self._turns: WeakKeyDictionary[Association, DeferredLock] = WeakKeyDictionary()
        bus.subscribe(MPPSChanged, self._changed)

    def _changed(self, event: MPPSChanged) -> None:
        is_update = event.action == "changed" and event.status == StepStatus.IN_PROGRESS.value
        event_type_id = UPDATED if is_update else EVENT_TYPES[event.status]
        for association in self._associations():
            for context in association.contexts.values():
                if context.abstract_syntax == MPPS_NOTIFICATION and association.principal.may(Operation.READ_MPPS):
                    report = self._report(association, context, event.sop_instance_uid, event_type_id)
                    Deferred.fromCoroutine(report).addErrback(self._not_told, association)
                    break

    async def _report(self, association: Association, context: AcceptedContext, uid: str, event_type_id: int) -> None:
        """Tell one peer of one change, when it has answered what it was told before."""
        turn = self._turns.setdefault(association, DeferredLock())
        await turn.acquire()
        try:
            await self._report_now(association, context, uid, event_type_id)
        finally:
            turn.release()

    async def _report_now(
        self, association: Association, context: AcceptedContext, uid: str, event_type_id: int
    ) -> None:
        if not await until_idle(association, timeout_s=NOTIFIED_WITHIN_S, clock=self._clock):
            self.log.warn(
                "association {association_id} is busy and not told of a step",
                association_id=association.association_id,
            )
            return
        request = NEventReportRQ(
            message_id=association.next_message_id(),
            affected_sop_class_uid=MPPS_NOTIFICATION,
            affected_sop_instance_uid=uid,
            event_type_id=event_type_id,
        )
        try:
            await association.invoke(context.id, request).addTimeout(ANSWERED_WITHIN_S, self._clock)
        except AnswerTimedOut:
            self.log.warn(
                "association {association_id} does not answer that it was told of a step",
                association_id=association.association_id,
            )

    def _not_told(self, failure: Failure, association: Association) -> None:
        if not failure.check(AssociationClosed):
            self.log.failure(
                "association {association_id} was not told of a step",
                failure,
                association_id=association.association_id,
            )
