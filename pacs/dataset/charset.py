"""
Specific Character Set: bytes to text and back (PS3.5 section 6.1, PS3.3 C.12.1.1.2).

Single-byte repertoires, ISO 2022 code extensions, and the multi-byte repertoires without them. Decoding never fails:
a byte from 80H on that has no meaning is read as Latin-1, so that values which differ stay different; what else has
none becomes U+FFFD.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from pacs.dataset.code_extensions import ESCAPE, decode_extended, encode_extended

DEFAULT_REPERTOIRE: Final = "ascii"
UTF_8: Final = "ISO_IR 192"
SHIFT_JIS: Final = "shift_jis"
YEN: Final = "\N{YEN SIGN}"  # JIS X 0201 has it where ASCII has the backslash

_SINGLE: Final[Mapping[str, str]] = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 100": "iso8859-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 109": "iso8859-3",
    "ISO_IR 110": "iso8859-4",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 127": "iso8859-6",
    "ISO_IR 126": "iso8859-7",
    "ISO_IR 138": "iso8859-8",
    "ISO_IR 148": "iso8859-9",
    "ISO_IR 203": "iso8859-15",
    "ISO_IR 13": SHIFT_JIS,
    "ISO_IR 166": "iso8859-11",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
"""Terms that stand alone, PS3.3 tables C.12-2 and C.12-5, with the codec of Python's library."""

CHARACTER_SETS: Final = tuple(term for term in _SINGLE if term)
"""The defined terms of Specific Character Set that are understood, without code extensions."""

ONE_VALUE_VRS: Final = frozenset(("LT", "ST", "UT"))
"""Text in which 5CH divides nothing (PS3.5 table 6.2-1)."""

_LATIN_1_INSTEAD: Final = "pacs.latin-1"
_WITHOUT_EXTENSIONS: Final = frozenset(("ISO_IR 192", "GB18030", "GBK"))


_WITH_EXTENSIONS: Final = frozenset(
    [term.replace("ISO_IR", "ISO 2022 IR") for term in CHARACTER_SETS if term not in _WITHOUT_EXTENSIONS]
    + [f"ISO 2022 IR {number}" for number in (58, 87, 149, 159)]
)
"""Terms of PS3.3 tables C.12-3 and C.12-4."""


def is_defined(specific_character_set: str) -> bool:
    """Whether the values are defined terms (PS3.3 C.12.1.1.2); the first may be empty."""
    first, *others = _terms(specific_character_set)
    is_first = first in _SINGLE or first in _WITH_EXTENSIONS
    return is_first and (not others or (first not in _WITHOUT_EXTENSIONS and _WITH_EXTENSIONS.issuperset(others)))


@lru_cache(maxsize=256)
def _terms(specific_character_set: str) -> tuple[str, ...]:
    """Give the defined terms, spelled as the standard does."""
    terms: list[str] = []
    for raw in specific_character_set.split("\\"):
        term = raw.strip().upper().replace("-", " ").replace("ISO_2022", "ISO 2022")
        if term.startswith("ISO IR"):
            term = "ISO_IR" + term[6:]
        elif term.startswith("ISO_IR") and term[6:7].isdigit():
            term = "ISO_IR " + term[6:]
        terms.append(term)
    return tuple(terms)


def _codec_of(term: str) -> str | None:
    return _SINGLE.get(term.replace("ISO 2022 IR", "ISO_IR"))


def codec_of(specific_character_set: str) -> str:
    """Give the codec of the first value, which holds where no escape sequence stands; ascii when it is unknown."""
    return _codec_of(_terms(specific_character_set)[0]) or DEFAULT_REPERTOIRE


def _uses_extensions(terms: Sequence[str]) -> bool:
    return terms[0] not in _WITHOUT_EXTENSIONS and (len(terms) > 1 or terms[0].startswith("ISO 2022"))


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    """Give bytes that have no meaning in a character set; one below 80H could be taken for a delimiter."""
    assert isinstance(error, UnicodeDecodeError)
    bad = error.object[error.start : error.end]
    return "".join(chr(byte) if byte >= 0x80 else "\N{REPLACEMENT CHARACTER}" for byte in bad), error.end


codecs.register_error(_LATIN_1_INSTEAD, _as_latin_1)


def _decode(raw: bytes, codec: str) -> str:
    # bytes beyond the default repertoire are common without Specific Character Set: UTF-8, or else Latin-1
    return raw.decode("utf-8" if codec == DEFAULT_REPERTOIRE else codec, _LATIN_1_INSTEAD)


def decode_text(
    raw: bytes, specific_character_set: str, *, is_person_name: bool = False, is_one_value: bool = False
) -> str:
    """
    Give the text of a value; never fails.

    Args:
        specific_character_set: values of (0008,0005) with backslashes between them; "" is the default repertoire.
        is_one_value: 5CH divides nothing: it is the character that the set has there.
    """
    if raw.isascii() and ESCAPE not in raw:
        return raw.decode("ascii")
    terms = _terms(specific_character_set)
    first = _codec_of(terms[0]) or DEFAULT_REPERTOIRE
    if ESCAPE in raw and (_uses_extensions(terms) or first == DEFAULT_REPERTOIRE):
        return decode_extended(raw, first, is_person_name=is_person_name, decode=_decode)
    text = _decode(raw, first)
    return text.replace("\\", YEN) if first == SHIFT_JIS and is_one_value else text


def encode_text(
    text: str, specific_character_set: str, *, is_person_name: bool = False, is_one_value: bool = False
) -> bytes | None:
    """Give a text's bytes in a character set, with code extensions if it has them; None when it can't represent it."""
    if text.isascii():
        return text.encode("ascii")
    terms = _terms(specific_character_set)
    codec = _codec_of(terms[0])
    if codec is None or (codec == SHIFT_JIS and not is_one_value and YEN in text):  # its 5CH would divide
        return None
    if _uses_extensions(terms):
        return encode_extended(text, codec, terms, is_person_name=is_person_name)
    try:
        return codecs.encode(text, codec)
    except UnicodeEncodeError:
        return None
