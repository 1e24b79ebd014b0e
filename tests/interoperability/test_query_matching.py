"""
Keys that the index has no columns for, what is negotiated, and how queries end, through the real server (PS3.4 C.2.2.2,
C.4.1 and C.5.1.1).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from pacs.dimse import CCancelRQ, CFindRQ, encode_command
from tests.dicom import CT_IMAGE_STORAGE, Client, pdv
from tests.find import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT, ask, associated, find, keys, statuses_of
from tests.server import AE_TITLE, Server

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def encoded(data_set: Dataset, *, is_implicit: bool = False, is_little_endian: bool = True) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = is_implicit, is_little_endian
    write_dataset(buffer, data_set)
    value: bytes = buffer.getvalue()
    return value


def code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99TEST", meaning
    return item


def make_object(number: int, **values: Any) -> Dataset:
    data_set = Dataset()
    data_set.SOPClassUID = CT_IMAGE_STORAGE
    data_set.PatientID = f"M{number}"
    data_set.PatientName = f"Match^No{number}"
    data_set.StudyInstanceUID = f"1.2.77.{number}"
    data_set.SeriesInstanceUID = f"1.2.77.{number}.1"
    data_set.SOPInstanceUID = f"1.2.77.{number}.1.1"
    data_set.StudyDate, data_set.StudyTime = "20310101", "120000"
    data_set.Modality = "CT"
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    data_set.Rows, data_set.Columns, data_set.BitsAllocated = 1, 2, 16
    data_set.PixelData = bytes(100_000)
    data_set["PixelData"].VR = "OW"
    return data_set


OBJECTS = (
    make_object(
        1, PatientName="Müller^Jürgen", SpecificCharacterSet="ISO_IR 100", StudyDate="20310110", StudyTime="0900",
        ProcedureCodeSequence=[code("A1", "Head"), code("A2", "Neck")], SliceThickness="1.50", PatientSize="1.80",
        AcquisitionDateTime="20310110090000+0100", DeviceSerialNumber="SN-1", RequestAttributesSequence=[],
        OtherPatientIDs="X1", ContrastBolusAgent="Iomeron 350", Rows=1,
    ),
    make_object(
        2, PatientName="Mueller^Juergen", StudyDate="20310110", StudyTime="170000",
        ProcedureCodeSequence=[code("A2", "Head")], SliceThickness="3", DeviceSerialNumber="SN-2",
        AcquisitionDateTime="20310110180000", ContrastBolusAgent="none",
    ),
    make_object(3, StudyDate="20310111", StudyTime="0800", SliceThickness="1.5", DeviceSerialNumber="SM-3"),
    make_object(4, StudyDate="", StudyTime="", ContrastBolusAgent=""),
)  # fmt: skip


def store(server: Server, data_set: Dataset, *, transfer_syntax: str = EXPLICIT) -> None:
    with Client(server.port, (CT_IMAGE_STORAGE, transfer_syntax)) as client:
        raw = encoded(data_set, is_little_endian=transfer_syntax != BIG_ENDIAN)
        if transfer_syntax == DEFLATED:
            import zlib

            deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            raw = deflater.compress(raw) + deflater.flush()
            raw += b"\0" * (len(raw) % 2)
        assert client.store(raw, data_set.SOPInstanceUID).status == 0


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("matching"))
    server.start()
    for data_set in OBJECTS:
        store(server, data_set)
    yield server
    assert server.stop() == 0


def studies(server: Server, negotiation: bytes = b"", **values: Any) -> list[str]:
    """Give the numbers of the studies that are found."""
    answers = find(server.port, keys("STUDY", StudyInstanceUID="", **values), negotiation=negotiation)
    assert answers.statuses[-1] == 0, answers.final
    return [uid.rsplit(".", 1)[1] for uid in answers.values("StudyInstanceUID")]


def item(**values: str) -> list[Dataset]:
    data_set = Dataset()
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    return [data_set]


def test_a_sequence_matches_when_one_item_has_all_of_it_and_gives_those_items(filled: Server) -> None:
    """PS3.4 C.2.2.2.6."""
    assert studies(filled, ProcedureCodeSequence=item(CodeValue="A2")) == ["1", "2"]
    assert studies(filled, ProcedureCodeSequence=item(CodeValue="A2", CodeMeaning="Head")) == ["2"]
    assert studies(filled, ProcedureCodeSequence=item(CodeMeaning="H*")) == ["1", "2"]
    assert studies(filled, ProcedureCodeSequence=item(CodeValue="")) == ["1", "2", "3", "4"]
    identifier = keys("STUDY", StudyInstanceUID="", ProcedureCodeSequence=item(CodeValue="A1", CodeMeaning=""))
    (match,) = find(filled.port, identifier).identifiers
    (found,) = match.ProcedureCodeSequence
    assert (found.CodeValue, found.CodeMeaning) == ("A1", "Head")
    assert "CodingSchemeDesignator" not in found
    whole = find(filled.port, keys("STUDY", StudyInstanceUID="1.2.77.1", ProcedureCodeSequence=[])).identifiers[0]
    assert [entry.CodeValue for entry in whole.ProcedureCodeSequence] == ["A1", "A2"]


def test_elements_of_the_header_are_keys_at_their_level(filled: Server) -> None:
    """PS3.4 C.3.1: series have equipment attributes, objects everything else."""

    def series(**values: Any) -> list[str]:
        identifier = keys("SERIES", SeriesInstanceUID="", **values)
        return find(filled.port, identifier, negotiation=b"\1").values("SeriesInstanceUID")

    def images(**values: Any) -> list[str]:
        identifier = keys("IMAGE", SOPInstanceUID="", **values)
        return [uid[7] for uid in find(filled.port, identifier, negotiation=b"\1").values("SOPInstanceUID")]

    assert series(DeviceSerialNumber="SN-?") == ["1.2.77.1.1", "1.2.77.2.1"]
    assert images(SliceThickness="1.5") == ["1", "3"]
    assert images(AcquisitionDateTime="20310110080000-20310110080000") == ["1", "3", "4"]
    assert images(AcquisitionDateTime="20310110") == ["1", "2"]
    assert images(ContrastBolusAgent="iom*") == []
    assert images(ContrastBolusAgent="Iom*") == ["1"]
    assert images(Rows=1, Columns=2) == ["1", "2", "3", "4"]
    assert images(Rows=2) == []
    identifier = keys("IMAGE", SOPInstanceUID="1.2.77.1.1.1", SliceThickness="", Rows=None, BitsAllocated=None)
    answers = find(filled.port, identifier, negotiation=b"\1")
    (match,) = answers.identifiers
    assert (match.SliceThickness, match.Rows, match.BitsAllocated) == (1.5, 1, 16)
    assert answers.statuses == [0xFF00, 0]


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_header_key_is_right_at_once_after_the_answer(server: Server, transfer_syntax: str) -> None:
    """The header is derived some seconds later; until then, and always for deflated data sets, the file is read."""
    for number in range(1, 6):
        store(server, make_object(number, DeviceSerialNumber=f"SN-{number}"), transfer_syntax=transfer_syntax)
        identifier = keys("SERIES", SeriesInstanceUID="", StudyInstanceUID=f"1.2.77.{number}", DeviceSerialNumber="SN*")
        answers = find(server.port, identifier)
        assert answers.values("DeviceSerialNumber") == [f"SN-{number}"]


def test_a_private_element_is_answered_with_its_private_creator(server: Server) -> None:
    """PS3.5 7.8.1: without it nobody knows what it is. One of somebody else in the same place does not match."""

    def private(data_set: Dataset, creator: str, value: str) -> Dataset:
        data_set.private_block(0x0011, creator, create=True).add_new(1, "LO", value)
        return data_set

    store(server, private(make_object(1), "ACME", "yes"))
    store(server, private(make_object(2), "OTHERS", "yes"))
    everything = find(server.port, private(keys("IMAGE", SOPInstanceUID=""), "ACME", ""), negotiation=b"\1")
    assert [answer[0x00110010].value for answer in everything.identifiers] == ["ACME", "OTHERS"]
    for value, number in (("yes", 1), ("no", 0)):
        found = find(server.port, private(keys("IMAGE", SOPInstanceUID=""), "ACME", value), negotiation=b"\1")
        assert (len(found.identifiers), found.statuses[-1]) == (number, 0)


def test_long_lists_of_any_key_are_answered(filled: Server) -> None:
    """L6: up to 1,000 values, more than a statement can have of names and patterns."""
    several = [str(number) for number in range(999)]
    for keyword, value, number in (
        ("PatientName", "MATCH^NO3", 1),
        ("PatientName", "Nobody", 0),
        ("ModalitiesInStudy", "CT", 4),
        ("ModalitiesInStudy", "MR", 0),
        ("ReferringPhysicianName", "Nobody", 0),
        ("StudyDescription", "Nothing", 0),
    ):
        identifier = keys("STUDY")
        identifier.add_new(keyword, "UT", "\\".join([*several, value]))
        found = find(filled.port, identifier, transfer_syntax=IMPLICIT)
        assert (keyword, found.statuses[-1], len(found.identifiers)) == (keyword, 0, number)
    identifier = keys("STUDY")
    identifier.add_new("PatientName", "UT", "\\".join([*("?" * 2 for _ in range(300)), "*No3"]))
    assert find(filled.port, identifier, transfer_syntax=IMPLICIT).values("PatientName") == ["Match^No3"]


def test_a_list_of_numbers_of_related_objects_is_any_of_them(filled: Server) -> None:
    for value, number in ((["7", "1"], 4), (["1", "7"], 4), (["7", "8"], 0), ("1", 4)):
        found = find(filled.port, keys("STUDY", NumberOfStudyRelatedInstances=value))
        assert (len(found.identifiers), found.statuses[-1]) == (number, 0)
    found = find(filled.port, keys("PATIENT", NumberOfPatientRelatedStudies=["7", "1"]), PATIENT_ROOT)
    assert len(found.identifiers) == 4


def test_wild_cards_in_a_long_value_hold_nobody_up(server: Server) -> None:
    """L6: a pattern that nearly matches in very many ways is decided at once."""
    store(server, make_object(9, ImageComments="a" * 1200))
    started_s = time.monotonic()
    found = find(server.port, keys("IMAGE", SOPInstanceUID="", ImageComments="*a*a*a*a*b"), negotiation=b"\1")
    assert found.statuses == [0]
    assert time.monotonic() - started_s < 2
    found = find(server.port, keys("IMAGE", SOPInstanceUID="", ImageComments="*a*a*a*a"), negotiation=b"\1")
    assert len(found.identifiers) == 1


def test_an_asterisk_alone_matches_everything_whatever_the_vr(filled: Server) -> None:
    number = len(find(filled.port, keys("STUDY")).identifiers)
    for keyword in ("StudyInstanceUID", "StudyDate", "StudyTime", "PatientName", "NumberOfStudyRelatedInstances"):
        identifier = keys("STUDY")
        identifier.add_new(keyword, "LO", "*")  # a VR that pydicom lets it have; implicit VR does not show it
        found = find(filled.port, identifier, transfer_syntax=IMPLICIT)
        assert (keyword, found.statuses[-1], len(found.identifiers)) == (keyword, 0, number)


def test_a_key_that_is_not_supported_is_left_out_and_the_match_says_so(filled: Server) -> None:
    """PS3.4 C.2.2.1.3 and table C.4-1: FF01."""
    answers = find(filled.port, keys("STUDY", StudyInstanceUID="1.2.77.1", Modality="", InstanceNumber="7"))
    assert answers.statuses == [0xFF01, 0]
    assert "Modality" not in answers.identifiers[0]
    assert "InstanceNumber" not in answers.identifiers[0]


def test_a_date_and_a_time_are_one_range_when_that_was_negotiated(filled: Server) -> None:
    """PS3.4 C.2.2.2.5.4; an unknown date or time is in every range (C.2.2.1.2)."""
    ranges: dict[str, Any] = {"StudyDate": "20310110-20310111", "StudyTime": "1600-0830"}
    assert studies(filled, b"\0\1", **ranges) == ["2", "3", "4"]
    assert studies(filled, **{**ranges, "StudyTime": "0830-1600"}) == ["1", "4"]
    assert studies(filled, StudyDate="20310111-") == ["3", "4"]
    assert studies(filled, StudyDate="-20310110", StudyTime="-1200") == ["1", "4"]
    assert studies(filled, StudyDate="20310111") == ["3"]


def test_fuzzy_names_when_that_was_negotiated(filled: Server) -> None:
    assert studies(filled, PatientName="Mueller^Juergen") == ["2"]
    assert studies(filled, b"\1\1\1", PatientName="Mueller^Juergen") == ["1", "2"]
    assert studies(filled, b"\1\1\1", PatientName="juergen muller") == ["1", "2"]
    assert studies(filled, b"\1\1\1", PatientName="Meier") == []


@pytest.mark.parametrize(
    ("model", "identifier", "offending"),
    [
        (PATIENT_ROOT, keys("STUDY", StudyInstanceUID=""), "PatientID"),
        (PATIENT_ROOT, keys("SERIES", PatientID="M1"), "StudyInstanceUID"),
        (STUDY_ROOT, keys("IMAGE", StudyInstanceUID="1.2.77.1"), "SeriesInstanceUID"),
        (STUDY_ROOT, keys("PATIENT", PatientID=""), "Query/Retrieve Level"),
        (PATIENT_STUDY_ONLY, keys("SERIES", PatientID="M1", StudyInstanceUID="1.2.77.1"), "Query/Retrieve Level"),
    ],
)
def test_a_query_outside_of_the_hierarchy_fails_with_a_reason(
    filled: Server, model: str, identifier: Dataset, offending: str
) -> None:
    """PS3.4 table C.4-1: A900 with Offending Element and Error Comment; the association goes on."""
    with associated(filled.port, model) as association:
        refused = ask(association, identifier, model)
        assert refused.statuses == [0xA900]
        assert offending in refused.final.ErrorComment
        assert refused.final.OffendingElement
        top = "STUDY" if model == STUDY_ROOT else "PATIENT"
        assert ask(association, keys(top, PatientID="M1"), model).statuses == [0xFF00, 0]


def test_relational_queries_when_they_were_negotiated(filled: Server) -> None:
    for model in (PATIENT_ROOT, STUDY_ROOT):
        answers = find(filled.port, keys("IMAGE", SOPInstanceUID="", PatientName="Match*"), model, negotiation=b"\1")
        assert answers.values("SOPInstanceUID") == ["1.2.77.3.1.1", "1.2.77.4.1.1"]


def test_what_was_negotiated_is_told_the_peer(filled: Server) -> None:
    with associated(filled.port, STUDY_ROOT, negotiation=b"\1\1\1\1\1") as association:
        assert association.acceptor.sop_class_extended == {STUDY_ROOT: b"\1\1\1\0\0"}


def test_where_it_is_and_that_it_is_there_is_in_every_answer(filled: Server) -> None:
    (match,) = find(filled.port, keys("STUDY", StudyInstanceUID="1.2.77.1")).identifiers
    assert (match.RetrieveAETitle, match.InstanceAvailability) == (AE_TITLE, "ONLINE")
    assert find(filled.port, keys("STUDY", InstanceAvailability="NEARLINE")).identifiers == []


@pytest.mark.parametrize("transfer_syntax", ["1.2.840.10008.1.2", EXPLICIT, BIG_ENDIAN])
def test_identifiers_in_every_transfer_syntax(filled: Server, transfer_syntax: str) -> None:
    identifier = keys("IMAGE", StudyInstanceUID="1.2.77.1", SeriesInstanceUID="1.2.77.1.1", Rows=1, SOPInstanceUID="")
    identifier.SliceThickness = ""
    (match,) = find(filled.port, identifier, transfer_syntax=transfer_syntax).identifiers
    assert (match.SOPInstanceUID, match.Rows, match.SliceThickness) == ("1.2.77.1.1.1", 1, 1.5)


def fill_with_studies(server: Server, count: int) -> None:
    """Store many small studies in one association."""
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        for number in range(count):
            data_set = make_object(number)
            del data_set.PixelData
            assert client.store(encoded(data_set), data_set.SOPInstanceUID, message_id=number + 1).status == 0


def test_a_canceled_query_ends_with_cancel_and_the_association_goes_on(server: Server) -> None:
    """PS3.4 C.4.1.3: FE00 at once, however many matches are left."""
    fill_with_studies(server, 300)
    request = CFindRQ(message_id=7, affected_sop_class_uid=STUDY_ROOT, has_data_set=True)
    cancel = CCancelRQ(message_id_being_responded_to=7)
    query = pdv(encode_command(request), is_command=True) + pdv(encoded(keys("STUDY", StudyInstanceUID="")))
    with Client(server.port, (STUDY_ROOT, EXPLICIT)) as client:
        client.socket.sendall(query + pdv(encode_command(cancel), is_command=True))
        assert statuses_of(client) == [0xFE00]
        client.socket.sendall(query)
        assert statuses_of(client) == [0xFF00] * 300 + [0]
