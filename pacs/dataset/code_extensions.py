"""
ISO 2022 code extensions: text whose character sets change by escape sequences (PS3.5 6.1.2.4 and 6.1.2.5, PS3.3
tables C.12-3 and C.12-4).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ESCAPE: Final = b"\x1b"
_RESETS: Final = frozenset(b"\r\n\f\t\\")
_RESETS_IN_NAMES: Final = frozenset(b"\r\n\f\t\\^=")


@dataclass(frozen=True, slots=True)
class Extension:
    """
    A character set that an escape sequence designates.

    Attributes:
        escape: the sequence, without its ESC.
        codec: of Python's library.
        term: what designates it in Specific Character Set; "" for the default repertoire.
        is_two_bytes: of seven bits each, so that the bytes of delimiters stand in its characters.
        high_bytes_only: it takes the place of G1: only bytes from 80H on change their meaning.
    """

    escape: bytes
    codec: str
    term: str
    is_two_bytes: bool = False
    high_bytes_only: bool = True


EXTENSIONS: Final = (
    Extension(b"(B", "ascii", "", high_bytes_only=False),
    Extension(b"(J", "shift_jis", "ISO 2022 IR 13", high_bytes_only=False),
    Extension(b")I", "shift_jis", "ISO 2022 IR 13"),
    Extension(b"-A", "iso8859-1", "ISO 2022 IR 100"),
    Extension(b"-B", "iso8859-2", "ISO 2022 IR 101"),
    Extension(b"-C", "iso8859-3", "ISO 2022 IR 109"),
    Extension(b"-D", "iso8859-4", "ISO 2022 IR 110"),
    Extension(b"-L", "iso8859-5", "ISO 2022 IR 144"),
    Extension(b"-G", "iso8859-6", "ISO 2022 IR 127"),
    Extension(b"-F", "iso8859-7", "ISO 2022 IR 126"),
    Extension(b"-H", "iso8859-8", "ISO 2022 IR 138"),
    Extension(b"-M", "iso8859-9", "ISO 2022 IR 148"),
    Extension(b"-b", "iso8859-15", "ISO 2022 IR 203"),
    Extension(b"-T", "iso8859-11", "ISO 2022 IR 166"),
    Extension(b"$B", "iso2022_jp", "ISO 2022 IR 87", is_two_bytes=True, high_bytes_only=False),
    Extension(b"$(D", "iso2022_jp_2", "ISO 2022 IR 159", is_two_bytes=True, high_bytes_only=False),
    Extension(b"$)C", "euc_kr", "ISO 2022 IR 149"),
    Extension(b"$)A", "gb2312", "ISO 2022 IR 58"),
)
_BY_TERM: Final[Mapping[str, Extension]] = {
    extension.term: extension for extension in EXTENSIONS if extension.escape not in (b"(B", b"(J")
}
_HIGH: Final = 0x80


def _extension_at(raw: bytes, position: int) -> Extension | None:
    for extension in EXTENSIONS:
        if raw.startswith(extension.escape, position):
            return extension
    return None


def decode_extended(raw: bytes, first: str, *, is_person_name: bool, decode: Callable[[bytes, str], str]) -> str:
    """
    Give the text of a value with escape sequences; one that has no meaning becomes U+FFFD.

    After a delimiter the first character set holds again (PS3.5 6.1.2.5.3); a byte of a two-byte character is none.

    Args:
        decode: decodes bytes of one character set by its codec.
    """
    resets = _RESETS_IN_NAMES if is_person_name else _RESETS
    text: list[str] = []
    run = bytearray()
    run_codec, run_prefix = first, b""
    low: Extension | None = None  # what is in G0 and in G1; None: the first character set
    high: Extension | None = None

    def add(data: bytes, codec: str, prefix: bytes = b"") -> None:
        nonlocal run_codec, run_prefix
        if (codec, prefix) != (run_codec, run_prefix):
            end_run()
            run_codec, run_prefix = codec, prefix
        run.extend(data)

    def end_run() -> None:
        if run:
            text.append(decode(run_prefix + bytes(run), run_codec))
            run.clear()

    position = 0
    while position < len(raw):
        byte = raw[position]
        length = 1
        if byte == ESCAPE[0]:
            end_run()
            extension = _extension_at(raw, position + 1)
            if extension is None:
                text.append("\N{REPLACEMENT CHARACTER}")
            elif extension.high_bytes_only:
                high = extension
            else:
                low = extension
            length += len(extension.escape) if extension is not None else 0
        elif byte >= _HIGH:
            codec = first if high is None else high.codec
            length = 2 if codec in _TWO_BYTE_HIGH else 1
            add(raw[position : position + length], codec)
        elif low is not None and low.is_two_bytes and byte > 0x20 and raw[position + 1 : position + 2] > b" ":
            length = 2
            add(raw[position : position + 2], low.codec, ESCAPE + low.escape)
        elif byte in resets:
            end_run()
            text.append(chr(byte))
            low = high = None
        else:
            add(raw[position : position + 1], first if low is None or low.is_two_bytes else low.codec)
        position += length
    end_run()
    return "".join(text)


_TWO_BYTE_HIGH: Final = frozenset(("euc_kr", "gb2312"))


def encode_extended(text: str, first: str, terms: Sequence[str], *, is_person_name: bool) -> bytes | None:
    """
    Give a text's bytes with the escape sequences that it needs, or None when the character sets can't represent it.

    Args:
        first: the codec of the first term.
        terms: of Specific Character Set, all of them.
    """
    extensions = [_BY_TERM[term] for term in terms[1:] if term in _BY_TERM and term]
    if terms[0] in _BY_TERM and terms[0]:
        extensions.insert(0, _BY_TERM[terms[0]])
    resets = _RESETS_IN_NAMES if is_person_name else _RESETS
    parts: list[bytes] = []
    part = ""
    for character in text:
        if character.isascii() and ord(character) in resets:
            encoded = _encode_part(part, first, extensions)
            if encoded is None:
                return None
            parts += (encoded, character.encode("ascii"))
            part = ""
        else:
            part += character
    encoded = _encode_part(part, first, extensions)
    return None if encoded is None else b"".join((*parts, encoded))


def _encode_part(text: str, first: str, extensions: Sequence[Extension]) -> bytes | None:
    """Encode what stands between delimiters; it begins and ends in the first character set."""
    out = bytearray()
    high = first  # what bytes from 80H on mean
    two_bytes: Extension | None = None
    for character in text:
        if two_bytes is not None and (data := _two_byte_character(character, two_bytes)) is not None:
            out += data
            continue
        data = None if character.isascii() else _plain_character(character, high)
        if character.isascii() or data is not None:
            if two_bytes is not None:
                out += _RETURN[first == "shift_jis"]
                two_bytes = None
            out += character.encode("ascii") if data is None else data
            continue
        for extension in extensions:
            data = (_two_byte_character if extension.is_two_bytes else _high_character)(character, extension)
            if data is None:
                continue
            out += ESCAPE + extension.escape + data
            if extension.is_two_bytes:
                two_bytes = extension
            else:
                high = extension.codec
            break
        else:
            return None
    if two_bytes is not None:
        out += _RETURN[first == "shift_jis"]
    return bytes(out)


_RETURN: Final = {False: ESCAPE + b"(B", True: ESCAPE + b"(J"}


def _plain_character(character: str, codec: str) -> bytes | None:
    try:
        data = codecs.encode(character, codec)
    except UnicodeEncodeError:
        return None
    return data if data[0] >= _HIGH and (codec != "shift_jis" or len(data) == 1) else None


def _high_character(character: str, extension: Extension) -> bytes | None:
    return _plain_character(character, extension.codec)


def _two_byte_character(character: str, extension: Extension) -> bytes | None:
    try:
        data = codecs.encode(character, extension.codec)
    except UnicodeEncodeError:
        return None
    opening = ESCAPE + extension.escape
    return data[len(opening) : len(opening) + 2] if data.startswith(opening) else None
