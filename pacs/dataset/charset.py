"""
Specific Character Set: bytes to text and back (PS3.5 section 6.1, PS3.3 C.12.1.1.2).

Single-byte repertoires, ISO 2022 code extensions, and the multi-byte repertoires without them. Decoding never fails:
what has no meaning becomes U+FFFD.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

DEFAULT_REPERTOIRE: Final = "ascii"
UTF_8: Final = "ISO_IR 192"

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
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "iso8859-11",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
"""Terms that stand alone, PS3.3 tables C.12-2 and C.12-5, with the codec of Python's library."""

_WITHOUT_EXTENSIONS: Final = frozenset(("ISO_IR 192", "GB18030", "GBK"))

_ESCAPES: Final[Mapping[bytes, str]] = {
    b"(B": "ascii",
    b"-A": "iso8859-1",
    b"-B": "iso8859-2",
    b"-C": "iso8859-3",
    b"-D": "iso8859-4",
    b"-L": "iso8859-5",
    b"-G": "iso8859-6",
    b"-F": "iso8859-7",
    b"-H": "iso8859-8",
    b"-M": "iso8859-9",
    b"-b": "iso8859-15",
    b")I": "shift_jis",
    b"(J": "shift_jis",
    b"-T": "iso8859-11",
    b"$B": "iso2022_jp",
    b"$(D": "iso2022_jp_2",
    b"$)C": "euc_kr",
    b"$)A": "gb2312",
}
"""Escape sequences of PS3.3 tables C.12-3 and C.12-4, without the ESC."""

_STATEFUL: Final = frozenset(("iso2022_jp", "iso2022_jp_2"))  # 7-bit codecs that want the escape sequence themselves
_ESCAPE: Final = b"\x1b"
_RESET_AFTER: Final = frozenset(b"\r\n\f\t\\")
_RESET_AFTER_IN_NAMES: Final = frozenset(b"\r\n\f\t\\^=")


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


def _decode(raw: bytes, codec: str) -> str:
    if codec == DEFAULT_REPERTOIRE:
        # bytes beyond the repertoire are common without Specific Character Set; none is lost as U+FFFD if it is UTF-8
        try:
            return raw.decode("ascii")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")
    if codec == "shift_jis":
        return raw.decode(codec, "replace").replace("\\", "\N{YEN SIGN}")
    return raw.decode(codec, "replace")


def _split_at_resets(raw: bytes, resets: frozenset[int]) -> list[bytes]:
    """Cut behind each delimiter after which the first character set holds again (PS3.5 6.1.2.5.3)."""
    parts: list[bytes] = []
    start = 0
    for index, byte in enumerate(raw):
        if byte in resets:
            parts.append(raw[start : index + 1])
            start = index + 1
    parts.append(raw[start:])
    return parts


def _decode_fragment(fragment: bytes) -> str:
    """Decode what follows an ESC, up to the next."""
    for escape, codec in _ESCAPES.items():
        if fragment.startswith(escape):
            if codec in _STATEFUL:
                return (_ESCAPE + fragment).decode(codec, "replace")
            return _decode(fragment[len(escape) :], codec)
    return "\N{REPLACEMENT CHARACTER}" + fragment.decode("ascii", "replace")


def _decode_extended(raw: bytes, first: str, is_person_name: bool) -> str:
    text: list[str] = []
    for part in _split_at_resets(raw, _RESET_AFTER_IN_NAMES if is_person_name else _RESET_AFTER):
        head, *fragments = part.split(_ESCAPE)
        text.append(_decode(head, first))
        text += [_decode_fragment(fragment) for fragment in fragments]
    return "".join(text)


def decode_text(raw: bytes, specific_character_set: str, *, is_person_name: bool = False) -> str:
    """
    Give the text of a value; never fails.

    Args:
        specific_character_set: values of (0008,0005) with backslashes between them; "" is the default repertoire.
    """
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode("ascii")
    terms = _terms(specific_character_set)
    first = _codec_of(terms[0]) or DEFAULT_REPERTOIRE
    if _ESCAPE in raw and (_uses_extensions(terms) or first == DEFAULT_REPERTOIRE):
        return _decode_extended(raw, first, is_person_name)
    return _decode(raw, first)


def encode_text(text: str, specific_character_set: str) -> bytes | None:
    """Give a text's bytes in a character set without code extensions, or None when it can't represent it."""
    if text.isascii():
        return text.encode("ascii")
    terms = _terms(specific_character_set)
    codec = _codec_of(terms[0])
    if codec is None or (len(terms) > 1 and terms[0] not in _WITHOUT_EXTENSIONS):
        return None
    try:
        return codecs.encode(text, codec)
    except UnicodeEncodeError:
        return None
