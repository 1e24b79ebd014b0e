"""
Those who work in the department, each a thread that does as such a device does: modalities and workstations.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any, Final
from uuid import uuid4

from bench.department_data import (
    COMMITMENT,
    CT,
    KINDS,
    MPPS,
    MR,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    WELL_KNOWN_INSTANCE,
    WORKLIST,
    Diary,
    Exam,
    Report,
    commitment_request,
    decode,
    fingerprint,
    image,
    read_report,
    step_begun,
    step_ended,
    study_identifier,
    study_keys,
    text,
    worklist_keys,
)
from bench.load import Refused
from bench.wire import Association
from pacs.dataset.values import Values
from pacs.dimse import (
    CFindRQ,
    CGetRQ,
    Command,
    CStoreRQ,
    NActionRQ,
    NCreateRQ,
    NEventReportRQ,
    NSetRQ,
    Response,
)

THINKING_S: Final = (0.5, 2.0)
ONE_IN_STAYS: Final = 2  # every second examination waits for its report on the association
ONE_IN_LIES: Final = 10  # every tenth asks for an object that was never stored
ONE_IN_FAILS: Final = 20  # every twentieth is discontinued
REPORT_WAIT_S: Final = 60.0


@dataclass(frozen=True)
class Place:
    """Where the server is, and for how long the department works."""

    port: int
    called: str
    certificate: Path
    ends_s: float
    """On the monotonic clock."""

    def tls(self) -> ssl.SSLContext:
        """Give the clients' context."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


class Actor(threading.Thread):
    """Whoever works until the end."""

    def __init__(self, place: Place, ae_title: str, tell: Callable[[tuple[str, Any]], None]) -> None:
        super().__init__(name=ae_title, daemon=True)
        self.diary = Diary()
        self.random = random.Random(ae_title)
        self.ae_title = ae_title
        self._place = place
        self._tls = place.tls()
        self._tell = tell

    def run(self) -> None:
        """Do one thing after the other."""
        while time.monotonic() < self._place.ends_s:
            try:
                self.once()
            except (Refused, OSError, AssertionError, KeyError) as error:
                self.diary.faults.append(f"{self.ae_title}: {type(error).__name__}: {error}")

    def once(self) -> None:
        """Do what such a device does."""
        raise NotImplementedError

    def think(self) -> None:
        """Let a while pass, as people do."""
        time.sleep(self.random.uniform(*THINKING_S))

    def associate(self, *abstract_syntaxes: str, **options: Any) -> Association:
        """Open an association."""
        started_s = time.monotonic()
        association = Association(
            self._place.port,
            called=self._place.called,
            calling=self.ae_title,
            abstract_syntaxes=abstract_syntaxes,
            tls=self._tls,
            **options,
        )
        self.diary.associations += 1
        self.diary.note("associate", started_s)
        return association

    def call(
        self, association: Association, name: str, abstract_syntax: str, request: Any, data_set: bytes | None
    ) -> list[tuple[Response, bytes]]:
        """Send a request, and note how long it took."""
        started_s = time.monotonic()
        answers = association.call(abstract_syntax, request, data_set)
        self.diary.note(name, started_s)
        status = answers[-1][0].status
        self.diary.statuses[request.operation, status] += 1
        if status:
            self.diary.faults.append(f"{self.ae_title}: {name} is answered {status:04X}")
        return answers


