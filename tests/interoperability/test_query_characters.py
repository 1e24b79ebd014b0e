"""
Names in one character set are found by a query in another, and answered in that of the query (PS3.4 C.2.2.2 and
C.4.1.1.3).
"""

# ruff: noqa: RUF001 - letters of many scripts are the point
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from pacs.dimse import CFindRQ, encode_command
from tests.dicom import CT_IMAGE_STORAGE, Client, element, pdv
from tests.find import STUDY_ROOT, find, keys, statuses_of
from tests.server import Server
from tests.unit.dataset.test_charset import ISO_2022

EXPLICIT: Final = "1.2.840.10008.1.2.1"

STORED: Final = {
    "japanese": ("\\ISO 2022 IR 87", ISO_2022["\\ISO 2022 IR 87"]),
    "katakana": ("ISO 2022 IR 13\\ISO 2022 IR 87", ISO_2022["ISO 2022 IR 13\\ISO 2022 IR 87"]),
    "korean": ("\\ISO 2022 IR 149", ISO_2022["\\ISO 2022 IR 149"]),
    "chinese": ("\\ISO 2022 IR 58", ISO_2022["\\ISO 2022 IR 58"]),
    "gb18030": ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
    "gbk": ("GBK", "Zhang^San=张^三".encode("gbk")),
    "traditional": ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode()),
    "cyrillic": ("ISO_IR 144", "Люксембург^Иван".encode("iso8859-5")),
    "arabic": ("ISO_IR 127", "قباني^لنزار".encode("iso8859-6")),
    "greek": ("ISO_IR 126", "Διονυσιος^Ανδρέας".encode("iso8859-7")),
    "hebrew": ("ISO_IR 138", "שרון^דבורה".encode("iso8859-8")),
    "thai": ("ISO_IR 166", "สมชาย^ใจดี".encode("iso8859-11")),
    "latin1": ("ISO_IR 100", "Müller^Zoë".encode("iso8859-1")),
    "latin2": ("ISO_IR 101", "Wałęsa^Ümit".encode("iso8859-2")),
    "latin3": ("ISO_IR 109", "Ĉapelo^Ĝoĝo".encode("iso8859-3")),
    "latin4": ("ISO_IR 110", "Āboliņš^Ķīlis".encode("iso8859-4")),
    "latin5": ("ISO_IR 148", "Çavuş^Işık".encode("iso8859-9")),
    "utf8": ("ISO_IR 192", "Müller^Łukasz".encode()),
}
"""By Patient ID: a character set, and a name as its bytes."""

QUERIES: Final = [
    ("ISO_IR 192", "山田^太郎*", {"japanese", "katakana"}),
    ("\\ISO 2022 IR 87", "山田^太郎", {"japanese", "katakana"}),
    ("GB18030", "山田*", {"japanese", "katakana"}),
    ("\\ISO 2022 IR 87", "=山田^*", {"japanese", "katakana"}),
    ("ISO_IR 192", "==やまだ^たろう", {"japanese", "katakana"}),
    ("ISO_IR 192", "ヤマダ^タロウ", {"katakana"}),
    ("\\ISO 2022 IR 149", "洪^吉洞", {"korean"}),
    ("ISO_IR 192", "홍^길?", {"korean"}),
    ("GB18030", "王^小*", {"gb18030", "traditional"}),
    ("GBK", "王^小东", {"gb18030"}),
    ("GB18030", "张*", {"chinese", "gbk"}),
    ("ISO_IR 192", "люксембург^иван", {"cyrillic"}),
    ("ISO_IR 144", "*^ИВАН", {"cyrillic"}),
    ("ISO_IR 192", "قباني*", {"arabic"}),
    ("ISO_IR 126", "ΔΙΟΝΥΣΙΟΣ^*", {"greek"}),
    ("ISO_IR 138", "שרון^דבורה", {"hebrew"}),
    ("ISO_IR 192", "ส?ชาย^*", {"thai"}),
    ("ISO_IR 148", "MÜLLER*", {"latin1", "utf8"}),
    ("ISO_IR 100", "m?ller^*", {"latin1", "utf8"}),
    ("ISO_IR 192", "WAŁĘSA^*", {"latin2"}),
    ("ISO_IR 109", "ĉapelo^ĝo?o", {"latin3"}),
    ("ISO_IR 192", "āboliņš*", {"latin4"}),
    ("ISO_IR 148", "çavuş^*", {"latin5"}),
    ("", "Yamada^Tarou", {"japanese"}),
    ("", "Wang^*", {"gb18030", "traditional"}),
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("characters"))
    server.start()
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        for number, (patient_id, (character_set, name)) in enumerate(STORED.items()):
            elements = (
                (0x00080005, "CS", character_set.encode()),
                (0x00080016, "UI", CT_IMAGE_STORAGE.encode()),
                (0x00080018, "UI", b"1.2.66.%d.1.1" % number),
                (0x00100010, "PN", name),
                (0x00100020, "LO", patient_id.encode()),
                (0x0020000D, "UI", b"1.2.66.%d" % number),
                (0x0020000E, "UI", b"1.2.66.%d.1" % number),
            )
            response = client.store(b"".join(element(*e) for e in elements), f"1.2.66.{number}.1.1")
            assert response.status == 0, patient_id
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize(("character_set", "name", "expected"), QUERIES)
def test_a_name_is_found_in_whatever_set_it_was_stored(
    filled: Server, character_set: str, name: str, expected: set[str]
) -> None:
    identifier = keys("STUDY", PatientID="", StudyInstanceUID="")
    if character_set:
        identifier.SpecificCharacterSet = character_set.split("\\")
    identifier.PatientName = name
    answers = find(filled.port, identifier)
    assert set(answers.values("PatientID")) == expected
    assert answers.statuses[-1] == 0


