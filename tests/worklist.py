"""
A worklist for tests: items as `.wl` files, the server that is to answer as DCMTK's wlmscpfs does, and queries.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from tests.server import AE_TITLE, Server, free_port

MODALITY_AE: Final = "CT_SCANNER_1"
WORKLIST_SOP_CLASS: Final = "1.2.276.0.7230010.3.1.0.1"
PENDING: Final = (0xFF00, 0xFF01)


def code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99TEST", meaning
    return item


def scheduled(
    number: int,
    *,
    date: str = "20261125",
    at: str = "100000",
    modality: str = "CT",
    station: str | list[str] = "CT_SCANNER_1",
    name: str = "Doe^Jane",
    physician: str = "House^Gregory",
    **more: Any,
) -> Dataset:
    """Give an item with a value for every type of attribute that PS3.4 K.6 has."""
    item = Dataset()
    item.PatientName = name
    item.PatientID = f"PID{number}"
    item.IssuerOfPatientID = "HOSPITAL"
    item.PatientBirthDate = f"19{60 + number}0102"
    item.PatientSex = "F" if number % 2 else "M"
    item.PatientWeight = "70.5"
    item.PatientSize = "1.80"
    item.MedicalAlerts = "pacemaker"
    item.Allergies = "iodine"
    item.PregnancyStatus = 4
    item.SpecialNeeds = "wheelchair"
    item.PatientState = "stable"
    item.ConfidentialityConstraintOnPatientDataDescription = "none"
    item.EthnicGroup = "unknown"
    item.Occupation = "baker"
    item.SmokingStatus = "NO"
    item.AdditionalPatientHistory = "none known"
    item.LastMenstrualDate = "20261101"
    item.AccessionNumber = f"ACC{number}"
    item.StudyInstanceUID = f"1.2.826.0.1.{number}"
    item.ReferringPhysicianName = "Cuddy^Lisa"
    item.RequestingPhysician = "Wilson^James"
    item.RequestingService = "Oncology"
    item.NamesOfIntendedRecipientsOfResults = "Foreman^Eric"
    item.RequestedProcedureID = f"RP{number}"
    item.RequestedProcedureDescription = f"procedure {number}"
    item.RequestedProcedureCodeSequence = [code(f"P{number}", "a procedure")]
    item.RequestedProcedurePriority = "ROUTINE"
    item.PatientTransportArrangements = "walks"
    item.RequestedProcedureComments = "none"
    item.ReasonForTheRequestedProcedure = "pain"
    item.PlacerOrderNumberImagingServiceRequest = f"PLACER{number}"
    item.FillerOrderNumberImagingServiceRequest = f"FILLER{number}"
    item.AdmissionID = f"ADM{number}"
    item.CurrentPatientLocation = "WARD 4"
    item.ReferencedStudySequence = []
    item.ReferencedPatientSequence = []
    step = Dataset()
    step.ScheduledStationAETitle = station
    step.ScheduledProcedureStepStartDate = date
    step.ScheduledProcedureStepStartTime = at
    step.Modality = modality
    step.ScheduledPerformingPhysicianName = physician
    step.ScheduledProcedureStepDescription = f"step {number}"
    step.ScheduledProtocolCodeSequence = [code(f"S{number}", "a protocol"), code("S0", "another")]
    step.ScheduledProcedureStepID = f"SPS{number}"
    step.ScheduledStationName = f"ROOM{number}"
    step.ScheduledProcedureStepLocation = "BASEMENT"
    step.PreMedication = "none"
    step.RequestedContrastAgent = "iodine"
    item.ScheduledProcedureStepSequence = [step]
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


ITEMS: Final = (
    scheduled(1),
    scheduled(2, at="143000", name="Doe^John", station="CT_SCANNER_2"),
    scheduled(3, date="20261126", at="080000", modality="MR", station="MR_SCANNER_1", name="Roe^Richard"),
    scheduled(4, date="20261126", at="180000", modality="MR", station="MR_SCANNER_1", physician="Chase^Robert"),
    scheduled(5, date="20261127", at="093015", modality="US", station="US_1", name="Stone^Mary^Anne"),
    scheduled(6, date="20261201", at="120000", name="Doerr^Paul"),
)


def write_wl(directory: Path, items: tuple[Dataset, ...] = ITEMS) -> Path:
    """Write items as wlmscpfs reads them."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(items, 1):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = UID(WORKLIST_SOP_CLASS)
        meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{number}")
        item.file_meta = meta
        item.save_as(directory / f"item{number}.wl", enforce_file_format=True)
    (directory / "lockfile").touch()
    return directory


@contextmanager
def wlmscpfs(directory: Path) -> Iterator[int]:
    """Run DCMTK's worklist server on the items below a directory, by called AE title; give its port."""
    port = free_port()
    with (directory / "wlmscpfs.log").open("wb") as log:
        process = subprocess.Popen(["wlmscpfs", "-dfp", str(directory), str(port)], stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + 20
        while not _answers(port):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    association = AE().associate("127.0.0.1", port, [_context()], ae_title=AE_TITLE)
    if association.is_established:
        association.release()
        return True
    return False


def _context() -> Any:
    return build_context(ModalityWorklistInformationFind)


def find(port: int, identifier: Dataset, *, calling: str = MODALITY_AE, extended: bytes = b"") -> list[Dataset]:
    """
    Give the answers of a server; the last status must be success.

    Args:
        extended: what is proposed in SOP class extended negotiation; it must be accepted.
    """
    proposals: list[Any] = []
    if extended:
        proposal = SOPClassExtendedNegotiation()
        proposal.sop_class_uid = ModalityWorklistInformationFind
        proposal.service_class_application_information = extended
        proposals.append(proposal)
    association = AE(calling).associate("127.0.0.1", port, [_context()], ae_title=AE_TITLE, ext_neg=proposals)
    assert association.acceptor.sop_class_extended == ({ModalityWorklistInformationFind: extended} if extended else {})
    assert association.is_established
    answers: list[Dataset] = []
    final = None
    for status, answer in association.send_c_find(identifier, ModalityWorklistInformationFind):
        final = status.Status
        if final in PENDING:
            assert answer is not None
            answers.append(answer)
    association.release()
    assert final == 0, f"{final:04X}"
    return answers


def keys(**step: Any) -> Dataset:
    """Give an identifier with keys of the scheduled step; those of the item are set by its caller."""
    identifier = Dataset()
    identifier.AccessionNumber = ""
    inner = Dataset()
    inner.ScheduledProcedureStepID = ""
    for keyword, value in step.items():
        setattr(inner, keyword, value)
    identifier.ScheduledProcedureStepSequence = [inner]
    return identifier


def accession_numbers(answers: list[Dataset]) -> list[str]:
    return sorted(answer.AccessionNumber for answer in answers)


def pacsctl(
    server: Server, *arguments: str, check: bool = True, group: str = "worklist"
) -> subprocess.CompletedProcess[str]:
    """Run `pacsctl worklist`, or another command, on a server's archive."""
    program = Path(sys.executable).with_name("pacsctl")
    return subprocess.run(
        [str(program), group, *arguments, "-c", str(server.config)],
        cwd=server.directory,
        check=check,
        text=True,
        capture_output=True,
        timeout=60,
    )


def plain(item: Dataset) -> Mapping[str, Any]:
    """Give a data set for comparison, whatever its character set."""
    content = item.to_json_dict()
    content.pop("00080005", None)
    return content
