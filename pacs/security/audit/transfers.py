"""
Objects that arrive, gathered into one message for each study and sender: auditing must not cost what storing costs.

A message is due when the sender's last association has ended, after ten seconds, or after 500 objects, whatever comes
first; a crash loses the record of no more than that. (The objects themselves are durable, and their index rows name
their sender and time.)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pacs.events import AssociationClosed, AssociationOpened, ImageReceived, StudyInstances
from pacs.security.audit.builders import Builder, Party
from pacs.security.audit.messages import AuditMessage

LONGEST_GATHERING_S: Final = 10.0
MOST_OBJECTS: Final = 500

_Sender = tuple[str, str]
_Key = tuple[str, str, str, str, bool, bool]


@dataclass(slots=True)
class _Gathered:
    """What has arrived of one study."""

    began_s: float
    timestamp: datetime
    number: int = 0
    number_by_sop_class: dict[str, int] = field(default_factory=dict)


class TransferGatherer:
    """Counts what arrives; lives in the reactor's thread."""

    def __init__(
        self,
        *,
        builder: Builder,
        put: Callable[[AuditMessage], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._builder = builder
        self._put = put
        self._monotonic_s = monotonic_s
        self._gathered: dict[_Key, _Gathered] = {}
        self._open: Counter[_Sender] = Counter()

    def received(self, event: ImageReceived) -> None:
        """Count an object."""
        key = (
            event.calling_ae,
            event.peer_address,
            event.study_instance_uid,
            event.patient_id,
            event.is_replacement,
            event.anonymized,
        )
        gathered = self._gathered.get(key)
        if gathered is None:
            gathered = self._gathered[key] = _Gathered(self._monotonic_s(), event.timestamp)
        numbers = gathered.number_by_sop_class
        numbers[event.sop_class_uid] = numbers.get(event.sop_class_uid, 0) + 1
        gathered.number += 1
        if gathered.number >= MOST_OBJECTS:
            self._write(key)

    def association_opened(self, event: AssociationOpened) -> None:
        """Know that a sender is there."""
        self._open[(event.calling_ae, event.peer_address)] += 1

    def association_closed(self, event: AssociationClosed) -> None:
        """Know that a sender has gone."""
        sender = (event.calling_ae, event.peer_address)
        self._open[sender] -= 1
        if self._open[sender] <= 0:
            del self._open[sender]

    def write_due(self) -> None:
        """Write the messages that are due; called each second."""
        if not self._gathered:
            return
        latest_s = self._monotonic_s() - LONGEST_GATHERING_S
        for key in [k for k, g in self._gathered.items() if g.began_s <= latest_s or k[:2] not in self._open]:
            self._write(key)

    def write_all(self) -> None:
        """Write whatever there is."""
        for key in list(self._gathered):
            self._write(key)

    def _write(self, key: _Key) -> None:
        gathered = self._gathered.pop(key)
        calling_ae, peer_address, study_instance_uid, patient_id, is_replacement, is_anonymized = key
        self._put(
            self._builder.received(
                Party(calling_ae, peer_address),
                StudyInstances(study_instance_uid, patient_id, tuple(gathered.number_by_sop_class.items())),
                is_replacement=is_replacement,
                is_anonymized=is_anonymized,
                timestamp=gathered.timestamp,
            )
        )