@pytest.mark.parametrize(
    ("character_set", "name", "count"),
    [
        (b"ISO_IR 13", b"\xd4\xcf\xc0\xde*", 1),
        (b"\\ISO 2022 IR 58", b"\x1b$)A\xd5\xc5*", 2),
        (b"", b"M\xc3\xbcller^*", 2),
    ],
)
def test_a_name_is_found_by_bytes_that_pydicom_does_not_write(
    filled: Server, character_set: bytes, name: bytes, count: int
) -> None:
    """The last is UTF-8 that is not declared: what many peers send is read as what it is."""
    request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT, has_data_set=True)
    identifier = (
        element(0x00080005, "CS", character_set) + element(0x00080052, "CS", b"STUDY") + element(0x00100010, "PN", name)
    )
    with Client(filled.port, (STUDY_ROOT, EXPLICIT)) as client:
        client.socket.sendall(pdv(encode_command(request), is_command=True) + pdv(identifier))
        assert statuses_of(client) == [0xFF00] * count + [0]


def test_each_of_several_texts_in_katakana_is_found(server: Server) -> None:
    """In JIS X 0201 5CH divides values too, though it looks like a yen sign (PS3.5 6.2, LO)."""
    elements = (
        (0x00080005, "CS", b"ISO_IR 13"),
        (0x00080016, "UI", CT_IMAGE_STORAGE.encode()),
        (0x00080018, "UI", b"1.2.67.1.1"),
        (0x00081080, "LO", b"\xd4\xcf\xc0\xde\\\xc0\xcf"),
        (0x0020000D, "UI", b"1.2.67"),
        (0x0020000E, "UI", b"1.2.67.1"),
    )
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        assert client.store(b"".join(element(*e) for e in elements), "1.2.67.1.1").status == 0
    identifier = keys("STUDY", StudyInstanceUID="", AdmittingDiagnosesDescription="ﾀﾏ")
    identifier.SpecificCharacterSet = "ISO_IR 192"
    (match,) = find(server.port, identifier).identifiers
    assert list(match.AdmittingDiagnosesDescription) == ["ﾔﾏﾀﾞ", "ﾀﾏ"]


def test_patients_who_differ_in_undeclared_bytes_are_two(server: Server) -> None:
    """Specific Character Set is missing, as with many an old device, and they are neither ASCII nor UTF-8."""
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        for number, letter in enumerate((b"\xc4", b"\xd6"), start=1):
            elements = (
                (0x00080016, "UI", CT_IMAGE_STORAGE.encode()),
                (0x00080018, "UI", b"1.2.68.%d.1.1" % number),
                (0x00100010, "PN", b"M\xfcller"),
                (0x00100020, "LO", letter + b"1"),
                (0x0020000D, "UI", b"1.2.68.%d" % number),
                (0x0020000E, "UI", b"1.2.68.%d.1" % number),
            )
            assert client.store(b"".join(element(*e) for e in elements), f"1.2.68.{number}.1.1").status == 0
    identifier = keys("STUDY", PatientID="", PatientName="müller")
    identifier.SpecificCharacterSet = "ISO_IR 192"
    assert sorted(find(server.port, identifier).values("PatientID")) == ["Ä1", "Ö1"]


@pytest.mark.parametrize("patient_id", STORED)
@pytest.mark.parametrize("asked_in", ["own", "ISO_IR 192", "ISO_IR 100", ""])
def test_a_name_is_answered_in_the_set_of_the_query_or_in_utf_8(filled: Server, patient_id: str, asked_in: str) -> None:
    """What the query's set lacks comes in UTF-8, and Specific Character Set says so (PS3.4 C.4.1.1.3.2)."""
    stored_in = STORED[patient_id][0]
    asked_in = stored_in if asked_in == "own" else asked_in
    identifier = keys("STUDY", PatientID=patient_id, PatientName="", StudyInstanceUID="")
    if asked_in:
        identifier.SpecificCharacterSet = asked_in.split("\\")
    (match,) = find(filled.port, identifier).identifiers
    answered_in = match.get("SpecificCharacterSet", "")
    answered_in = answered_in if isinstance(answered_in, str) else "\\".join(answered_in)
    if stored_in == asked_in:
        assert answered_in == stored_in
    assert answered_in in (asked_in, "ISO_IR 192")
    if patient_id != "chinese" or answered_in == "ISO_IR 192":  # pydicom does not read IR 58's escape sequences
        assert str(match.PatientName) == expected_name(patient_id)


def expected_name(patient_id: str) -> str:
    """Give the name as UTF-8 has it."""
    identifiers = {
        "japanese": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "katakana": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "korean": "Hong^Gildong=洪^吉洞=홍^길동",
        "chinese": "Zhang^XiaoDong=张^小东",
    }
    if patient_id in identifiers:
        return identifiers[patient_id]
    character_set, raw = STORED[patient_id]
    return raw.decode(CODECS.get(character_set, "utf-8"))


CODECS: Final = {
    "GB18030": "gb18030", "GBK": "gbk", "ISO_IR 144": "iso8859-5", "ISO_IR 127": "iso8859-6",
    "ISO_IR 126": "iso8859-7", "ISO_IR 138": "iso8859-8", "ISO_IR 166": "iso8859-11", "ISO_IR 100": "iso8859-1",
    "ISO_IR 101": "iso8859-2", "ISO_IR 109": "iso8859-3", "ISO_IR 110": "iso8859-4", "ISO_IR 148": "iso8859-9",
}  # fmt: skip
