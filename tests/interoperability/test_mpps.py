"""
Performed procedure steps as modalities report them: the usual sequences, and what is refused (PS3.4 F.7 to F.9).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association

from pacs.dimse import NEventReportRQ
from tests.audit import wait_for_record
from tests.dicom import EXPLICIT, Client
from tests.server import AE_TITLE, Server
from tests.worklist import MODALITY_AE, accession_numbers, find, keys, pacsctl, scheduled, write_wl

MPPS = "1.2.840.10008.3.1.2.3.3"
RETRIEVE = "1.2.840.10008.3.1.2.3.4"
NOTIFICATION = "1.2.840.10008.3.1.2.3.5"

SUCCESS, INVALID_VALUE, FAILURE, DUPLICATE, NO_SUCH_INSTANCE = 0x0000, 0x0106, 0x0110, 0x0111, 0x0112
MISSING, MISSING_VALUE, NOT_AUTHORIZED, WRONG_OPERATION = 0x0120, 0x0121, 0x0124, 0x0211


class Checkpoint(threading.Event):
    """
    What pauses the reader of an association while a request of its user is answered.

    pynetdicom's own may be closed just after the reader has passed it, on a busy machine: the reader then takes the
    response, and calls it unexpected.
    """

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association: Any = association
        self._passing = threading.Lock()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        while True:
            super().wait(timeout)
            with self._passing:
                if self.is_set():
                    self._association._is_paused = False
                    return True

    def clear(self) -> None:
        with self._passing:
            super().clear()


@contextmanager
def modality(
    server: Server, *abstract_syntaxes: str, calling: str = MODALITY_AE, handlers: list[Any] | None = None
) -> Iterator[Association]:
    """Associate as a modality does."""
    contexts = [build_context(uid) for uid in abstract_syntaxes or (MPPS, RETRIEVE)]
    association = AE(calling).associate(
        "127.0.0.1", server.port, contexts, ae_title=AE_TITLE, evt_handlers=handlers or []
    )
    assert association.is_established
    association._reactor_checkpoint = Checkpoint(association)
    yield association
    association.release()


def in_progress(number: int = 1) -> Dataset:
    """Give what a modality sends when it begins the step of a worklist item."""
    step = Dataset()
    reference = Dataset()
    reference.StudyInstanceUID = f"1.2.826.0.1.{number}"
    reference.ReferencedStudySequence = []
    reference.AccessionNumber = f"ACC{number}"
    reference.RequestedProcedureID = f"RP{number}"
    reference.RequestedProcedureDescription = f"procedure {number}"
    reference.ScheduledProcedureStepID = f"SPS{number}"
    reference.ScheduledProcedureStepDescription = f"step {number}"
    reference.ScheduledProtocolCodeSequence = []
    step.ScheduledStepAttributesSequence = [reference]
    step.PatientName = "Doe^Jane"
    step.PatientID = f"PID{number}"
    step.PatientBirthDate = "19610102"
    step.PatientSex = "F"
    step.ReferencedPatientSequence = []
    step.PerformedProcedureStepID = f"PPS{number}"
    step.PerformedStationAETitle = MODALITY_AE
    step.PerformedStationName = "CT"
    step.PerformedLocation = ""
    step.PerformedProcedureStepStartDate = "20261125"
    step.PerformedProcedureStepStartTime = "100500"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PerformedProcedureStepDescription = ""
    step.PerformedProcedureTypeDescription = ""
    step.ProcedureCodeSequence = []
    step.PerformedProcedureStepEndDate = ""
    step.PerformedProcedureStepEndTime = ""
    step.Modality = "CT"
    step.StudyID = "1"
    step.PerformedProtocolCodeSequence = []
    step.PerformedSeriesSequence = []
    return step


def ended(status: str = "COMPLETED", *, images: int = 2) -> Dataset:
    """Give what a modality sends at the end."""
    changes = Dataset()
    changes.PerformedProcedureStepStatus = status
    changes.PerformedProcedureStepEndDate = "20261125"
    changes.PerformedProcedureStepEndTime = "102000"
    series = Dataset()
    series.SeriesInstanceUID = "1.2.826.0.1.1.1"
    series.SeriesDescription = "thorax"
    series.ProtocolName = "THORAX"
    series.PerformingPhysicianName = ""
    series.OperatorsName = "Müller^Jörg"
    series.RetrieveAETitle = ""
    series.ReferencedImageSequence = [image(number) for number in range(images)]
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    changes.SpecificCharacterSet = "ISO_IR 100"
    changes.PerformedSeriesSequence = [series]
    return changes


def image(number: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = f"1.2.826.0.1.1.1.{number + 1}"
    return item


def create(association: Association, step: Dataset, uid: str | None) -> Dataset:
    status, _ = association.send_n_create(step, MPPS, uid)
    return status


def change(association: Association, changes: Dataset, uid: str) -> Dataset:
    status, _ = association.send_n_set(changes, MPPS, uid)
    return status


def get(association: Association, uid: str, tags: list[int] | None = None) -> tuple[int, Dataset | None]:
    status, step = association.send_n_get([Tag(tag) for tag in tags or []], RETRIEVE, uid)
    return status.Status, step


ANY_STATUS = ["SCHEDULED", "STARTED", "COMPLETED", "DISCONTINUED"]
ROLES = {"security": {"access_control": {"default_role": "viewer", "grants": [
    {"role": "technologist", "ae_titles": [MODALITY_AE]}, {"role": "none", "ae_titles": ["NOBODY"]},
]}}}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server for all tests, with an item for each: they use different numbers."""
    directory = tmp_path_factory.mktemp("mpps")
    server = with_items(directory, *range(1, 10))
    server.start()
    yield server
    assert server.stop() == 0


