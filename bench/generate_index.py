"""
Makes an index with 1,000,000 instances in 20,000 studies, without objects: `python -m bench.generate_index INDEX`, or
with as many studies as a second argument says.

The archive must not be running. Objects that are not there are found missing by whoever looks; queries do not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, create_engine, func, insert, select

from pacs.archive.attributes import name_search_key
from pacs.archive.index.schema import INSTANCES, PATIENTS, SERIES
from pacs.archive.index.schema import STUDIES as STUDIES_TABLE

STUDIES: Final = 20_000
INSTANCES_OF_A_STUDY: Final = 50
SERIES_OF_A_STUDY: Final = 2
BATCH: Final = 500  # studies
NO_SHA256: Final = "0" * 64  # so that nobody looks for the file to compute it
CT: Final = "1.2.840.10008.5.1.4.1.1.2"


def study_uid(number: int) -> str:
    """Give the UID of a study."""
    return f"2.25.6.1{number:08d}"


def main() -> None:
    """Fill an index that the archive has made."""
    path = Path(sys.argv[1])
    studies = int(sys.argv[2]) if len(sys.argv) > 2 else STUDIES
    started_s = time.perf_counter()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA synchronous=OFF")
        first = {table.name: _next_key(connection, table) for table in (PATIENTS, STUDIES_TABLE, SERIES, INSTANCES)}
        for start in range(0, studies, BATCH):
            rows = _Rows(first)
            for number in range(start, min(start + BATCH, studies)):
                rows.add_study(number)
            for table, values in rows.of.items():
                connection.execute(insert(table), values)
    engine.dispose()
    print(f"{studies * INSTANCES_OF_A_STUDY:,} instances in {time.perf_counter() - started_s:.0f} s")


def _next_key(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.coalesce(func.max(table.c.pk), 0))).scalar_one()) + 1


class _Rows:
    """The rows of some studies, by table; keys are given in order."""

    def __init__(self, first: dict[str, int]) -> None:
        self._first = first
        self.of: dict[Table, list[dict[str, Any]]] = {PATIENTS: [], STUDIES_TABLE: [], SERIES: [], INSTANCES: []}

    def _add(self, table: Table, **values: Any) -> int:
        key = self._first[table.name]
        self._first[table.name] = key + 1
        self.of[table].append({"pk": key, **values})
        return key

    def add_study(self, number: int) -> None:
        """Add a patient with one study."""
        name = f"LARGE{number:05d}^PATIENT"
        patient = self._add(
            PATIENTS, patient_id=f"L{number:07d}", patient_name=name, patient_name_search=name_search_key(name),
            birth_date="19700101", sex="O", num_studies=1, num_instances=INSTANCES_OF_A_STUDY,
        )  # fmt: skip
        study = self._add(
            STUDIES_TABLE, patient_pk=patient, study_instance_uid=study_uid(number),
            study_date=f"20{number % 20:02d}{number % 12 + 1:02d}{number % 28 + 1:02d}", study_time="120000",
            accession_number=f"L{number:07d}", study_id=f"L{number:07d}", study_description="Abdomen",
            modalities_in_study="CT", sop_classes_in_study=CT, num_series=SERIES_OF_A_STUDY,
            num_instances=INSTANCES_OF_A_STUDY, size_bytes=INSTANCES_OF_A_STUDY * 526_000, received_at=number,
        )  # fmt: skip
        for series_number in range(SERIES_OF_A_STUDY):
            self._add_series(study, f"{study_uid(number)}.{series_number + 1}", series_number + 1)

    def _add_series(self, study: int, uid: str, number: int) -> None:
        each = INSTANCES_OF_A_STUDY // SERIES_OF_A_STUDY
        series = self._add(
            SERIES, study_pk=study, series_instance_uid=uid, modality="CT", series_number=str(number),
            num_instances=each, size_bytes=each * 526_000,
        )  # fmt: skip
        for instance in range(1, each + 1):
            self._add(
                INSTANCES, series_pk=series, sop_instance_uid=f"{uid}.{instance}", sop_class_uid=CT,
                instance_number=str(instance), transfer_syntax_uid="1.2.840.10008.1.2.1",
                path=f"objects/generated/{uid}.{instance}.dcm", size_bytes=526_000, data_set_offset=300, received_at=0,
                sha256=NO_SHA256,
            )  # fmt: skip


if __name__ == "__main__":
    main()
