"""
Removal from the index: what remains is what an index of the remaining objects alone would say.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.archive.attributes import INDEX_TAGS, Level, index_values
from pacs.archive.batch import Batch
from pacs.archive.candidate import Candidate, add_candidate, candidate_of_file
from pacs.archive.errors import ObjectGone
from pacs.archive.index.database import connect_writer, migrate
from pacs.archive.index.removal import Doomed, remove_objects
from pacs.archive.index.writer import IndexWriter
from pacs.archive.interfaces import Stored
from pacs.archive.objects.files import FileStore
from pacs.archive.reindex import rebuild
from pacs.archive.settings import ArchiveSettings
from pacs.dataset.part10 import encode_file_meta
from pacs.dataset.scanner import DEFAULT_LIMITS, DataSetScanner
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, ct_data_set

_PATIENTS = "SELECT patient_id, patient_name, is_conflict, num_studies, num_instances FROM patients"
_STUDIES = """
SELECT p.patient_name, study_instance_uid, modalities_in_study, sop_classes_in_study, num_series, t.num_instances,
 size_bytes FROM studies t JOIN patients p ON p.pk = t.patient_pk
"""
_SERIES = """
SELECT t.study_instance_uid, series_instance_uid, modality, s.num_instances, s.size_bytes FROM series s
 JOIN studies t ON t.pk = s.study_pk
"""
_INSTANCES = """
SELECT series_instance_uid, sop_instance_uid, i.size_bytes, path FROM instances i JOIN series s ON s.pk = i.series_pk
"""
SHOWN = (_PATIENTS, _STUDIES, _SERIES, _INSTANCES)


class Item(NamedTuple):
    """An object: of one of two names of one Patient ID or of another patient; series and SOP class by number."""

    patient: int
    study: int
    series: int
    number: int
    size: int

    @property
    def study_uid(self) -> str:
        return f"1.{self.patient}.{self.study}"

    @property
    def series_uid(self) -> str:
        return f"{self.study_uid}.{self.series}"

    @property
    def uid(self) -> str:
        return f"{self.study_uid}.9.{self.number}"  # the same in each series of the study

    @property
    def patient_id(self) -> str:
        return "TWICE" if self.patient < 2 else "ONCE"


def add(writer: IndexWriter, items: Iterable[Item]) -> None:
    copies: dict[str, int] = {}
    for item in items:
        copy_number = copies.get(item.uid, -1) + 1
        copies[item.uid] = copy_number
        data_set = ct_data_set(
            item.uid,
            study=item.study_uid,
            series=item.series_uid,
            patient_id=item.patient_id,
            name=f"Name^{item.patient}",
            birth_date=f"1950010{item.patient + 1}",
            sop_class=f"1.2.{item.series}",
        ).replace(b"CS\2\0CT", f"CS\2\0M{item.series}".encode())
        scanner = DataSetScanner(EXPLICIT, wanted=INDEX_TAGS)
        scanner.feed(data_set)
        values = index_values(scanner.finish(), default_character_set=None)
        writer.add(
            writer.place(values, 0),
            values,
            copy_number=copy_number,
            transfer_syntax_uid=EXPLICIT,
            path=f"{item.series_uid}/{item.uid}~{copy_number}",
            size_bytes=item.size,
            data_set_offset=0,
            received_at=0,
            source_ae_title="",
        )
        writer.flush()


def new_writer(path: Path) -> IndexWriter:
    migrate(path)
    return IndexWriter(connect_writer(path), conflict_noticed=lambda: None)


def shown(writer: IndexWriter) -> list[list[tuple[Any, ...]]]:
    return [sorted(writer.execute(statement)) for statement in SHOWN]


def is_meant(item: Item, doomed: Doomed) -> bool:
    value = {
        Level.PATIENT: item.patient_id,
        Level.STUDY: item.study_uid,
        Level.SERIES: item.series_uid,
        Level.IMAGE: item.uid,
    }[doomed.level]
    return value in doomed.values


items = st.builds(
    Item, st.integers(0, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), st.integers(100, 999)
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Item], Doomed]:
    found = draw(st.lists(items, min_size=1, max_size=12, unique_by=lambda item: item[:4]))
    level = draw(st.sampled_from(list(Level)))
    chosen = draw(st.sets(st.sampled_from(found), min_size=1, max_size=3))
    names = {"PATIENT": "patient_id", "STUDY": "study_uid", "SERIES": "series_uid", "IMAGE": "uid"}
    values = tuple(sorted({getattr(item, names[level.value]) for item in chosen}))
    return found, Doomed(level, values)


@given(cases())
@settings(max_examples=15, deadline=None)
def test_what_remains_is_as_if_the_others_had_never_come(case: tuple[list[Item], Doomed]) -> None:
    """Counts, sizes, modalities, SOP classes and conflicts; a later object goes where it belongs."""
    found, doomed = case
    gone = [item for item in found if is_meant(item, doomed)]
    late = Item(0, 1, 1, 77, 5)
    with TemporaryDirectory() as directory:
        writer = new_writer(Path(directory) / "one.db")
        writer.begin()
        add(writer, found)
        paths = {path for (path,) in writer.execute("SELECT path FROM instances")}
        removed = remove_objects(writer, doomed)
        remaining = {path for (path,) in writer.execute("SELECT path FROM instances")}
        assert sum(group.number_of_instances for group in removed) == len(gone)
        assert sum(group.size_bytes for group in removed) == sum(item.size for item in gone)
        assert {path for (path,) in writer.execute("SELECT path FROM deletions")} == paths - remaining
        firsts = writer.execute("SELECT count(*) FROM instances WHERE copy_number = 0")
        assert firsts == writer.execute("SELECT count(DISTINCT sop_instance_uid) FROM instances")
        add(writer, [late])
        writer.commit()
        other = new_writer(Path(directory) / "other.db")
        other.begin()
        add(other, [item for item in found if item not in gone])
        add(other, [late])
        other.commit()
        assert _without_copies(shown(writer)) == _without_copies(shown(other))
        writer.close()
        other.close()


def _without_copies(tables: list[list[tuple[Any, ...]]]) -> list[list[tuple[Any, ...]]]:
    """A path tells which copy it was when it came; leave that out."""
    return [*tables[:3], [(*row[:3], row[3].rpartition("~")[0]) for row in tables[3]]]


def test_an_issuer_chooses_among_patients_of_one_id(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "index.db")
    writer.begin()
    add(writer, [Item(0, 1, 1, 1, 100)])
    assert remove_objects(writer, Doomed(Level.PATIENT, ("TWICE",), issuer="elsewhere")) == []
    assert len(remove_objects(writer, Doomed(Level.PATIENT, ("TWICE",), issuer=""))) == 1
    writer.commit()
    writer.close()


def test_a_key_does_not_come_again_when_the_newest_object_was_deleted(tmp_path: Path) -> None:
    """What start-up remembers by keys, as how far checksums are computed, would leave the next object out."""
    writer = new_writer(tmp_path / "index.db")
    writer.begin()
    add(writer, [Item(0, 1, 1, number, 100) for number in (1, 2, 3)])
    writer.set_state("derived_pk", "3")
    remove_objects(writer, Doomed(Level.STUDY, ("1.0.1",)))
    writer.commit()
    writer.close()
    again = IndexWriter(connect_writer(tmp_path / "index.db"), conflict_noticed=lambda: None)
    assert again.next_instance_pk == 4
    again.close()


def test_an_index_of_before_is_given_the_table(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    migrate(path)
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE deletions")
    connection.execute("UPDATE alembic_version SET version_num = '0006'")
    connection.commit()
    connection.close()
    assert migrate(path) is not None
    writer = new_writer(path)
    writer.begin()
    add(writer, [Item(0, 1, 1, 1, 100)])
    assert len(remove_objects(writer, Doomed(Level.IMAGE, ("1.0.1.9.1",)))) == 1
    writer.commit()
    writer.close()


def placed(store: FileStore, uid: str, path: str, *, pixels: bytes = bytes(64)) -> Candidate:
    """Give a file its final name, and read it as the sweep does."""
    data_set = ct_data_set(uid, study=f"{uid}.0", pixels=pixels)
    head = encode_file_meta(
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid=uid,
        transfer_syntax_uid=EXPLICIT,
        source_ae_title="",
        implementation_class_uid="1.2",
        implementation_version_name="TEST",
    )
    store.rename(store.write_incoming([head, data_set]), path)
    return candidate_of_file(store, path, limits=DEFAULT_LIMITS)


def add_placed(writer: IndexWriter, candidate: Candidate) -> None:
    values = index_values(candidate.scanned, default_character_set=None)
    add_candidate(writer, candidate, values, path=candidate.incoming_path, copy_number=0)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[ArchiveSettings, FileStore, IndexWriter]]:
    """Give an archive's files, with a transaction begun."""
    settings = ArchiveSettings(tmp_path, tmp_path / "index.db", "1.2", "TEST")
    store = FileStore(tmp_path, index_directory=tmp_path)
    store.open()
    writer = new_writer(settings.index_path)
    writer.begin()
    yield settings, store, writer
    store.close()