def with_items(directory: Path, *numbers: int) -> Server:
    server = Server(directory, ROLES)
    write_wl(directory / "wl", tuple(scheduled(number) for number in numbers))
    pacsctl(server, "import", str(directory / "wl"))
    return server


def status_of(server: Server, number: int) -> str:
    """Give the status of an item, whatever it is."""
    identifier = keys(ScheduledProcedureStepStatus=ANY_STATUS)
    identifier.AccessionNumber = f"ACC{number}"
    (answer,) = find(server.port, identifier)
    return str(answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus)


def is_answered(server: Server, number: int) -> bool:
    """Whether an item is in the default answers."""
    identifier = keys()
    identifier.AccessionNumber = f"ACC{number}"
    return bool(find(server.port, identifier))


def test_a_step_goes_its_way_and_the_worklist_follows(server: Server) -> None:
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(), uid).Status == SUCCESS
        assert status_of(server, 1) == "STARTED"
        assert status_of(server, 2) == "SCHEDULED"
        assert is_answered(server, 1)

        half = Dataset()
        half.PerformedProcedureStepDescription = "thorax without contrast"
        assert change(association, half, uid).Status == SUCCESS
        assert change(association, ended(), uid).Status == SUCCESS
    assert status_of(server, 1) == "COMPLETED"
    assert not is_answered(server, 1)
    assert is_answered(server, 9)
    assert "ACC1" in accession_numbers(find(server.port, keys(ScheduledProcedureStepStatus="COMPLETED")))

    with modality(server, calling="ANYBODY") as association:
        status, step = get(association, uid)
    assert status == SUCCESS
    assert step is not None
    assert step.PerformedProcedureStepStatus == "COMPLETED"
    assert step.PerformedProcedureStepDescription == "thorax without contrast"
    assert step.PatientName == "Doe^Jane"
    assert step.ScheduledStepAttributesSequence[0].ScheduledProcedureStepID == "SPS1"
    (series,) = step.PerformedSeriesSequence
    assert str(series.OperatorsName) == "Müller^Jörg"
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedImageSequence] == [
        "1.2.826.0.1.1.1.1",
        "1.2.826.0.1.1.1.2",
    ]


def test_a_step_that_is_given_up_leaves_the_worklist(server: Server) -> None:
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(2), uid).Status == SUCCESS
        changes = ended("DISCONTINUED")
        changes.PerformedSeriesSequence = []
        assert change(association, changes, uid).Status == SUCCESS
    assert status_of(server, 2) == "DISCONTINUED"
    assert not is_answered(server, 2)


