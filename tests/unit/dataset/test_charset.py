"""
Character sets both ways: names of PS3.5 annexes H to K and others, held against pydicom (PS3.3 C.12.1.1.2).
"""

# ruff: noqa: RUF001 - letters of many scripts are the point
from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes

from pacs.dataset.charset import decode_text, encode_text

NAMES = {
    "ISO_IR 100": "Äneas^Rüdiger",
    "ISO_IR 101": "Wałęsa^Zażółć",
    "ISO_IR 109": "Ĉapelo^Ĝoĝo",
    "ISO_IR 110": "Āboliņš^Ķīlis",
    "ISO_IR 144": "Люкceмбypг^Иван",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 126": "Διονυσιος^Ζ",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 148": "Çavuşoğlu^Işık",
    "ISO_IR 166": "สมชาย^ใจดี",
    "ISO_IR 192": "Wang^XiaoDong=王^小東",
    "GB18030": "Wang^XiaoDong=王^小东",
    "GBK": "Zhang^San=张^三",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "\\ISO 2022 IR 58": "Zhang^XiaoDong=张^小东",
    "ISO 2022 IR 100\\ISO 2022 IR 144": "Müller^Иван",
    "\\ISO 2022 IR 87\\ISO 2022 IR 159": "Hon^Da=本^田鷗",
}
ISO_2022 = {
    "\\ISO 2022 IR 87": (b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"),
    "ISO 2022 IR 13\\ISO 2022 IR 87": (
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"
    ),
    "\\ISO 2022 IR 149": (
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
    ),
    "\\ISO 2022 IR 58": b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
}
"""As the standard prints them: PS3.5 H.3.1, H.3.2, I.2 and K.2."""


@pytest.mark.parametrize(("character_set", "name"), NAMES.items())
def test_a_name_comes_back_as_it_went_and_pydicom_reads_it_alike(character_set: str, name: str) -> None:
    raw = encode_text(name, character_set, is_person_name=True)
    assert raw is not None
    assert decode_text(raw, character_set, is_person_name=True) == name
    if "IR 58" not in character_set:  # pydicom leaves its escape sequences in the text
        assert decode_bytes(raw, convert_encodings(character_set.split("\\")), {0x5E, 0x3D}) == name


@pytest.mark.parametrize(("character_set", "raw"), ISO_2022.items())
def test_the_examples_of_the_standard_are_read_and_written_byte_by_byte(character_set: str, raw: bytes) -> None:
    assert decode_text(raw, character_set, is_person_name=True) == NAMES[character_set]
    assert encode_text(NAMES[character_set], character_set, is_person_name=True) == raw


def test_a_byte_of_a_two_byte_character_is_no_delimiter() -> None:
    """The second byte of U+672C in JIS X 0208 is that of a backslash."""
    raw = b"\x1b$BF|K\\\x1b(B^\x1b$BK\\ED\x1b(B"
    assert decode_text(raw, "\\ISO 2022 IR 87", is_person_name=True) == "日本^本田"


@pytest.mark.parametrize(
    ("name", "character_set"),
    [("山田", "ISO_IR 100"), ("Müller", ""), ("Müller", "\\ISO 2022 IR 87"), ("홍", "\\ISO 2022 IR 87"), ("ж", "X")],
)
def test_what_a_character_set_lacks_is_not_encoded(name: str, character_set: str) -> None:
    assert encode_text(name, character_set, is_person_name=True) is None


@pytest.mark.parametrize("is_person_name", [True, False])
def test_what_divides_values_is_no_yen_sign(is_person_name: bool) -> None:
    """JIS X 0201 has the sign at 5CH, which divides the values of all text but LT, ST and UT (PS3.5 6.2)."""
    raw = b"\xd4\xcf\xc0\xde\\\xc0\xcf"
    for character_set in ("ISO_IR 13", "ISO 2022 IR 13\\ISO 2022 IR 87"):
        assert decode_text(raw, character_set, is_person_name=is_person_name) == "ﾔﾏﾀﾞ\\ﾀﾏ"
        assert encode_text("ﾔﾏﾀﾞ\\ﾀﾏ", character_set, is_person_name=is_person_name) == raw
        assert encode_text("¥ﾀﾏ", character_set, is_person_name=is_person_name) is None
    assert decode_text(raw, "ISO_IR 13", is_one_value=True) == "ﾔﾏﾀﾞ¥ﾀﾏ"
    assert encode_text("ﾔﾏﾀﾞ¥ﾀﾏ", "ISO_IR 13", is_one_value=True) == raw


@pytest.mark.parametrize("character_set", ["", "nonsense", "ISO_IR 192"])
def test_latin_1_that_is_not_declared_is_not_lost(character_set: str) -> None:
    """Two patients must not become one because their identifiers have bytes without a meaning."""
    assert decode_text(b"M\xfcller \xc41", character_set) == "Müller Ä1"
    assert decode_text("Müller ".encode() + b"\xc41", character_set) == "Müller Ä1"


@given(raw=st.binary(max_size=60), character_set=st.sampled_from([*NAMES, "", "nonsense", "\\ISO 2022 IR 13"]))
def test_any_bytes_are_some_text(raw: bytes, character_set: str) -> None:
    assert isinstance(decode_text(b"\x1b" + raw, character_set, is_person_name=True), str)


@given(
    text=st.text(st.sampled_from("aZ ^=\\山田太郎ｱかﾔЖü本日홍길张"), max_size=12),
    character_set=st.sampled_from(
        ["\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "\\ISO 2022 IR 58", "ISO_IR 192",
         "ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 87"]
    ),
)  # fmt: skip
@example(text="\\ｱ", character_set="ISO 2022 IR 13\\ISO 2022 IR 87")
def test_what_is_encoded_is_read_back(text: str, character_set: str) -> None:
    raw = encode_text(text, character_set, is_person_name=True)
    if raw is not None and not text.isascii():
        assert decode_text(raw, character_set, is_person_name=True) == text
