"""
The message of each event, PS3.15 A.5.3: who takes part, and which objects are named.

Patient identifiers stand here and in no other log. Names and other values of a data set do not: a query's identifier
is recorded as it came, for that is what A.5.3.10 asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from pacs.events import StudyInstances
from pacs.security.audit import codes
from pacs.security.audit.codes import AlertKind, Outcome
from pacs.security.audit.messages import REMEMBERED_PARTS, ActiveParticipant, AuditMessage, ParticipantObject

PERSON: Final = "1"
SYSTEM_OBJECT: Final = "2"
AS_PATIENT: Final = "1"
AS_REPORT: Final = "3"
AS_SECURITY_RESOURCE: Final = "13"
RECORDED_QUERY_BYTES: Final = 16 * 1024  # a longer identifier is cut, and its length and hash are recorded


LONGEST_NAME: Final = 256  # characters of what a peer calls itself or a thing; a record stays within some KB
LONGEST_SUBJECT: Final = 1024


class Party(NamedTuple):
    """One side of what happened: an application entity or a user, and where it is."""

    ae_title: str
    address: str = ""
    is_user: bool = False

    def as_participant(self, *, is_requestor: bool, role: codes.Code | None = None) -> ActiveParticipant:
        """Give it as the schema has it; a node's identifier is its address, or else its AE title."""
        name = self.ae_title[:LONGEST_NAME]
        if self.is_user:
            return ActiveParticipant(name, is_requestor, role, (), name, self.address)
        titles = (name,) if name else ()
        return ActiveParticipant(self.address or name or "unknown", is_requestor, role, titles, "", self.address)


def study_object(study: StudyInstances, *, is_anonymized: bool = False) -> ParticipantObject:
    """Give a study as participant object."""
    return ParticipantObject(
        object_id=study.study_instance_uid[:LONGEST_NAME] or "unknown",
        id_type=codes.ID_STUDY_INSTANCE_UID,
        type_code=SYSTEM_OBJECT,
        role=AS_REPORT,
        instances=study.number_by_sop_class,
        is_anonymized=is_anonymized,
    )


def patient_object(patient_id: str) -> ParticipantObject:
    """Give a patient as participant object, by identifier alone."""
    return ParticipantObject(
        object_id=patient_id[:LONGEST_NAME] or "unknown",
        id_type=codes.ID_PATIENT_NUMBER,
        type_code=PERSON,
        role=AS_PATIENT,
    )


def _subjects(study: StudyInstances, *, is_anonymized: bool = False) -> tuple[ParticipantObject, ...]:
    return (study_object(study, is_anonymized=is_anonymized), patient_object(study.patient_id))