def test_a_second_step_of_an_item_opens_it_again(server: Server) -> None:
    first, second = generate_uid(), generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(3), first).Status == SUCCESS
        assert change(association, ended("DISCONTINUED"), first).Status == SUCCESS
        assert status_of(server, 3) == "DISCONTINUED"
        assert create(association, in_progress(3), second).Status == SUCCESS
        assert status_of(server, 3) == "STARTED"
        assert change(association, ended(), second).Status == SUCCESS
        assert status_of(server, 3) == "COMPLETED"


def test_one_step_for_several_items_takes_all_of_them_along(server: Server) -> None:
    """The group case: one performed step fulfills several requested procedures; then what was done is appended."""
    uid = generate_uid()
    step = in_progress(6)
    step.ScheduledStepAttributesSequence.append(in_progress(7).ScheduledStepAttributesSequence[0])
    with modality(server) as association:
        assert create(association, step, uid).Status == SUCCESS
        assert [status_of(server, number) for number in (6, 7)] == ["STARTED", "STARTED"]
        for images in (1, 2):
            partly = ended(images=images)
            del partly.PerformedProcedureStepEndDate, partly.PerformedProcedureStepEndTime
            partly.PerformedProcedureStepStatus = "IN PROGRESS"
            assert change(association, partly, uid).Status == SUCCESS
        assert change(association, ended(images=3), uid).Status == SUCCESS
        _, kept = get(association, uid)
    assert kept is not None
    assert len(kept.PerformedSeriesSequence[0].ReferencedImageSequence) == 3
    assert [status_of(server, number) for number in (6, 7)] == ["COMPLETED", "COMPLETED"]


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_after_the_final_state_nothing_changes(server: Server, status: str) -> None:
    """PS3.4 F.7.2.2.2 and table F.7.2-2: 0110 with Error ID A710."""
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(50), uid).Status == SUCCESS
        assert change(association, ended(status), uid).Status == SUCCESS
        for changes in (ended("COMPLETED"), ended("DISCONTINUED"), in_progress(50)):
            response = change(association, changes, uid)
            assert response.Status == FAILURE
            assert response.ErrorID == 0xA710
            assert "may no longer be updated" in response.ErrorComment
        _, step = get(association, uid)
        assert step is not None
        assert step.PerformedProcedureStepStatus == status


def test_a_second_creation_is_a_duplicate(server: Server) -> None:
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(50), uid).Status == SUCCESS
        assert create(association, in_progress(50), uid).Status == DUPLICATE
        other = in_progress(50)
        other.PatientID = "SOMEBODY ELSE"
        assert create(association, other, uid).Status == DUPLICATE
        _, step = get(association, uid)
        assert step is not None
        assert step.PatientID == "PID50"


def without(keyword: str) -> Callable[[Dataset], None]:
    return lambda step: delattr(step, keyword)


