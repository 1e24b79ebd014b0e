"""
A real index for the tests of queries and lists: it holds pydicom's files and a few studies of known values.
"""

from __future__ import annotations

from pathlib import Path

from pacs.archive.attributes import ATTRIBUTES_OF, INDEX_TAGS, IndexValues, Level, index_values
from pacs.archive.index.database import connect_writer, migrate
from pacs.archive.index.writer import IndexWriter
from pacs.dataset.scanner import DataSetScanner
from tests.samples import samples

KNOWN: tuple[dict[str, str], ...] = (
    {
        "PatientID": "K1", "PatientName": "Known^Anna", "StudyInstanceUID": "9.1", "StudyDate": "20300115",
        "StudyTime": "10", "AccessionNumber": "A_1", "StudyDescription": "50% Head", "SeriesInstanceUID": "9.1.1",
        "Modality": "CT", "SeriesNumber": "007", "SOPInstanceUID": "9.1.1.1", "SOPClassUID": "1.2.3",
        "OperatorsName": "Smith^Jo\\Kurie^M", "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
    },
    {
        "PatientID": "K1", "PatientName": "Known^Anna", "StudyInstanceUID": "9.1", "StudyDate": "20300115",
        "StudyTime": "10", "AccessionNumber": "A_1", "StudyDescription": "50% Head", "SeriesInstanceUID": "9.1.2",
        "Modality": "SR", "SeriesNumber": "8", "SOPInstanceUID": "9.1.2.1", "SOPClassUID": "1.2.4",
    },
    {
        "PatientID": "K2", "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "StudyInstanceUID": "9.2",
        "StudyDate": "2030.02.20", "StudyTime": "10:30:00", "AccessionNumber": "Ax1", "StudyDescription": "head",
        "SeriesInstanceUID": "9.2.1", "Modality": "MR", "SeriesNumber": "1", "SOPInstanceUID": "9.2.1.1",
        "SOPClassUID": "1.2.3",
    },
    {
        "PatientID": "K3", "PatientName": "Mono", "StudyInstanceUID": "9.3", "StudyDate": "unknown",
        "StudyTime": "103059.75", "AccessionNumber": "", "StudyDescription": "Head!", "SeriesInstanceUID": "9.3.1",
        "Modality": "US", "SeriesNumber": "", "SOPInstanceUID": "9.3.1.1", "SOPClassUID": "1.2.3",
    },
)  # fmt: skip


def known_values(keywords: dict[str, str]) -> IndexValues:
    def level(level: Level) -> tuple[str, ...]:
        return tuple(keywords.get(attribute.keyword, "") for attribute in ATTRIBUTES_OF[level])

    return IndexValues(level(Level.PATIENT), level(Level.STUDY), level(Level.SERIES), level(Level.IMAGE), "ISO_IR 192")


def fill(path: Path) -> None:
    migrate(path)
    writer = IndexWriter(connect_writer(path), conflict_noticed=lambda: None)
    writer.begin()
    uids: set[str] = set()
    objects = []
    for sample in samples():
        if sample.sop_instance_uid not in uids:
            uids.add(sample.sop_instance_uid)
            scanner = DataSetScanner(sample.transfer_syntax_uid, wanted=INDEX_TAGS)
            scanner.feed(sample.data_set)
            objects.append((sample.transfer_syntax_uid, index_values(scanner.finish())))
    objects += [("1.2.840.10008.1.2", known_values(keywords)) for keywords in KNOWN]
    for number, (transfer_syntax_uid, values) in enumerate(objects):
        writer.add(
            writer.place(values, number), values, copy_number=0, transfer_syntax_uid=transfer_syntax_uid,
            path=f"objects/{number}", size_bytes=1000, data_set_offset=300, received_at=number, source_ae_title="TEST",
        )  # fmt: skip
    writer.commit()
    writer.close()
