"""
What the transformer must know of the original before it writes anything: whose it is, and which words would name them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from unicodedata import normalize

from pacs.dataset.charset import decode_text
from pacs.deidentification.codec import ParsedDataSet, Place, SequencePlace
from pacs.deidentification.pseudonyms import Identity
from pacs.deidentification.tables import identifying

CHARACTER_SET: Final = 0x00080005
SHORTEST_NAME_LETTERS: Final = 4
SHORTEST_IDEOGRAPHIC_NAME: Final = 2
SHORTEST_NUMBER: Final = 5

_PATIENT: Final = (0x00100020, 0x00100021)
_QUALIFIERS: Final = 0x00100024
_QUALIFYING: Final = (0x00400032, 0x00400033)
_STUDY: Final = 0x0020000D
_NAME_SEPARATORS: Final = re.compile(r"[\s^=\\,;.\-_'/()]+")
_IDEOGRAPHIC: Final = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class Echoes:
    """
    Words that would name the patient wherever they stand.

    Attributes:
        raw: finds them in bytes, or None: there are none.
        text: finds them in folded text, where bytes do not tell; None: there are none.
        whole: numbers that are too short to be looked for within others.
    """

    raw: re.Pattern[bytes] | None
    text: re.Pattern[str] | None
    whole: frozenset[bytes]


class Original:
    """
    A parsed object.

    Args:
        default_character_set: for data sets without Specific Character Set.
    """

    def __init__(self, parsed: ParsedDataSet, *, default_character_set: str | None) -> None:
        self.parsed = parsed
        self.top: Mapping[int, Place] = {place[0]: place for place in parsed.places}
        self.character_set = self.text(CHARACTER_SET) or default_character_set or ""

    def value(self, tag: int) -> bytes:
        """Give a value of the top level; empty where there is none."""
        place = self.top.get(tag)
        return b"" if place is None or place[5] is not None else bytes(self.parsed.buffer[place[3] : place[4]])

    def text(self, tag: int) -> str:
        """Give a value of the top level that is in the default repertoire."""
        return self.value(tag).decode("latin-1").strip("\0 ")

    def identity(self) -> Identity:
        """Give who it is of: Patient ID with its issuer, or, without one, the study."""
        parts = [decode_text(self.value(tag), self.character_set).strip("\0 ") for tag in _PATIENT]
        if not parts[0]:
            return Identity((self.text(_STUDY) or self.text(0x00080018),))
        place = self.top.get(_QUALIFIERS)
        if place is not None and isinstance(place[5], SequencePlace):
            parts += self._qualifiers(place[5])
        return Identity(tuple(parts))

    def _qualifiers(self, sequence: SequencePlace) -> Iterator[str]:
        for places, _ in sequence.items[:1]:
            for tag, _, _, value_at, end, _ in places:
                if tag in _QUALIFYING:
                    yield decode_text(bytes(self.parsed.buffer[value_at:end]), self.character_set).strip("\0 ")

    def echoes(self) -> Echoes:
        """Collect the words, at any depth."""
        names: set[str] = set()
        numbers: set[str] = set()
        for kind, text in self._identifying(self.parsed.places, self.character_set):
            if kind == "name":
                names.update(word for word in _NAME_SEPARATORS.split(text) if is_telling(word))
            else:
                numbers.update(filter(None, (value.strip("\0 ") for value in text.split("\\"))))
        short = frozenset(number.encode() for number in numbers if len(number) < SHORTEST_NUMBER)
        words = sorted(names | {number for number in numbers if len(number) >= SHORTEST_NUMBER}, key=len, reverse=True)
        if not words:
            return Echoes(None, None, short)
        folded = sorted({fold(word) for word in words}, key=len, reverse=True)
        in_bytes = [word for word in dict.fromkeys((*words, *folded)) if word.isascii()]  # WEISS is an echo of Weiß
        raw = re.compile(b"|".join([re.escape(word.encode()) for word in in_bytes]), re.IGNORECASE)
        text_pattern = re.compile("|".join(map(re.escape, folded)))
        return Echoes(raw if in_bytes else None, text_pattern, short)

    def _identifying(self, places: list[Place], character_set: str) -> Iterator[tuple[str, str]]:
        kinds = identifying()
        buffer = self.parsed.buffer
        for tag, vr, _, value_at, end, content in places:
            if content is not None:
                if isinstance(content, SequencePlace):
                    for items, _ in content.items:
                        yield from self._identifying(items, character_set_of(items, buffer, character_set))
            elif tag in kinds:
                yield kinds[tag], decode_text(bytes(buffer[value_at:end]), character_set, is_person_name=vr == "PN")


def character_set_of(places: list[Place], buffer: bytes | memoryview, outer: str) -> str:
    """Give the character set of an item: its own, or that of what it is in."""
    for tag, _, _, value_at, end, _ in places:
        if tag >= CHARACTER_SET:
            if tag == CHARACTER_SET and end > value_at:
                return bytes(buffer[value_at:end]).decode("latin-1").strip("\0 ")
            break
    return outer


def fold(text: str) -> str:
    """Give a text without differences of case, of width, and of how accents are written."""
    return normalize("NFKC", normalize("NFKC", text).casefold())


def is_telling(word: str) -> bool:
    """Whether a part of a name is long enough to be looked for."""
    if len(word) >= SHORTEST_NAME_LETTERS:
        return True
    return len(word) >= SHORTEST_IDEOGRAPHIC_NAME and _IDEOGRAPHIC.search(word) is not None