def with_value(keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda step: setattr(step, keyword, value)


WRONG_CREATIONS: list[tuple[str, Callable[[Dataset], None], int]] = [
    ("no status", without("PerformedProcedureStepStatus"), MISSING),
    ("completed at once", with_value("PerformedProcedureStepStatus", "COMPLETED"), INVALID_VALUE),
    ("an unknown status", with_value("PerformedProcedureStepStatus", "MAYBE"), INVALID_VALUE),
    ("no id", without("PerformedProcedureStepID"), MISSING),
    ("an empty id", with_value("PerformedProcedureStepID", ""), MISSING_VALUE),
    ("no station", without("PerformedStationAETitle"), MISSING),
    ("no start date", without("PerformedProcedureStepStartDate"), MISSING),
    ("an empty start time", with_value("PerformedProcedureStepStartTime", ""), MISSING_VALUE),
    ("no modality", without("Modality"), MISSING),
    ("no scheduled step", without("ScheduledStepAttributesSequence"), MISSING),
    ("an empty scheduled step", with_value("ScheduledStepAttributesSequence", []), MISSING_VALUE),
    ("a scheduled step without study", with_value("ScheduledStepAttributesSequence", [Dataset()]), MISSING_VALUE),
]


def test_what_lacks_what_it_must_have_is_refused(server: Server) -> None:
    with modality(server) as association:
        for name, harm, expected in WRONG_CREATIONS:
            step = in_progress(50)
            harm(step)
            uid = generate_uid()
            response = create(association, step, uid)
            assert response.Status in (expected, MISSING), f"{name}: {response.Status:04X}"
            assert response.ErrorComment, name
            assert get(association, uid)[0] == NO_SUCH_INSTANCE, name


def test_changes_that_break_the_rules_are_refused(server: Server) -> None:
    uid = generate_uid()

    def changed(harm: Callable[[Dataset], None]) -> Dataset:
        changes = ended()
        harm(changes)
        return changes

    with modality(server) as association:
        assert change(association, ended(), uid).Status == NO_SUCH_INSTANCE
        assert create(association, in_progress(50), uid).Status == SUCCESS
        for harm, expected in (
            (with_value("PerformedProcedureStepStatus", "FINISHED"), INVALID_VALUE),
            (with_value("PerformedProcedureStepEndDate", ""), MISSING_VALUE),
            (without("PerformedProcedureStepEndTime"), MISSING_VALUE),
            (with_value("PerformedSeriesSequence", []), MISSING_VALUE),
            (with_value("PerformedSeriesSequence", [image(1)]), MISSING),
            (with_value("PatientID", "SOMEBODY ELSE"), INVALID_VALUE),
            (with_value("Modality", "MR"), INVALID_VALUE),
        ):
            assert change(association, changed(harm), uid).Status == expected
        _, step = get(association, uid)
        assert step is not None
        assert step.PerformedProcedureStepStatus == "IN PROGRESS"
        assert change(association, changed(with_value("PatientID", "PID50")), uid).Status == SUCCESS


def test_what_modalities_get_wrong_without_harm_is_tolerated(server: Server) -> None:
    """No SOP Instance UID: one is made. No attribute of type 2: empty. A step that nobody has scheduled: kept."""
    step = in_progress(77)
    for keyword in (
        "PatientSex",
        "PerformedLocation",
        "PerformedSeriesSequence",
        "StudyID",
        "ReferencedPatientSequence",
    ):
        delattr(step, keyword)
    with modality(server) as association:
        response = create(association, step, None)
        assert response.Status == SUCCESS
        named = re.search(r"without a SOP Instance UID; it is (2\.25\.\d+)", server.log())
        assert named is not None
        uid = named[1]
        status, kept = get(association, uid)
        assert status == SUCCESS
        assert kept is not None
        assert kept.PatientSex == ""
        assert list(kept.PerformedSeriesSequence) == []
        assert change(association, ended(), uid).Status == SUCCESS
    log = server.log()
    assert "that no worklist item knows; it is kept" in log
    assert "Doe" not in log
    assert "PID77" not in log


def test_a_step_of_another_patient_than_its_item_is_kept_and_logged(server: Server) -> None:
    step = in_progress(8)
    step.PatientID = "PID-OF-ANOTHER"
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, step, uid).Status == SUCCESS
    assert status_of(server, 8) == "STARTED"
    assert f"step {uid} of {MODALITY_AE} names another patient" in server.log()
    assert "PID-OF-ANOTHER" not in server.log()


def test_a_step_that_is_too_long_is_refused_and_harms_nobody(server: Server) -> None:
    step = in_progress(50)
    step.add_new(0x0040A160, "UT", "x" * (5 << 20))
    with modality(server) as association:
        assert create(association, step, generate_uid()).Status == 0x0213
        assert create(association, in_progress(50), generate_uid()).Status == SUCCESS


def test_a_step_names_every_image_of_a_long_examination(server: Server) -> None:
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(50), uid).Status == SUCCESS
        assert change(association, ended(images=20_000), uid).Status == SUCCESS
        _, kept = get(association, uid)
    assert kept is not None
    assert len(kept.PerformedSeriesSequence[0].ReferencedImageSequence) == 20_000


