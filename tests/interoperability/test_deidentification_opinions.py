"""
Other opinions: the table of another project, David Clunie's validator on real files, and pydicom on the codec.
"""

from __future__ import annotations

import csv
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest

from pacs.dataset.part10 import encode_file_meta
from pacs.deidentification.profiles import Policy
from pacs.deidentification.tables import Profile
from tests.deidentification import deidentify, make_vault, read
from tests.samples import Sample, samples

THEIR_CATEGORIES: Final = {
    "D_TAGS": "D", "Z_TAGS": "Z", "X_TAGS": "X", "U_TAGS": "U", "Z_D_TAGS": "Z/D", "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D", "X_Z_D_TAGS": "X/Z/D", "X_Z_U_STAR_TAGS": "X/Z/U*",
}  # fmt: skip
ONLY_OURS: Final = {"3004007F"}
"""Rows that 2026d has and their edition, 2026c, has not (docs/deidentification.rst)."""

REPEATING: Final = {"50xxxxxx", "60xx3000", "60xx4000", "private"}
EXPLAINED: Final = (
    "has same value as",  # the input has it too, with other UIDs
    "PresentationCreationDate",  # X in Table E.1-1, Type 1 in the IOD
    "PresentationCreationTime",
    "Element=<Laterality>",  # Body Part Examined says PANCREAS, as the patient's name does, and is removed for it
)
"""New errors that the table itself causes (docs/deidentification.rst)."""


def test_another_projects_table_agrees_on_every_row() -> None:
    """The one of the PyPI package dicom-anonymizer, made by others from the standard."""
    module = importlib.import_module("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
    theirs: dict[str, set[str]] = {}
    for category, action in THEIR_CATEGORIES.items():
        for tag in getattr(module, category):
            if len(tag) == 2:
                theirs.setdefault(f"{tag[0]:04X}{tag[1]:04X}", set()).add(action)
    with files("pacs.deidentification").joinpath("data", "profile_actions.csv").open(encoding="utf-8") as file:
        ours = {row["tag"]: {row["basic_table"]} for row in csv.DictReader(file)}
    assert set(ours) - set(theirs) == ONLY_OURS | REPEATING
    assert not set(theirs) - set(ours)
    assert not {tag: (ours[tag], theirs[tag]) for tag in theirs if ours[tag] != theirs[tag]}


def errors_of(path: Path) -> Counter[str]:
    """Give dciodvfy's errors; UIDs, which always change, are left out."""
    tool = Path(sys.executable).with_name("dciodvfy")
    run = subprocess.run([str(tool), str(path)], capture_output=True, text=True, errors="replace", timeout=60)
    lines = (run.stdout + run.stderr).splitlines()
    return Counter(re.sub(r"<[0-9.]+>", "<>", line) for line in lines if line.startswith("Error"))


def validated(directory: Path, name: str, content: bytes) -> Counter[str]:
    """Give the validator's errors about a file."""
    path = directory / name
    path.write_bytes(content)
    try:
        return errors_of(path)
    finally:
        path.unlink()


def as_file(sample: Sample) -> bytes:
    """Give a sample with File Meta Information of our own, as its output has."""
    meta = encode_file_meta(
        sop_class_uid=sample.sop_class_uid,
        sop_instance_uid=sample.sop_instance_uid,
        transfer_syntax_uid=sample.transfer_syntax_uid,
        source_ae_title="",
        implementation_class_uid="2.25.1",
        implementation_version_name="T",
    )
    return meta + sample.data_set


def new_errors(chosen: Collection[Sample], directory: Path) -> list[str]:
    """Give what the validator says of outputs, in any profile, and did not say of the inputs."""
    vault = make_vault(directory)

    def look(sample: Sample) -> list[str]:
        name = f"{id(sample)}.dcm"
        before = validated(directory, name, as_file(sample))
        found: Counter[str] = Counter()
        for profile in Profile:
            policy = Policy(profile, burned_in="accept")
            output = deidentify(sample.data_set, policy, vault, syntax=sample.transfer_syntax_uid)
            found |= validated(directory, name, output) - before
        return [f"{sample.path.name}: {error}" for error in found if not any(reason in error for reason in EXPLAINED)]

    with ThreadPoolExecutor(4) as pool:
        return [error for errors in pool.map(look, chosen) for error in errors]


def test_the_validator_finds_no_new_error_on_real_files(tmp_path: Path) -> None:
    """In all profiles, one file of each SOP class and transfer syntax."""
    chosen: dict[tuple[str, str], Sample] = {}
    for sample in samples():
        chosen.setdefault((sample.sop_class_uid, sample.transfer_syntax_uid), sample)
    assert len(chosen) > 50
    assert new_errors(chosen.values(), tmp_path) == []


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_validator_finds_no_new_error_on_any_real_file(tmp_path: Path) -> None:
    """In all profiles, every file, whatever its length."""
    assert len(samples()) > 200
    assert new_errors(samples(), tmp_path) == []


def test_pydicom_reads_every_real_file_as_it_was_but_for_what_was_changed(tmp_path: Path) -> None:
    """Elements that no rule names are, in the output, what they were in the input; pixel data byte for byte."""
    vault = make_vault(tmp_path)
    compared = 0
    for sample in samples():
        output = read(deidentify(sample.data_set, Policy(burned_in="accept"), vault, syntax=sample.transfer_syntax_uid))
        original = read(as_file(sample))
        for tag in (0x00280010, 0x00280011, 0x00280030, 0x00280100, 0x00281050, 0x00200032, 0x00200013, 0x00180050):
            if tag in original:
                assert output[tag].value == original[tag].value, (sample.path.name, hex(tag))
                compared += 1
        if "PixelData" in original and not sample.transfer_syntax_uid.startswith("1.2.840.10008.1.2.4."):
            assert output.PixelData == original.PixelData, sample.path.name
    assert compared > 500
