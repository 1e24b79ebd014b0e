"""
The report of storage commitment: N-EVENT-REPORT, PS3.4 J.3.3, over an association of the requester's or one of ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import TimeoutError as AnswerTimedOut
from twisted.internet.interfaces import IReactorTime

from pacs.archive.custody import Reference
from pacs.dataset.values import Value, ValueEncoder, Values
from pacs.dimse import NEventReportRQ, Status
from pacs.net.association import Association, AssociationClosed
from pacs.net.idle import until_idle
from pacs.net.nodes import NodeUnavailable, RemoteNode, RemoteNodes
from pacs.security.access import Principal
from pacs.ul import AcceptedContext, PresentationContextRQ, RoleSelection

STORAGE_COMMITMENT_PUSH: Final = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
SUCCESSFUL: Final = 1
FAILURES_EXIST: Final = 2
"""Event Type IDs of PS3.4 table J.3-2."""

TRANSFER_SYNTAXES: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
ANSWER_TIMEOUT_S: Final = 30.0
BUSY_TIMEOUT_S: Final = 5.0

_RETRIEVE_AE_TITLE: Final = 0x00080054
_SOP_CLASS_UID: Final = 0x00081150
_SOP_INSTANCE_UID: Final = 0x00081155
_TRANSACTION_UID: Final = 0x00081195
_FAILURE_REASON: Final = 0x00081197
_FAILED_SEQUENCE: Final = 0x00081198
_REFERENCED_SEQUENCE: Final = 0x00081199


class NotTaken(Exception):
    """The report did not arrive, or was refused; the message says why, without patient data."""


@dataclass(frozen=True, slots=True)
class Report:
    """
    What the requester is told.

    Attributes:
        retrieve_ae_title: from whom the objects can be had.
        failed: each with its Failure Reason (PS3.3 C.14.1.1).
    """

    transaction_uid: str
    retrieve_ae_title: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]

    @property
    def event_type_id(self) -> int:
        """Of PS3.4 table J.3-2."""
        return FAILURES_EXIST if self.failed else SUCCESSFUL

    def encode(self, transfer_syntax: str) -> bytes:
        """Give the event information (PS3.4 table J.3-2)."""
        values: dict[int, Value] = {_TRANSACTION_UID: Value("UI", self.transaction_uid)}
        if self.committed:
            values[_RETRIEVE_AE_TITLE] = Value("AE", self.retrieve_ae_title)
            values[_REFERENCED_SEQUENCE] = Value("SQ", "", tuple(_item(reference) for reference in self.committed))
        if self.failed:
            items = tuple({**_item(which), _FAILURE_REASON: Value("US", str(reason))} for which, reason in self.failed)
            values[_FAILED_SEQUENCE] = Value("SQ", "", items)
        return ValueEncoder(transfer_syntax).data_set(values, "")


def _item(reference: Reference) -> Values:
    return {
        _SOP_CLASS_UID: Value("UI", reference.sop_class_uid),
        _SOP_INSTANCE_UID: Value("UI", reference.sop_instance_uid),
    }


class Reporter:
    """
    Sends reports.

    Args:
        encode: runs `Report.encode` in a thread: a report of many objects takes a while.
    """

    def __init__(self, *, nodes: RemoteNodes, encode: Callable[..., Awaitable[bytes]], clock: IReactorTime) -> None:
        self._nodes = nodes
        self._encode = encode
        self._clock = clock

    async def report_over(self, association: Association, report: Report, *, can_wait: bool) -> None:
        """
        Report over an association of the requester's.

        Args:
            can_wait: there is no other way: a peer that is busy may have its time.

        Raises:
            NotTaken.
        """
        context = next((c for c in association.contexts.values() if c.abstract_syntax == STORAGE_COMMITMENT_PUSH), None)
        if context is None:
            raise NotTaken("the association does not have Storage Commitment")
        data = await self._encode(report.encode, context.transfer_syntax)
        timeout_s = ANSWER_TIMEOUT_S if can_wait else BUSY_TIMEOUT_S
        if not await until_idle(association, timeout_s=timeout_s, clock=self._clock):
            raise NotTaken("the association of the request is busy")
        await self._send(association, context, report, data)

    async def report_to(self, node: RemoteNode, report: Report, principal: Principal) -> None:
        """
        Report over a new association, as SCP (PS3.4 J.3.3.1.2; PS3.7 D.3.3.4).

        Raises:
            NotTaken.
        """
        proposal = PresentationContextRQ(1, STORAGE_COMMITMENT_PUSH, TRANSFER_SYNTAXES)
        role = RoleSelection(STORAGE_COMMITMENT_PUSH, scu_role=False, scp_role=True)
        try:
            protocol, association = await self._nodes.associate(node, [proposal], principal, role_selections=[role])
        except NodeUnavailable as error:
            raise NotTaken(str(error)) from error
        try:
            context = association.contexts.get(1)
            if context is None:
                raise NotTaken(f"AE '{node.ae_title}' does not accept Storage Commitment")
            if not context.requestor_is_scu and not context.requestor_is_scp:
                raise NotTaken(f"AE '{node.ae_title}' does not accept us as SCP of Storage Commitment")
            data = await self._encode(report.encode, context.transfer_syntax)
            await self._send(association, context, report, data)
        finally:
            await self._nodes.release(protocol)

    async def _send(self, association: Association, context: AcceptedContext, report: Report, data: bytes) -> None:
        request = NEventReportRQ(
            message_id=association.next_message_id(),
            affected_sop_class_uid=STORAGE_COMMITMENT_PUSH,
            affected_sop_instance_uid=WELL_KNOWN_INSTANCE,
            event_type_id=report.event_type_id,
            has_data_set=True,
        )
        try:
            answered = association.invoke(context.id, request, data)
            status = (await answered.addTimeout(ANSWER_TIMEOUT_S, self._clock)).command.status
        except AssociationClosed:
            raise NotTaken("the association ended before the report was answered") from None
        except AnswerTimedOut:
            raise NotTaken(f"the report is not answered within {ANSWER_TIMEOUT_S:g} s") from None
        if status != Status.SUCCESS:
            raise NotTaken(f"the report is answered with status {status:04X}")
