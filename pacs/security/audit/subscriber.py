"""
From the server's events to the audit log.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from twisted.internet.task import LoopingCall

from pacs.events import (
    AccessDenied,
    AssociationClosed,
    AssociationOpened,
    AssociationRejected,
    CommitmentCompleted,
    ConnectionAborted,
    DeidentificationRefused,
    EventBus,
    ImageReceived,
    InstanceDeleted,
    InstancesAccessed,
    IntegrityAlarm,
    MPPSChanged,
    PseudonymResolved,
    QueryExecuted,
    RetrieveCompleted,
    RetrieveStarted,
    StudyInstances,
    TokenChanged,
    UserAuthenticated,
    WorklistChanged,
)
from pacs.security.audit.builders import Party
from pacs.security.audit.codes import AlertKind, Outcome
from pacs.security.audit.log import AuditLog
from pacs.security.audit.transfers import TransferGatherer

LOOK_INTERVAL_S: Final = 1.0

ACTIONS: Final = {"created": "C", "deleted": "D"}
OUTCOMES: Final = {"success": Outcome.SUCCESS, "warning": Outcome.MINOR_FAILURE, "canceled": Outcome.MINOR_FAILURE}

COMMITMENT_OUTCOMES: Final = {
    "success": Outcome.SUCCESS,
    "failures": Outcome.MINOR_FAILURE,
    "unreported": Outcome.SERIOUS_FAILURE,
}


class AuditSubscriber:
    """Listens to the events that PS3.15 A.5.3 wants recorded."""

    def __init__(self, *, audit: AuditLog, bus: EventBus, reactor: Any) -> None:
        self._audit = audit
        self._bus = bus
        self._transfers = TransferGatherer(builder=audit.build, put=audit.put)
        self._looking = LoopingCall(self._transfers.write_due)
        self._looking.clock = reactor

    def start(self) -> None:
        """Subscribe."""
        bus, transfers = self._bus, self._transfers
        bus.subscribe(ImageReceived, transfers.received)
        bus.subscribe(AssociationOpened, transfers.association_opened)
        bus.subscribe(AssociationClosed, transfers.association_closed)
        bus.subscribe(AssociationRejected, self._rejected)
        bus.subscribe(ConnectionAborted, self._aborted)
        bus.subscribe(AccessDenied, self._denied)
        bus.subscribe(UserAuthenticated, self._authenticated)
        bus.subscribe(IntegrityAlarm, self._alarmed)
        bus.subscribe(DeidentificationRefused, self._not_deidentified)
        bus.subscribe(PseudonymResolved, self._resolved)
        bus.subscribe(TokenChanged, self._token_changed)
        bus.subscribe(QueryExecuted, self._queried)
        bus.subscribe(RetrieveStarted, self._retrieve_started)
        bus.subscribe(RetrieveCompleted, self._retrieve_completed)
        bus.subscribe(InstanceDeleted, self._deleted)
        bus.subscribe(InstancesAccessed, self._accessed)
        bus.subscribe(WorklistChanged, self._worklist_changed)
        bus.subscribe(MPPSChanged, self._mpps_changed)
        bus.subscribe(CommitmentCompleted, self._commitment_completed)
        self._looking.start(LOOK_INTERVAL_S, now=False)

    def stop(self) -> None:
        """Record what is still gathered."""
        if self._looking.running:
            self._looking.stop()
        self._transfers.write_all()

    def _rejected(self, event: AssociationRejected) -> None:
        if not event.is_transient:
            self._audit.security_alert(
                AlertKind.NODE_AUTHENTICATION,
                f"association rejected: {event.reason}",
                user=event.calling_ae,
                peer_address=event.peer_address,
            )

    def _aborted(self, event: ConnectionAborted) -> None:
        self._audit.security_alert(
            AlertKind.NODE_AUTHENTICATION,
            "connection aborted: it does not speak DICOM",
            peer_address=event.peer_address,
        )

    def _denied(self, event: AccessDenied) -> None:
        self._audit.security_alert(
            AlertKind.RESTRICTED_FUNCTION,
            f"{event.operation} denied: {event.reason}",
            user=event.calling_ae,
            peer_address=event.peer_address,
        )

    def _authenticated(self, event: UserAuthenticated) -> None:
        self._audit.user_authentication(
            "" if event.is_one_too_many else event.user,  # who tries one name after the other fills no disk
            peer_address=event.peer_address,
            is_success=event.is_success,
            is_login=event.is_login,
            description=event.method,
        )
        if event.is_one_too_many:
            self._audit.security_alert(
                AlertKind.NODE_AUTHENTICATION,
                "more than ten failed logins in a minute",
                peer_address=event.peer_address,
            )

    def _alarmed(self, event: IntegrityAlarm) -> None:
        self._audit.security_alert(
            AlertKind.OBJECT_SECURITY_ATTRIBUTES_CHANGED,
            event.description,
            user=event.calling_ae,
            peer_address=event.peer_address,
            subject=event.subject,
            outcome=Outcome.SERIOUS_FAILURE,
        )

    def _not_deidentified(self, event: DeidentificationRefused) -> None:
        self._audit.security_alert(
            AlertKind.OBJECT_SECURITY_ATTRIBUTES_CHANGED,
            f"not de-identified, not kept: {event.rule} {event.tag}".rstrip(),
            user=event.calling_ae,
            peer_address=event.peer_address,
            outcome=Outcome.SERIOUS_FAILURE,
        )

    def _resolved(self, event: PseudonymResolved) -> None:
        self._audit.security_alert(
            AlertKind.RESTRICTED_FUNCTION,
            f"{event.action} {event.pseudonym}: {'done' if event.found else 'the vault does not know it'}",
            user=event.user,
            outcome=Outcome.SUCCESS if event.found else Outcome.MINOR_FAILURE,
        )

    def _token_changed(self, event: TokenChanged) -> None:
        self._audit.security_alert(
            AlertKind.USER_SECURITY_ATTRIBUTES_CHANGED,
            f"API token {event.token_id}: {event.change}",
            user=event.user,
            peer_address=event.peer_address,
            subject=event.token_id,
            outcome=Outcome.SUCCESS,
        )

    def _queried(self, event: QueryExecuted) -> None:
        message = self._audit.build.query(
            Party(event.calling_ae, event.peer_address),
            sop_class_uid=event.sop_class_uid,
            transfer_syntax_uid=event.transfer_syntax_uid,
            identifier=event.identifier,
            timestamp=event.timestamp,
        )
        self._audit.put(message)

    def _retrieve_started(self, event: RetrieveStarted) -> None:
        requestor = Party(event.calling_ae, event.peer_address)
        destination = Party(event.destination_ae, event.destination_address)
        for study in event.studies:
            self._audit.put(self._audit.build.begin_transferring(requestor, destination, study))

    def _retrieve_completed(self, event: RetrieveCompleted) -> None:
        requestor = Party(event.calling_ae, event.peer_address)
        destination = Party(event.destination_ae, event.destination_address)
        outcome = OUTCOMES.get(event.outcome, Outcome.SERIOUS_FAILURE)
        for study in event.studies:
            self._audit.put(self._audit.build.sent(requestor, destination, study, outcome))

    def _deleted(self, event: InstanceDeleted) -> None:
        user = Party(event.user, event.peer_address, is_user=True)
        study = StudyInstances(event.study_instance_uid, event.patient_id, event.number_by_sop_class)
        if event.level == "study":
            self._audit.put(self._audit.build.study_deleted(user, study))
        else:
            self._audit.put(self._audit.build.instances_accessed("D", user, study))

    def _worklist_changed(self, event: WorklistChanged) -> None:
        if event.action == "status":
            return  # it follows a performed step, which is recorded
        action = ACTIONS.get(event.action, "U")
        user = Party(event.user, event.peer_address)
        self._procedure(action, user, event.study_instance_uid, event.patient_id, event.timestamp)

    def _mpps_changed(self, event: MPPSChanged) -> None:
        action = ACTIONS.get(event.action, "U")
        user = Party(event.calling_ae, event.peer_address)
        self._procedure(action, user, event.study_instance_uid, event.patient_id, event.timestamp)

    def _commitment_completed(self, event: CommitmentCompleted) -> None:
        requestor = Party(event.calling_ae, event.peer_address)
        outcome = COMMITMENT_OUTCOMES[event.outcome]
        description = f"storage commitment: {event.committed} committed, {event.failed} not"
        if event.reason:
            description += f"; not reported: {event.reason}"
        for study in event.studies or (StudyInstances("", ""),):
            self._audit.put(
                self._audit.build.commitment(
                    requestor,
                    study,
                    transaction_uid=event.transaction_uid,
                    outcome=outcome,
                    description=description,
                    timestamp=event.timestamp,
                )
            )

    def _procedure(self, action: str, user: Party, study_uid: str, patient_id: str, timestamp: datetime) -> None:
        study = StudyInstances(study_uid or "unknown", patient_id)
        self._audit.put(self._audit.build.procedure_record(action, user, study, timestamp=timestamp))

    def _accessed(self, event: InstancesAccessed) -> None:
        user = Party(event.user, event.peer_address, is_user=True)
        for study in event.studies:
            self._audit.put(self._audit.build.instances_accessed(event.action, user, study))
