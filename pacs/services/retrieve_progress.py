"""
How far a retrieval is: the sub-operation counters, and the responses that carry them (PS3.7 9.1.3.1 and 9.1.4.1, PS3.4
C.4.2.1 and C.4.3.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from struct import Struct
from typing import Any, Final

from pacs.archive.retrieval import Kind, Selection
from pacs.dataset.elements import ElementEncoder
from pacs.dimse import CGetRQ, CMoveRQ, Response, Status, encode_message
from pacs.events import StudyInstances
from pacs.net.association import Answer, Association
from pacs.tasks.send import Outcome, SubOperation
from pacs.ul import AcceptedContext

FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058
FAILED_UIDS: Final = 1000
"""As many UIDs fit into an element of 64 KiB; what fails beyond is counted, not listed."""
_COUNTER: Final = Struct("<H")
LARGEST_NUMBER: Final = 0xFFFF  # the counters have 16 bits; what is more is told as this


class PendingEncoder:
    """
    Makes pending responses, which go out by the thousand: only the four counters differ.

    They are the last elements of the command set, 10 bytes each (PS3.7 E.1).
    """

    def __init__(self, response: Response, context_id: int, max_pdu_length: int) -> None:
        self._response = response
        self._context_id = context_id
        self._max_pdu_length = max_pdu_length
        self._pdus = bytearray(self._encode_plainly(0, 0, 0, 0))
        self._is_one_pdu = int.from_bytes(self._pdus[2:6], "big") == len(self._pdus) - 6
        self._end = len(self._pdus)

    def encode(self, *counters: int) -> bytes:
        """Give the PDUs of a response: remaining, completed, failed, warning."""
        if not self._is_one_pdu:
            return self._encode_plainly(*counters)
        place = self._end - 32
        for counter in counters:
            _COUNTER.pack_into(self._pdus, place, min(counter, LARGEST_NUMBER))
            place += 10
        return bytes(self._pdus)

    def _encode_plainly(self, *counters: int) -> bytes:
        names = ("remaining", "completed", "failed", "warning")
        values: dict[str, Any] = {
            f"number_of_{name}_suboperations": min(counter, LARGEST_NUMBER)
            for name, counter in zip(names, counters, strict=True)
        }
        return encode_message(self._context_id, replace(self._response, **values), None, self._max_pdu_length)


class Progress:
    """
    The sub-operations of one request; the watcher of whoever performs them.

    Attributes:
        remaining, completed, failed, warning: numbers of sub-operations.
        reason: why the first that failed did, or the first with a warning when none failed.
        last_told_s: when the requester got the last response, on the clock.
    """

    def __init__(
        self,
        *,
        association: Association,
        context: AcceptedContext,
        request: CGetRQ | CMoveRQ,
        selection: Selection,
        seconds: Callable[[], float],
    ) -> None:
        self._association = association
        self._context = context
        self._request = request
        self._seconds = seconds
        self._sent: Counter[Kind] = Counter()
        self._failed_uids: list[str] = []
        self._warning_reason = ""
        self._failure_reason = ""
        self._encode_pending = PendingEncoder(
            request.response(Status.PENDING), context.id, association.max_send_pdu_length
        ).encode
        self.remaining = len(selection)
        self.completed = 0
        self.failed = 0
        self.warning = 0
        self.last_told_s = seconds()

    @property
    def reason(self) -> str:
        return self._failure_reason or self._warning_reason

    # -- the watcher's side

    def note(self, sub_operation: SubOperation) -> None:
        """Count a sub-operation."""
        self.remaining -= 1
        if sub_operation.outcome is Outcome.FAILED:
            self.failed += 1
            self._failure_reason = self._failure_reason or sub_operation.reason
            if sub_operation.stored.sop_instance_uid and len(self._failed_uids) < FAILED_UIDS:
                self._failed_uids.append(sub_operation.stored.sop_instance_uid)
            return
        self._sent[sub_operation.stored.kind] += 1
        if sub_operation.outcome is Outcome.WARNING:
            self.warning += 1
            self._warning_reason = self._warning_reason or sub_operation.reason
        else:
            self.completed += 1

    def pending(self) -> bytes:
        """Give a pending response as PDUs, or nothing when the final one is due."""
        if not self.remaining:
            return b""
        self.last_told_s = self._seconds()
        return self._encode_pending(self.remaining, self.completed, self.failed, self.warning)

    async def tell(self) -> None:
        """Send a pending response, but none when the final one is due."""
        pdus = self.pending()
        if pdus:
            waiting = self._association.write(pdus)
            if waiting is not None:
                await waiting

    def lost(self, reason: str) -> None:
        """The association has ended, and with it what remains."""
        self._failure_reason = self._failure_reason or reason

    def is_canceled(self) -> bool:
        """Whether the requester has sent C-CANCEL."""
        return self._association.is_canceled(self._request.message_id)

    # -- the end

    def final(self) -> Answer:
        """Give the final response, with the Failed SOP Instance UID List where something failed."""
        status = self.status()
        failed = status != Status.SUCCESS and bool(self._failed_uids)
        comment = self.reason or None
        response = self._response(status, has_data_set=failed, error_comment=comment)
        return Answer(response, self._failed_list() if failed else None)

    def status(self) -> Status:
        """Give the final status; that some remain though nobody canceled is a failure too."""
        if self.remaining:
            return Status.CANCEL if self.is_canceled() else Status.UNABLE_TO_PERFORM_SUBOPERATIONS
        if not self.failed and not self.warning:
            return Status.SUCCESS
        if self.completed or self.warning:
            return Status.SUBOPERATIONS_COMPLETE_WITH_FAILURES
        return Status.UNABLE_TO_PERFORM_SUBOPERATIONS

    def _response(self, status: Status, *, has_data_set: bool = False, error_comment: str | None = None) -> Response:
        return self._request.response(
            status,
            has_data_set=has_data_set,
            error_comment=error_comment,
            number_of_remaining_suboperations=(
                min(self.remaining, LARGEST_NUMBER) if status == Status.CANCEL else None
            ),
            number_of_completed_suboperations=min(self.completed, LARGEST_NUMBER),
            number_of_failed_suboperations=min(self.failed, LARGEST_NUMBER),
            number_of_warning_suboperations=min(self.warning, LARGEST_NUMBER),
        )

    def _failed_list(self) -> bytes:
        value = "\\".join(self._failed_uids).encode("ascii", "replace")
        encoder = ElementEncoder(self._context.transfer_syntax)
        return encoder.data_set([(FAILED_SOP_INSTANCE_UID_LIST, "UI", value + b"\0" * (len(value) % 2))])

    # -- for the event

    def sent(self) -> tuple[StudyInstances, ...]:
        """Give what was sent, study by study."""
        return by_study(self._sent)


def by_study(counts: Counter[Kind] | dict[Kind, int]) -> tuple[StudyInstances, ...]:
    """Give numbers of objects by study and SOP class."""
    studies: dict[tuple[str, str], Counter[str]] = {}
    for kind, count in counts.items():
        studies.setdefault((kind.study_instance_uid, kind.patient_id), Counter())[kind.sop_class_uid] += count
    return tuple(
        StudyInstances(study, patient_id, tuple(sorted(numbers.items())))
        for (study, patient_id), numbers in studies.items()
    )