def test_an_older_version_that_a_crash_has_left_does_not_come_back(
    archive: tuple[ArchiveSettings, FileStore, IndexWriter],
) -> None:
    """It was replaced, its file was not removed yet; the newer one is deleted before the sweep gets there."""
    settings, store, writer = archive
    older = placed(store, "1.2.1", "objects/1.2.1.0/1.2.1.dcm")
    add_placed(writer, placed(store, "1.2.1", "objects/1.2.1.0/1.2.1~1.dcm", pixels=b"1" * 64))
    assert len(remove_objects(writer, Doomed(Level.IMAGE, ("1.2.1",)))) == 1
    unknown = placed(store, "1.2.2", "objects/1.2.2.0/1.2.2.dcm")
    batch = Batch(settings, store, writer, retire_journal=lambda: None)
    batch.place_all([older, unknown])
    assert [type(answer) for _, answer in batch.answers] == [ObjectGone, Stored]
    assert not store.exists("objects/1.2.1.0/1.2.1.dcm")
    assert store.exists("objects/1.2.2.0/1.2.2.dcm")
    writer.commit()
    writer.close()


def test_a_reindex_brings_no_deleted_object_back(
    archive: tuple[ArchiveSettings, FileStore, IndexWriter], tmp_path: Path
) -> None:
    """Its file was about to go when the server ended."""
    settings, store, writer = archive
    for uid in ("1.2.1", "1.2.2"):
        add_placed(writer, placed(store, uid, f"objects/{uid}.0/{uid}.dcm"))
    assert len(remove_objects(writer, Doomed(Level.IMAGE, ("1.2.1",)))) == 1
    writer.commit()
    writer.close()
    assert rebuild(settings, lambda _: None)["indexed"] == 1
    assert [path.name for path in (tmp_path / "objects").rglob("*")] == ["1.2.2.0", "1.2.2.dcm"]
