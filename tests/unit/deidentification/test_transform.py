"""
The places that are forgotten: what the README of the tables names one by one.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from pacs.dataset.part10 import encode_file_meta
from pacs.deidentification.errors import NotDeidentifiable, VerificationFailed
from pacs.deidentification.frames import clean_fragments, clean_icc_profile
from pacs.deidentification.profiles import Policy
from pacs.deidentification.tables import Profile
from pacs.deidentification.vault import Vault
from pacs.deidentification.verifier import Expectation, Verifier
from tests.deidentification import (
    EXPLICIT,
    IMPLICIT,
    PRIVATE_SOP_CLASS,
    deidentify,
    encode,
    make_vault,
    minimal,
    read,
)

BASIC = Policy(Profile.BASIC)
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """Give a new vault."""
    return make_vault(tmp_path)


def code(meaning: bytes = b"Comment") -> list[Any]:
    """Give a code item."""
    return [(0x00080100, "SH", b"121106"), (0x00080102, "SH", b"DCM"), (0x00080104, "LO", meaning)]


def test_the_output_says_what_was_done(vault: Vault) -> None:
    output = read(deidentify(encode(minimal()), Policy(Profile.HIPAA_SAFE_HARBOR), vault))
    assert output.PatientIdentityRemoved == "YES"
    assert output.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [item.CodeValue for item in output.DeidentificationMethodCodeSequence] == ["113100", "113107", "113108"]
    assert all(len(text) <= 64 for text in output.DeidentificationMethod)
    assert "2026d" in output.DeidentificationMethod[0]


def test_a_method_of_before_stays(vault: Vault) -> None:
    elements = [*minimal(), (0x00120063, "LO", b"by hand")]
    assert read(deidentify(encode(elements), BASIC, vault)).DeidentificationMethod[0] == "by hand"


def test_file_meta_is_made_anew(vault: Vault) -> None:
    output = deidentify(encode(minimal()), BASIC, vault)
    data_set = read(output)
    assert output[:128] == bytes(128)
    assert data_set.file_meta.MediaStorageSOPInstanceUID == data_set.SOPInstanceUID
    assert {element.tag.element for element in data_set.file_meta} == {0, 1, 2, 3, 0x10, 0x12, 0x13}


def test_two_patients_without_id_are_two(vault: Vault) -> None:
    outputs = []
    for study in (b"1.2.3.4", b"1.2.3.5"):
        elements = [(tag, vr, value) for tag, vr, value in minimal(patient_id="") if tag != 0x0020000D]
        outputs.append(read(deidentify(encode([*elements, (0x0020000D, "UI", study)]), BASIC, vault)))
    assert outputs[0].PatientID != outputs[1].PatientID
    assert all(output.PatientID for output in outputs)


def test_the_issuer_tells_patients_apart(vault: Vault) -> None:
    ids = {
        read(deidentify(encode([*minimal(), (0x00100021, "LO", issuer)]), BASIC, vault)).PatientID
        for issuer in (b"ONE", b"TWO", b"ONE ")
    }
    assert len(ids) == 2


def test_echoes_of_a_name_are_replaced_wherever_they_stand(vault: Vault) -> None:
    elements = [
        *minimal(),
        (0x00180015, "CS", b"MUSTER"),
        (0x00181020, "LO", b"V1 for erika"),
        (0x30060020, "SQ", [[(0x30060026, "LO", b"ROI Muster"), (0x30060022, "IS", b"1")]]),
        (0x00081190, "UR", b"http://pacs/PAT-4711-X"),
    ]
    output = deidentify(encode(elements, is_open=True), BASIC, vault)
    for word in (b"muster", b"erika", b"pat-4711-x"):
        assert word not in output.lower()
    assert read(output).StructureSetROISequence[0].ROINumber == 1


@pytest.mark.parametrize("vr", ["LT", "OB", "OW", "UN", "UT"])
def test_a_sequence_that_is_written_with_another_vr_is_not_passed_unseen(vault: Vault, vr: str) -> None:
    item = encode([(0x00081070, "PN", b"Bediener^Otto")])
    hidden = (0x00189346, vr, struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item)
    for elements in ([*minimal(), hidden], [*minimal(), (0x00089215, "SQ", [[hidden]])]):
        assert b"Bediener" not in deidentify(encode(elements), BASIC, vault)


def test_a_short_number_is_looked_for_as_a_whole_value_alone(vault: Vault) -> None:
    kept = [(0x00181020, "LO", b"17"), (0x00200013, "IS", b"17"), (0x00080070, "LO", b"X17")]
    elements = [*minimal(patient_id="17"), *kept]
    output = read(deidentify(encode(elements), BASIC, vault))
    assert output.SoftwareVersions != "17"
    assert output.InstanceNumber == 17
    assert output.Manufacturer == "X17"


@pytest.mark.parametrize(
    ("character_set", "name", "echo"),
    [
        (b"ISO_IR 192", "山田^太郎", "装置 山田"),
        (b"ISO_IR 100", "Müller^Jörg", "Gerät Müller"),
        (b"GB18030", "王小东", "王小东 1"),
        (b"ISO_IR 192", "Weiß^Jörg", "KERNEL WEISS"),
        (b"ISO_IR 192", "Weiss^Anna", "Gerät Weiß"),
        (b"ISO_IR 192", "Müller^Jörg", "Gera\u0308t Mu\u0308ller"),
        (b"ISO_IR 192", "ヤマダ^タロウ", "装置 ﾔﾏﾀﾞ"),
    ],
)
def test_names_in_any_character_set_are_found(vault: Vault, character_set: bytes, name: str, echo: str) -> None:
    codec = {b"ISO_IR 192": "utf-8", b"ISO_IR 100": "latin-1", b"GB18030": "gb18030"}[character_set]
    elements = [element for element in minimal() if element[0] != 0x00100010]
    elements += [
        (0x00080005, "CS", character_set),
        (0x00100010, "PN", name.encode(codec)),
        (0x00181020, "LO", echo.encode(codec)),
    ]
    output = deidentify(encode(elements), BASIC, vault)
    assert read(output).SoftwareVersions == "REMOVED"
    for part in name.split("^"):
        assert part.encode(codec) not in output


@pytest.mark.parametrize(("name", "echo"), [("Weiß", "WEISS"), ("Weiss", "GERÄT WEIß"), ("Müller", "Mu\u0308ller")])
def test_the_verifier_finds_a_name_however_it_is_written(vault: Vault, name: str, echo: str) -> None:
    def elements(version: bytes, named: str) -> bytes:
        kept = [element for element in minimal() if element[0] != 0x00100010]
        version_place = (0x00181020, "LO", version)
        return encode([*kept, (0x00080005, "CS", b"ISO_IR 192"), (0x00100010, "PN", named.encode()), version_place])

    text = echo.encode()
    output = deidentify(elements(b"V" * len(text), name), BASIC, vault)
    expected = Expectation(BASIC, read(output).PatientID, 1)
    Verifier().verify(elements(b"V" * len(text), name), EXPLICIT, output, expected)
    with pytest.raises(VerificationFailed) as refused:
        Verifier().verify(elements(text, name), EXPLICIT, output.replace(b"V" * len(text), text), expected)
    assert refused.value.rule == "name"


def test_iso_2022_names_are_replaced_whole(vault: Vault) -> None:
    name = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
    elements = [element for element in minimal() if element[0] != 0x00100010]
    elements += [(0x00080005, "CS", b"\\ISO 2022 IR 87"), (0x00100010, "PN", name), (0x00081070, "PN", name)]
    output = deidentify(encode(elements), BASIC, vault)
    assert b"\x1b" not in output
    assert b";3ED" not in output


def test_unknown_attributes_of_vr_un_go_and_known_ones_are_what_they_are(vault: Vault) -> None:
    elements = [
        *minimal(),
        (0x00080090, "UN", b"Doctor^Who"),
        (0x00081155, "UN", b"1.2.3.9"),
        (0x00189999, "UN", b"whatever"),
        (0x00081198, "UN", encode([(0xFFFEE000, "", b"")], IMPLICIT)[:0]),
    ]
    output = read(deidentify(encode(elements), BASIC, vault))
    assert output.ReferringPhysicianName == ""
    assert output.ReferencedSOPInstanceUID.startswith("2.25.")
    assert 0x00189999 not in output


def test_a_sequence_of_vr_un_is_entered(vault: Vault) -> None:
    inner = encode([(0x00081155, "UI", b"1.2.3.9"), (0x00100020, "LO", b"SECRET-ID")], IMPLICIT)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    output = deidentify(encode([*minimal(), (0x00081115, "UN", item)]), BASIC, vault)
    assert b"SECRET-ID" not in output
    assert b"1.2.3.9" not in output


def test_private_elements_go_at_any_depth_creators_included(vault: Vault) -> None:
    nested = (0x00111001, "SQ", [[(0x00131001, "LO", b"SECRET")]])
    private: list[Any] = [(0x00091001, "LO", b"SECRET"), (0x00090010, "LO", b"VENDOR"), nested]
    elements = [*minimal(), *private, (0x00081115, "SQ", [[*private, (0x00081199, "SQ", [private])]])]
    for is_open in (True, False):
        output = deidentify(encode(elements, is_open=is_open), BASIC, vault)
        assert b"SECRET" not in output
        assert b"VENDOR" not in output


def test_overlays_and_curves_go_as_whole_planes(vault: Vault) -> None:
    elements = [
        *minimal(),
        (0x50000010, "US", b"\1\0"),
        (0x60020022, "LO", b"Overlay of Muster"),
        (0x60021500, "LO", b"label"),
        (0x60023000, "OW", b"\1\2"),
        (0x601E0010, "US", b"\1\0"),
    ]
    output = read(deidentify(encode(elements), BASIC, vault))
    assert not [element for element in output if 0x5000 <= element.tag.group <= 0x601E]


def test_references_are_mapped_alike_everywhere_and_well_known_uids_stay(vault: Vault) -> None:
    elements = [
        *minimal(instance="1.2.3.77"),
        (0x00200052, "UI", b"1.2.840.10008.1.4.1.1"),
        (0x00081115, "SQ", [[(0x0020000E, "UI", b"1.2.3.4.1"), (0x00081199, "SQ", [[
            (0x00081150, "UI", b"1.2.840.10008.5.1.4.1.1.2"), (0x00081155, "UI", b"1.2.3.77")]])]]),
        (0x00080058, "UI", b"1.2.3.77\\1.2.3.78"),
    ]  # fmt: skip
    output = read(deidentify(encode(elements), BASIC, vault))
    series = output.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == output.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == output.SOPInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert output.FailedSOPInstanceUIDList[0] == output.SOPInstanceUID
    assert output.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    assert len(output.SOPInstanceUID) <= 44


def test_a_type_2_sequence_of_references_is_emptied_unless_the_object_lists_them(vault: Vault) -> None:
    """X/Z/U*: a segmentation without the references that it lists would not conform to its IOD."""
    reference = [(0x00081150, "UI", PRIVATE_SOP_CLASS.encode()), (0x00081155, "UI", b"1.2.3.4.9")]
    derived = (0x00089124, "SQ", [[(0x00082112, "SQ", [reference])]])
    listed = (0x00081115, "SQ", [[(0x0020000E, "UI", b"1.2.3.4.1"), (0x0008114A, "SQ", [reference])]])
    frames = (0x52009230, "SQ", [[derived]])
    plain = read(deidentify(encode([*minimal(sop_class=SEGMENTATION), frames]), BASIC, vault))
    sources = plain[0x52009230].value[0][0x00089124].value[0][0x00082112].value
    assert len(sources) == 0
    whole = read(deidentify(encode([*minimal(sop_class=SEGMENTATION), frames, listed]), BASIC, vault))
    (source,) = whole[0x52009230].value[0][0x00089124].value[0][0x00082112].value
    uid = source.ReferencedSOPInstanceUID
    assert uid == whole[0x00081115].value[0][0x0008114A].value[0].ReferencedSOPInstanceUID
    assert uid.startswith("2.25.")


def test_kept_uids_are_kept_and_said(vault: Vault) -> None:
    output = read(deidentify(encode(minimal(instance="1.2.3.77")), Policy(Profile.RETAIN_LONGITUDINAL), vault))
    assert output.SOPInstanceUID == output.file_meta.MediaStorageSOPInstanceUID == "1.2.3.77"
    assert "113110" in [item.CodeValue for item in output.DeidentificationMethodCodeSequence]
    mapped = read(deidentify(encode(minimal()), Policy(Profile.RETAIN_LONGITUDINAL, uids="map"), vault))
    assert mapped.SOPInstanceUID.startswith("2.25.")
    assert "113110" not in [item.CodeValue for item in mapped.DeidentificationMethodCodeSequence]
    kept = read(deidentify(encode(minimal(instance="1.2.3.77")), Policy(Profile.BASIC, uids="keep"), vault))
    assert kept.SOPInstanceUID == "1.2.3.77"


def test_a_report_keeps_its_form_and_loses_its_text(vault: Vault) -> None:
    item = [(0x0040A010, "CS", b"CONTAINS"), (0x0040A040, "CS", b"TEXT"), (0x0040A043, "SQ", [code()]),
            (0x0040A160, "UT", b"Mrs Muster feels better")]  # fmt: skip
    elements = [*minimal(sop_class=BASIC_TEXT_SR), (0x0040A040, "CS", b"CONTAINER"), (0x0040A730, "SQ", [item, item])]
    output = read(deidentify(encode(elements), BASIC, vault))
    assert len(output.ContentSequence) == 1
    assert output.ContentSequence[0].TextValue == "REMOVED"
    assert output.ContentSequence[0].ConceptNameCodeSequence[0].CodeMeaning == "Comment"


def test_key_objects_still_resolve(vault: Vault) -> None:
    reference = [(0x00081150, "UI", b"1.2.840.10008.5.1.4.1.1.2"), (0x00081155, "UI", b"1.2.3.77")]
    tree = [
        [(0x0040A010, "CS", b"CONTAINS"), (0x0040A040, "CS", b"TEXT"), (0x0040A160, "UT", b"of Muster")],
        [(0x0040A010, "CS", b"CONTAINS"), (0x0040A040, "CS", b"IMAGE"), (0x00081199, "SQ", [reference])],
    ]
    output = read(deidentify(encode([*minimal(sop_class=KEY_OBJECTS), (0x0040A730, "SQ", tree)]), BASIC, vault))
    image = read(deidentify(encode(minimal(instance="1.2.3.77")), BASIC, vault))
    (item,) = output.ContentSequence
    assert item.ValueType == "IMAGE"
    assert item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID


def test_an_encapsulated_document_becomes_an_empty_one(vault: Vault) -> None:
    elements = [
        *minimal(sop_class=ENCAPSULATED_PDF),
        (0x00420011, "OB", b"%PDF-1.4 all about her"),
        (0x00420012, "LO", b"application/pdf"),
        (0x00420015, "UL", b"\x16\0\0\0"),
    ]
    output = read(deidentify(encode(elements), BASIC, vault))
    document = output.EncapsulatedDocument
    assert document.startswith(b"%PDF")
    assert b"all about" not in document
    assert output.EncapsulatedDocumentLength <= len(document) <= output.EncapsulatedDocumentLength + 1


def test_a_media_directory_is_refused(vault: Vault) -> None:
    with pytest.raises(NotDeidentifiable, match="DICOMDIR"):
        deidentify(encode(minimal(sop_class="1.2.840.10008.1.3.10")), BASIC, vault)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_data_set_that_is_cut_off_is_refused(vault: Vault, cut: int) -> None:
    data = encode([*minimal(), (0x00081115, "SQ", [[(0x00081155, "UI", b"1.2.3.9" * 8)]])], is_open=True)
    with pytest.raises(NotDeidentifiable):
        deidentify(data[:-cut], BASIC, vault)


def test_errors_say_no_value(vault: Vault) -> None:
    with pytest.raises(NotDeidentifiable) as caught:
        deidentify(encode(minimal())[:-3], BASIC, vault)
    assert "Muster" not in str(caught.value)


def test_jpeg_comments_are_overwritten_in_place() -> None:
    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    jfif = b"JFIF\0\1\1\0\0\1\0\1\0\0"
    frame = (
        b"\xff\xd8" + segment(0xE0, jfif) + segment(0xE1, b"Exif of Muster") + segment(0xFE, b"Muster")
        + segment(0xEE, b"Adobe\0\1\0\0\0\0\1") + segment(0xC0, bytes(15)) + segment(0xDA, bytes(8))
        + b"\1\2\xff\0\3\xff\xd0\4" + segment(0xFE, b"Muster again") + segment(0xDA, bytes(8)) + b"\5\6\xff\xd9Muster"
    )  # fmt: skip
    for parts in ([frame], [frame[:30], frame[30:]]):
        cleaned = b"".join(clean_fragments(parts))
        assert len(cleaned) == len(frame)
        assert b"Muster" not in cleaned
        assert jfif in cleaned
        assert b"Adobe" in cleaned
        assert b"\1\2\xff\0\3\xff\xd0\4" in cleaned


def test_jpeg_2000_comments_are_overwritten_in_place() -> None:
    siz = struct.pack(">HH", 0xFF51, 4) + b"\0\0"
    comment = struct.pack(">HHH", 0xFF64, 10, 1) + b"Muster"
    tile = b"\xff\x93" + b"\xff\x64data"
    sot = struct.pack(">HHHLBB", 0xFF90, 10, 0, 12 + len(comment) + len(tile), 0, 1)
    stream = b"\xff\x4f" + siz + comment + sot + comment + tile + b"\xff\xd9"
    (cleaned,) = clean_fragments([stream])
    assert b"Muster" not in cleaned
    assert len(cleaned) == len(stream)
    assert tile in cleaned


def icc_profile() -> tuple[bytes, bytes]:
    """Give a color profile with a name in it, and one of its curves."""
    text = b"desc" + bytes(4) + struct.pack(">L", 7) + b"Muster\0" + bytes(9)
    curve = b"curv" + bytes(4) + struct.pack(">L", 1) + b"\x02\x33" + bytes(2)
    head = bytearray(128)
    head[36:40] = b"acsp"
    start = 132 + 24
    table = struct.pack(">L", 2) + b"desc" + struct.pack(">LL", start, len(text))
    table += b"rTRC" + struct.pack(">LL", start + len(text), len(curve))
    return bytes(head) + table + text + curve, curve


def test_what_describes_the_image_stays_of_a_jp2_file() -> None:
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">L", 8 + len(content)) + kind + content

    profile, curve = icc_profile()
    size = box(b"ihdr", b"\0\0\0\4\0\0\0\4\0\1\7\7\0\0")
    header = box(b"jp2h", size + box(b"colr", b"\2\0\0" + profile) + box(b"uuid", bytes(16) + b"Muster"))
    stream = b"\xff\x4f" + struct.pack(">HH", 0xFF51, 4) + b"\0\0" + b"\xff\xd9"
    file = box(b"jP  ", b"\r\n\x87\n") + header + box(b"xml ", b"<a>Muster</a>") + box(b"jp2c", stream)
    (cleaned,) = clean_fragments([file])
    assert len(cleaned) == len(file)
    assert b"Muster" not in cleaned
    for kept in (size, curve, stream):
        assert kept in cleaned
    with pytest.raises(NotDeidentifiable, match="profile"):
        clean_fragments([file.replace(b"acsp", b"Must")])


def test_an_icc_profile_keeps_its_colors_and_loses_its_text() -> None:
    profile, curve = icc_profile()
    cleaned = clean_icc_profile(profile)
    assert cleaned is not None
    assert b"Muster" not in cleaned
    assert cleaned.endswith(curve)
    assert clean_icc_profile(b"no profile") is None


class TestVerifier:
    """It must find what a transformer forgets."""

    def verify(self, before: list[Any], after: list[Any], policy: Policy = BASIC) -> None:
        """Hold one data set against another."""
        meta = encode_file_meta(
            sop_class_uid=PRIVATE_SOP_CLASS, sop_instance_uid="2.25.99", transfer_syntax_uid=EXPLICIT,
            source_ae_title="", implementation_class_uid="2.25.1", implementation_version_name="T",
        )  # fmt: skip
        Verifier().verify(encode(before), EXPLICIT, meta + encode(after), Expectation(policy, "P1", 10))

    def good(self) -> list[Any]:
        """Give what a transformer should give for `minimal`."""
        return [
            (0x00080016, "UI", PRIVATE_SOP_CLASS.encode()),
            (0x00080018, "UI", b"2.25.99"),
            (0x00100010, "PN", b"P1"),
            (0x00100020, "LO", b"P1"),
            (0x0020000D, "UI", b"2.25.98"),
            (0x00120062, "CS", b"YES"),
            (0x00120063, "LO", b"text"),
            (0x00120064, "SQ", [[(0x00080100, "SH", b"113100"), (0x00080102, "SH", b"DCM")]]),
            (0x00280303, "CS", b"REMOVED"),
        ]

    def test_a_good_output_passes(self) -> None:
        self.verify(minimal(sop_class=PRIVATE_SOP_CLASS), self.good())

    @pytest.mark.parametrize(
        ("rule", "element"),
        [
            ("table", (0x00081030, "LO", b"study of the knee")),
            ("private", (0x00091001, "LO", b"x")),
            ("group", (0x00041511, "UI", b"2.25.9")),
            ("repeating_group", (0x60003000, "OW", b"\0\0")),
            ("uid", (0x0020000E, "UI", b"1.2.3.4.1")),
            ("name", (0x00181020, "LO", b"for muster")),
            ("number", (0x00181020, "LO", b"of PAT-4711-X")),
            ("name", (0x00091002 - 0x10000, "LO", b"Erika's")),
            ("unknown", (0x00189999, "UN", b"xy")),
            ("structure", (0x00189346, "OB", b"xy")),
            ("private", (0x00081115, "SQ", [[(0x00111001, "LO", b"x")]])),
            ("table", (0x52009230, "SQ", [[(0x00209113, "SQ", [[(0x00081030, "LO", b"deep")]])]])),
            ("original_value", (0x00080090, "PN", b"Doctor^Who")),
            ("original_value", (0x00080020, "DA", b"20240102")),
        ],
    )  # fmt: skip
    def test_what_must_not_be_there_is_found(self, rule: str, element: Any) -> None:
        before = [*minimal(sop_class=PRIVATE_SOP_CLASS), (0x00080020, "DA", b"20240102")]
        before.append((0x00080090, "PN", b"Doctor^Who"))
        with pytest.raises(VerificationFailed) as caught:
            self.verify(before, [*self.good(), element])
        assert caught.value.rule == rule
        assert "Muster" not in str(caught.value)

    @pytest.mark.parametrize("missing", [0x00120062, 0x00120063, 0x00120064, 0x00280303])
    def test_a_missing_mark_is_found(self, missing: int) -> None:
        with pytest.raises(VerificationFailed, match="marker"):
            self.verify(minimal(sop_class=PRIVATE_SOP_CLASS), [e for e in self.good() if e[0] != missing])

    def test_a_date_that_was_not_shifted_by_the_patients_days_is_found(self) -> None:
        policy = Policy(Profile.RETAIN_LONGITUDINAL)
        codes = [[(0x00080100, "SH", code)] for code in (b"113100", b"113107", b"113110")]
        before = [*minimal(sop_class=PRIVATE_SOP_CLASS), (0x00080020, "DA", b"20240112")]
        after = [e for e in self.good() if e[0] not in (0x00120064, 0x00280303)]
        after += [(0x00120064, "SQ", codes), (0x00280303, "CS", b"MODIFIED")]
        self.verify(before, [*after, (0x00080020, "DA", b"20240102")], policy)
        for date in (b"20240112", b"20240103", b"2024"):
            with pytest.raises(VerificationFailed, match="date"):
                self.verify(before, [*after, (0x00080020, "DA", date)], policy)