def test_attributes_are_given_as_they_are_asked_for(server: Server) -> None:
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(50), uid).Status == SUCCESS
        status, step = get(association, uid, [0x00100020, 0x00400252])
        assert status == SUCCESS
        assert step is not None
        assert [element.keyword for element in step] == ["PatientID", "PerformedProcedureStepStatus"]
        status, step = get(association, uid, [0x00100020, 0x00189999])
        assert status == 0x0001
        assert step is not None
        assert step.PatientID == "PID50"
        assert get(association, "1.2.3.4")[0] == NO_SUCH_INSTANCE
        wrong, _ = association.send_n_get([], MPPS, uid)
        assert wrong.Status == WRONG_OPERATION


def test_roles_decide_who_may_report_and_who_may_read(server: Server) -> None:
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(50), uid).Status == SUCCESS
    with modality(server, calling="VIEWER") as association:
        assert create(association, in_progress(50), generate_uid()).Status == NOT_AUTHORIZED
        assert change(association, ended(), uid).Status == NOT_AUTHORIZED
        assert get(association, uid)[0] == SUCCESS
    with modality(server, calling="NOBODY") as association:
        assert get(association, uid)[0] == NOT_AUTHORIZED
    assert find(server.port, keys(), calling="VIEWER") != []


def test_a_restart_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """Killed right after each answer: what was acknowledged is there."""
    server = with_items(tmp_path, 1)
    server.start()
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(), uid).Status == SUCCESS
        server.kill()
    server.start()
    assert status_of(server, 1) == "STARTED"
    with modality(server) as association:
        assert create(association, in_progress(), uid).Status == DUPLICATE
        assert change(association, ended(), uid).Status == SUCCESS
        server.kill()
    server.start()
    assert status_of(server, 1) == "COMPLETED"
    with modality(server) as association:
        assert change(association, ended(), uid).ErrorID == 0xA710
    assert server.stop() == 0


def test_changes_are_told_to_whoever_wants_notifications(server: Server) -> None:
    """PS3.4 F.9: event types 1 in progress, 4 updated, 2 completed."""
    uid = generate_uid()
    told: list[tuple[str, int]] = []

    def report(event: evt.Event) -> tuple[int, None]:
        request: Any = event.request
        told.append((str(request.AffectedSOPInstanceUID), int(request.EventTypeID)))
        return 0x0000, None

    with (
        modality(server, NOTIFICATION, calling="RIS", handlers=[(evt.EVT_N_EVENT_REPORT, report)]),
        modality(server) as association,
    ):
        assert create(association, in_progress(50), uid).Status == SUCCESS
        half = Dataset()
        half.PerformedProcedureStepDescription = "thorax"
        assert change(association, half, uid).Status == SUCCESS
        assert change(association, ended(), uid).Status == SUCCESS
        deadline_s = time.monotonic() + 10
        while len(told) < 3 and time.monotonic() < deadline_s:
            time.sleep(0.02)
    assert told == [(uid, 1), (uid, 4), (uid, 2)]


def test_the_next_change_is_told_when_the_last_was_answered(server: Server) -> None:
    """Asynchronous operations are not negotiated: one request at a time goes either way (PS3.7 D.3.3.3)."""
    uid = generate_uid()
    with Client(server.port, (NOTIFICATION, EXPLICIT), calling="RIS") as listener:
        with modality(server) as association:
            assert create(association, in_progress(50), uid).Status == SUCCESS
            half = Dataset()
            half.PerformedProcedureStepDescription = "thorax"
            assert change(association, half, uid).Status == SUCCESS
            assert change(association, ended(), uid).Status == SUCCESS
        told: list[int] = []
        for _ in range(3):
            request = listener.request()
            assert isinstance(request, NEventReportRQ)
            told.append(request.event_type_id)
            assert listener.request(within_s=0.3) is None
            listener.send_command(request.response(SUCCESS))
        assert told == [1, 4, 2]


def test_steps_and_items_are_audited(server: Server) -> None:
    uid = generate_uid()
    with modality(server) as association:
        assert create(association, in_progress(50), uid).Status == SUCCESS
    records = wait_for_record(server, "Procedure Record", number=2)
    assert any("PID50" in record["message"] and MODALITY_AE in record["message"] for record in records)