@dataclass(frozen=True, slots=True)
class Builder:
    """
    Makes messages from this server's point of view.

    Attributes:
        process_id: of this process, as its log knows it.
    """

    ae_title: str
    host: str
    process_id: str

    def ourselves(self, *, is_requestor: bool = False, role: codes.Code | None = None) -> ActiveParticipant:
        """Give this server as participant."""
        return ActiveParticipant(self.process_id, is_requestor, role, (self.ae_title,), "productionpacs", self.host)

    def application_activity(self, *, is_start: bool) -> AuditMessage:
        """A.5.3.1: this server starts or stops."""
        return AuditMessage(
            event=codes.APPLICATION_ACTIVITY,
            event_type=codes.APPLICATION_START if is_start else codes.APPLICATION_STOP,
            action="E",
            participants=(self.ourselves(role=codes.ROLE_APPLICATION),),
            is_urgent=True,
        )

    def audit_log_used(self, user: Party, uri: str) -> AuditMessage:
        """A.5.3.2: somebody reads the audit log."""
        log = ParticipantObject(uri, codes.ID_URI, SYSTEM_OBJECT, AS_SECURITY_RESOURCE, name="Security Audit Log")
        return AuditMessage(
            event=codes.AUDIT_LOG_USED,
            action="R",
            participants=(user.as_participant(is_requestor=True),),
            objects=(log,),
            is_urgent=True,
        )

    def begin_transferring(self, requestor: Party, destination: Party, study: StudyInstances) -> AuditMessage:
        """A.5.3.3: objects of one patient are about to be sent."""
        return AuditMessage(
            event=codes.BEGIN_TRANSFERRING,
            action="E",
            participants=self._way(requestor, destination),
            objects=_subjects(study),
        )

    def sent(self, requestor: Party, destination: Party, study: StudyInstances, outcome: Outcome) -> AuditMessage:
        """A.5.3.7: objects of one patient were sent."""
        return AuditMessage(
            event=codes.INSTANCES_TRANSFERRED,
            action="R",
            participants=self._way(requestor, destination),
            objects=_subjects(study),
            outcome=outcome,
        )

    def received(
        self, sender: Party, study: StudyInstances, *, is_replacement: bool, is_anonymized: bool, timestamp: datetime
    ) -> AuditMessage:
        """A.5.3.7: objects of one study were received and stored."""
        return AuditMessage(
            event=codes.INSTANCES_TRANSFERRED,
            action="U" if is_replacement else "C",
            participants=(
                sender.as_participant(is_requestor=True, role=codes.ROLE_SOURCE),
                self.ourselves(role=codes.ROLE_DESTINATION),
            ),
            objects=_subjects(study, is_anonymized=is_anonymized),
            timestamp=timestamp,
        )

    def instances_accessed(self, action: str, user: Party, study: StudyInstances) -> AuditMessage:
        """A.5.3.6: objects were looked at, changed or deleted."""
        return AuditMessage(
            event=codes.INSTANCES_ACCESSED,
            action=action,
            participants=(user.as_participant(is_requestor=True), self.ourselves()),
            objects=_subjects(study),
        )

    def study_deleted(self, user: Party, study: StudyInstances) -> AuditMessage:
        """A.5.3.8: a whole study was deleted."""
        return AuditMessage(
            event=codes.STUDY_DELETED,
            action="D",
            participants=(user.as_participant(is_requestor=True), self.ourselves()),
            objects=_subjects(study),
            is_urgent=True,
        )

    def export(self, user: Party, destination: str, studies: Sequence[StudyInstances]) -> AuditMessage:
        """A.5.3.4: objects left on media, or to where this server does not rule."""
        return AuditMessage(
            event=codes.EXPORT,
            action="R",
            participants=(
                user.as_participant(is_requestor=True),
                self.ourselves(role=codes.ROLE_SOURCE),
                ActiveParticipant(destination, is_requestor=False, role=codes.ROLE_DESTINATION_MEDIA),
            ),
            objects=tuple(item for study in studies for item in _subjects(study)),
            is_urgent=True,
        )

    def procedure_record(self, action: str, user: Party, study: StudyInstances, *, timestamp: datetime) -> AuditMessage:
        """A.5.3 and CID 400: a scheduled or performed procedure step was made (C), changed (U) or removed (D)."""
        return AuditMessage(
            event=codes.PROCEDURE_RECORD,
            action=action,
            participants=(user.as_participant(is_requestor=True), self.ourselves()),
            objects=_subjects(study),
            timestamp=timestamp,
        )

    def commitment(
        self,
        requestor: Party,
        study: StudyInstances,
        *,
        transaction_uid: str,
        outcome: Outcome,
        description: str,
        timestamp: datetime,
    ) -> AuditMessage:
        """A.5.3.6: objects were read to answer a request for storage commitment; what came of it is the outcome."""
        named = study_object(study)
        details = {**named.details, "TransactionUID": transaction_uid.encode()}
        return AuditMessage(
            event=codes.INSTANCES_ACCESSED,
            action="R",
            participants=(requestor.as_participant(is_requestor=True), self.ourselves()),
            objects=(named._replace(details=details), patient_object(study.patient_id)),
            outcome=outcome,
            outcome_description=description,
            timestamp=timestamp,
        )

    def network_entry(self, *, is_attach: bool) -> AuditMessage:
        """A.5.3.9: this server begins or ceases to listen."""
        return AuditMessage(
            event=codes.NETWORK_ENTRY,
            event_type=codes.ATTACH if is_attach else codes.DETACH,
            action="E",
            participants=(self.ourselves(),),
        )

    def query(
        self, asker: Party, *, sop_class_uid: str, transfer_syntax_uid: str, identifier: bytes, timestamp: datetime
    ) -> AuditMessage:
        """A.5.3.10: a query was answered."""
        details = {"TransferSyntax": transfer_syntax_uid.encode()} if transfer_syntax_uid else {}
        if len(identifier) > RECORDED_QUERY_BYTES:
            details["QueryLength"] = str(len(identifier)).encode()
            details["QuerySHA256"] = hashlib.sha256(identifier).hexdigest().encode()
        asked = ParticipantObject(
            object_id=sop_class_uid[:LONGEST_NAME] or "unknown",
            id_type=codes.ID_SOP_CLASS_UID,
            type_code=SYSTEM_OBJECT,
            role=AS_REPORT,
            query=identifier[:RECORDED_QUERY_BYTES],
            details=details,
        )
        return AuditMessage(
            event=codes.QUERY,
            action="E",
            participants=_of_query(self, asker),
            objects=(asked,),
            timestamp=timestamp,
        )

    def security_alert(
        self, kind: AlertKind, description: str, *, outcome: Outcome, party: Party | None, subject: str
    ) -> AuditMessage:
        """A.5.3.11: somebody must be told."""
        who = (party.as_participant(is_requestor=False),) if party is not None else ()
        about = ParticipantObject(
            object_id=subject[:LONGEST_SUBJECT] or self.ae_title,
            id_type=codes.ID_NODE if not subject else codes.ID_URI,
            type_code=SYSTEM_OBJECT,
            role=AS_SECURITY_RESOURCE,
            details={"Alert Description": description.encode()},
        )
        return AuditMessage(
            event=codes.SECURITY_ALERT,
            event_type=kind.value,
            action="E",
            participants=(self.ourselves(is_requestor=True), *who),
            objects=(about,),
            outcome=outcome,
            outcome_description=description,
            is_urgent=True,
        )

    def user_authentication(self, user: Party, *, is_login: bool, outcome: Outcome, description: str) -> AuditMessage:
        """A.5.3.12: somebody logged in or out, or tried to."""
        return AuditMessage(
            event=codes.USER_AUTHENTICATION,
            event_type=codes.LOGIN if is_login else codes.LOGOUT,
            action="E",
            participants=(user.as_participant(is_requestor=True), self.ourselves()),
            outcome=outcome,
            outcome_description=description,
            is_urgent=True,
        )

    def _way(self, requestor: Party, destination: Party) -> tuple[ActiveParticipant, ...]:
        is_same = requestor == destination
        ways = (
            self.ourselves(role=codes.ROLE_SOURCE),
            destination.as_participant(is_requestor=is_same, role=codes.ROLE_DESTINATION),
        )
        return ways if is_same else (*ways, requestor.as_participant(is_requestor=True))


@lru_cache(maxsize=REMEMBERED_PARTS)
def _of_query(builder: Builder, asker: Party) -> tuple[ActiveParticipant, ...]:
    return (
        asker.as_participant(is_requestor=True, role=codes.ROLE_SOURCE),
        builder.ourselves(role=codes.ROLE_DESTINATION),
    )
