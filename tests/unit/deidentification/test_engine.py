"""
The engine as a worker process runs it: which checks decide on the pixels, and compressed frames that are cleaned.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from pacs.dataset.part10 import read_file_meta
from pacs.deidentification.decoding import decode
from pacs.deidentification.engine import Engine
from pacs.deidentification.errors import DeidentificationError
from pacs.deidentification.profiles import Policy
from pacs.deidentification.regions import RegionRule, load_region_rules
from pacs.deidentification.settings import EngineSettings, make_output
from pacs.deidentification.tables import Profile
from tests.deidentification import EXPLICIT, IMPLEMENTATION, encode, minimal
from tests.samples import samples

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[MakeEngine]:
    """Give a function that makes an engine of a policy."""
    engines: list[Engine] = []

    def make(policy: Policy, region_rules: tuple[RegionRule, ...] = ()) -> Engine:
        settings = EngineSettings(
            policy=policy,
            vault_path=tmp_path / "vault.db",
            fingerprint_path=tmp_path / "vault.fingerprint",
            directory=tmp_path,
            implementation=IMPLEMENTATION,
            region_rules=region_rules,
        )
        engines.append(Engine(settings, decode=decode))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def run(engine: Engine, data_set: bytes, syntax: str, directory: Path) -> pydicom.FileDataset:
    """De-identify a data set; give what pydicom reads."""
    path = directory / "in"
    path.write_bytes(data_set)
    with path.open("rb") as file:
        output = make_output(directory, len(data_set))
        try:
            engine.deidentify(file.fileno(), 0, len(data_set), syntax, output)
            with os.fdopen(os.dup(output), "rb") as result:
                result.seek(0)
                return pydicom.dcmread(io.BytesIO(result.read()))
        finally:
            os.close(output)


def head(*more: Any) -> bytes:
    """Give an MR image of a head."""
    return encode(
        [*minimal(), (0x00080060, "CS", b"MR"), (0x00180015, "CS", b"HEAD"), (0x7FE00010, "OW", bytes(8)), *more]
    )


@pytest.mark.parametrize("burned_in", ["reject", "clean", "accept"])
def test_safe_harbor_refuses_faces_whatever_is_done_with_text(
    make_engine: MakeEngine, tmp_path: Path, burned_in: str
) -> None:
    engine = make_engine(Policy(Profile.HIPAA_SAFE_HARBOR, burned_in=burned_in))
    with pytest.raises(DeidentificationError) as refused:
        run(engine, head(), EXPLICIT, tmp_path)
    assert refused.value.rule == "recognizable_features"
    assert run(engine, head((0x00280302, "CS", b"NO")), EXPLICIT, tmp_path).PatientIdentityRemoved == "YES"


@pytest.mark.parametrize(("burned_in", "is_released"), [("reject", False), ("clean", False), ("accept", True)])
def test_text_is_accepted_where_that_was_chosen(
    make_engine: MakeEngine, tmp_path: Path, burned_in: str, is_released: bool
) -> None:
    engine = make_engine(Policy(burned_in=burned_in))
    data = head((0x00280301, "CS", b"YES"))
    if is_released:
        assert run(engine, data, EXPLICIT, tmp_path).BurnedInAnnotation == "YES"
    else:
        with pytest.raises(DeidentificationError) as refused:
            run(engine, data, EXPLICIT, tmp_path)
        assert refused.value.rule == "burned_in"


def rules(directory: Path, columns: int, text: str) -> tuple[RegionRule, ...]:
    path = directory / "rules.yaml"
    path.write_text(f"rules:\n  - {{sop_class_uid: '{CAPTURE}', columns: {columns}, blank: {text}}}\n")
    return load_region_rules(path)


def frames_of(count: int, *, is_color: bool) -> pydicom.Dataset:
    """Give a secondary capture of noise, 64 rows of 80 columns."""
    data_set = pydicom.Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = CAPTURE, "1.2.3.4.5"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.1"
    data_set.PatientName, data_set.PatientID = "Muster^Erika", "PAT-4711-X"
    data_set.Modality, data_set.ConversionType = "OT", "WSD"
    data_set.Rows, data_set.Columns, data_set.NumberOfFrames = 64, 80, count
    data_set.SamplesPerPixel = 3 if is_color else 1
    data_set.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
    if is_color:
        data_set.PlanarConfiguration = 0
    data_set.BitsAllocated = data_set.BitsStored = 8
    data_set.HighBit, data_set.PixelRepresentation = 7, 0
    noise = numpy.random.default_rng(7).integers(1, 255, (count, 64, 80, data_set.SamplesPerPixel), numpy.uint8)
    data_set.PixelData = noise.tobytes()
    data_set.file_meta = pydicom.dataset.FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data_set


def encoded(data_set: pydicom.Dataset) -> bytes:
    """Give the bytes behind the File Meta Information."""
    buffer = io.BytesIO()
    data_set.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    buffer.seek(read_file_meta(buffer).data_set_offset)
    return buffer.read()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: str(uid.name))
@pytest.mark.parametrize(("count", "is_color"), [(1, True), (3, False)])
def test_compressed_frames_are_cleaned_and_lose_nothing_else(
    make_engine: MakeEngine, tmp_path: Path, syntax: pydicom.uid.UID, count: int, is_color: bool
) -> None:
    data_set = frames_of(count, is_color=is_color)
    plain = data_set.pixel_array.reshape(count, 64, 80, -1)
    data_set.compress(syntax, generate_instance_uid=False)
    engine = make_engine(Policy(burned_in="clean"), rules(tmp_path, 80, "[[0, 0, 80, 4], [20, 10, 5, 6]]"))
    cleaned = run(engine, encoded(data_set), syntax, tmp_path)
    assert cleaned.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    found = cleaned.pixel_array.reshape(count, 64, 80, -1)
    expected = plain.copy()
    expected[:, 0:4, :] = 0
    expected[:, 10:16, 20:25] = 0
    assert (found == expected).all()
    assert cleaned.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in cleaned.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_gdcm_KY.dcm"])
def test_real_compressed_captures_are_cleaned(make_engine: MakeEngine, tmp_path: Path, name: str) -> None:
    """What is blanked is black in every color space; the rest looks as it did."""
    sample = next(sample for sample in samples() if sample.path.name == name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = pydicom.dcmread(sample.path)
        plain = before.pixel_array.reshape(-1, before.Rows, before.Columns, 3).astype(int)
    engine = make_engine(Policy(burned_in="clean"), rules(tmp_path, before.Columns, "[[0, 0, 40, 30]]"))
    cleaned = run(engine, sample.data_set, sample.transfer_syntax_uid, tmp_path)
    found = cleaned.pixel_array.reshape(plain.shape).astype(int)
    assert found[:, :30, :40].max() <= 1
    rest = numpy.abs(found - plain)[:, 32:, 48:]
    assert rest.max() <= 2


def test_compressed_frames_that_can_not_be_decoded_are_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    data_set = frames_of(1, is_color=True)
    data_set.compress(JPEG2000Lossless, generate_instance_uid=False)
    data = bytearray(encoded(data_set))
    start = data.index(b"\xff\x4f\xff\x51")
    data[start : start + 400] = b"\x55" * 400
    engine = make_engine(Policy(burned_in="clean"), rules(tmp_path, 80, "[[0, 0, 80, 4]]"))
    with pytest.raises(DeidentificationError) as refused:
        run(engine, bytes(data), JPEG2000Lossless, tmp_path)
    assert refused.value.rule == "burned_in"