class Modality(Actor):
    """Fetches the worklist, reports the step, stores, asks for commitment."""

    def __init__(self, place: Place, number: int, tell: Callable[[tuple[str, Any]], None]) -> None:
        self.kind = KINDS[number % len(KINDS)]
        super().__init__(place, f"{self.kind.modality}_SCANNER_{number}", tell)
        self._exams = number  # not all do what is rare at the same time
        self._reports: dict[str, Report] = {}

    def once(self) -> None:
        item = self._next_item()
        if item is None:
            self.think()
            return
        self._exams += 1
        exam = Exam(
            self.ae_title,
            self.kind,
            text(item, 0x0020000D),
            text(item, 0x00100020),
            step_uid=f"2.25.{uuid4().int}",
            is_completed=self._exams % ONE_IN_FAILS != 0,
        )
        self._tell(("begun", self.ae_title))
        self._begin(exam, item)
        self.think()
        self._store(exam, item)
        self._end(exam)
        self.diary.exams.append(exam)
        self._commit(exam)
        self._tell(("exam", exam))
        self.think()

    def _next_item(self) -> Values | None:
        association = self.associate(WORKLIST)
        items = self._worklist(association)
        association.release()
        scheduled = [item for item in items if text((item[0x00400100].items or ({},))[0], 0x00400020) == "SCHEDULED"]
        return scheduled[0] if scheduled else None

    def _worklist(self, association: Association) -> list[Values]:
        request = CFindRQ(message_id=association.next_message_id(), affected_sop_class_uid=WORKLIST, has_data_set=True)
        answers = self.call(association, "worklist C-FIND", WORKLIST, request, worklist_keys(self.ae_title))
        self.diary.matches += len(answers) - 1
        return [decode(data) for _, data in answers[:-1]]

    def _begin(self, exam: Exam, item: Values) -> None:
        association = self.associate(MPPS)
        request = NCreateRQ(
            message_id=association.next_message_id(),
            affected_sop_class_uid=MPPS,
            affected_sop_instance_uid=exam.step_uid,
            has_data_set=True,
        )
        self.call(association, "MPPS N-CREATE", MPPS, request, step_begun(exam, item))
        association.release()

    def _store(self, exam: Exam, item: Values) -> None:
        kind = self.kind
        association = self.associate(kind.sop_class_uid)
        for number in range(1, kind.images + 1):
            uid, data_set = image(kind, exam, item, number)
            request = CStoreRQ(
                message_id=association.next_message_id(),
                affected_sop_class_uid=kind.sop_class_uid,
                affected_sop_instance_uid=uid,
                has_data_set=True,
            )
            size = "526 KB" if kind.side == 512 else "33 KB"
            answers = self.call(association, f"C-STORE {size}", kind.sop_class_uid, request, data_set)
            if answers[-1][0].status == 0:
                exam.objects[uid] = fingerprint(data_set)
        association.release()

    def _end(self, exam: Exam) -> None:
        association = self.associate(MPPS, WORKLIST)
        request = NSetRQ(
            message_id=association.next_message_id(),
            requested_sop_class_uid=MPPS,
            requested_sop_instance_uid=exam.step_uid,
            has_data_set=True,
        )
        self.call(association, "MPPS N-SET", MPPS, request, step_ended(exam))
        if any(text(item, 0x0020000D) == exam.study_uid for item in self._worklist(association)):
            self.diary.faults.append(f"{self.ae_title}: an item that is done is still in the worklist")
        association.release()

    def _commit(self, exam: Exam) -> None:
        """Ask; every other time wait for the report on the association, else let it come over a new one."""
        exam.transaction_uid = f"2.25.{uuid4().int}"
        if self._exams % ONE_IN_LIES == 0:
            exam.never_stored = (f"{exam.study_uid}.9.1",)
        stays = self._exams % ONE_IN_STAYS == 0
        association = self.associate(COMMITMENT, serve=self._take_report)
        request = NActionRQ(
            message_id=association.next_message_id(),
            requested_sop_class_uid=COMMITMENT,
            requested_sop_instance_uid=WELL_KNOWN_INSTANCE,
            action_type_id=1,
            has_data_set=True,
        )
        exam.asked_s = time.monotonic()
        self.call(association, "commitment N-ACTION", COMMITMENT, request, commitment_request(exam))
        if stays:
            association.socket.settimeout(REPORT_WAIT_S)
            while exam.transaction_uid not in self._reports:
                association.serve_one()
        association.release()
        report = self._reports.pop(exam.transaction_uid, None)
        if report is not None:
            exam.committed, exam.failed, exam.reported_s = report.committed, dict(report.failed), report.received_s

    def _take_report(self, command: Command, data_set: bytes) -> Response:
        assert isinstance(command, NEventReportRQ), command.operation
        report = read_report(data_set)
        self._reports[report.transaction_uid] = report
        return command.response(0)


class Workstation(Actor):
    """Looks for a patient whose examination has ended, and retrieves the study."""

    def __init__(self, place: Place, number: int, tell: Callable[[tuple[str, Any]], None], ended: Queue[Exam]) -> None:
        super().__init__(place, f"WORKSTATION_{number}", tell)
        self._ended = ended
        self._received: dict[str, int] = {}

    def once(self) -> None:
        try:
            exam = self._ended.get(timeout=0.5)
        except Empty:
            return
        association = self.associate(STUDY_ROOT_FIND)
        request = CFindRQ(
            message_id=association.next_message_id(), affected_sop_class_uid=STUDY_ROOT_FIND, has_data_set=True
        )
        answers = self.call(association, "study C-FIND", STUDY_ROOT_FIND, request, study_keys(exam.patient_id))
        self.diary.matches += len(answers) - 1
        found = {text(values, 0x0020000D): text(values, 0x00201208) for values in (decode(d) for _, d in answers[:-1])}
        if found != {exam.study_uid: str(len(exam.objects))}:
            self.diary.faults.append(f"{self.ae_title}: a patient's studies are not found as they are")
        association.release()
        self._retrieve(exam)
        self.think()

    def _retrieve(self, exam: Exam) -> None:
        association = self.associate(STUDY_ROOT_GET, stores=(CT, MR), serve=self._take_object)
        request = CGetRQ(
            message_id=association.next_message_id(), affected_sop_class_uid=STUDY_ROOT_GET, has_data_set=True
        )
        self._received = {}
        name = f"C-GET {exam.kind.images} {exam.kind.modality}"
        self.call(association, name, STUDY_ROOT_GET, request, study_identifier(exam.study_uid))
        association.release()
        self.diary.retrievals += 1
        self.diary.retrieved += len(self._received)
        if self._received != exam.objects:
            self.diary.faults.append(f"{self.ae_title}: what is retrieved is not what was stored")

    def _take_object(self, command: Command, data_set: bytes) -> Response:
        assert isinstance(command, CStoreRQ), command.operation
        self._received[command.affected_sop_instance_uid] = fingerprint(data_set)
        return command.response(0)


def work(place: Place, numbers: list[int], told: Queue[tuple[str, Any]], ended: Queue[Exam] | None) -> None:
    """Be some modalities, or with a queue of ended examinations some workstations; runs in a process of its own."""
    actors: list[Actor] = [
        Modality(place, number, told.put) if ended is None else Workstation(place, number, told.put, ended)
        for number in numbers
    ]
    for actor in actors:
        actor.start()
    diary = Diary()
    for actor in actors:
        actor.join()
        diary.add(actor.diary)
    told.put(("diary", diary))
