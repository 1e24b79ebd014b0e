"""
Person names as keys of a query: what "literal matching" means here, and the fuzzy one (PS3.4 C.2.2.2.1.1, PS3.5 6.2.1).

Literal matching ignores case, width and padding. A key matches the whole name or any one of its component groups;
"=" in the key names groups by their place. A component that is empty before another matches any: "^Anna" is a given
name alone. Nothing here knows the index: patterns have "*" and "?" as the standard has them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

from pacs.archive.attributes import name_search_key

ANY_GROUP: Final = -1
_UNIVERSAL: Final = "*^="
_APOSTROPHES: Final = dict.fromkeys(map(ord, "'\N{RIGHT SINGLE QUOTATION MARK}"))
_WORD: Final = re.compile(r"\w+")
_SPELLINGS: Final = (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss"), ("æ", "ae"), ("ø", "oe"), ("å", "aa"))
SHORTEST_BEGINNING: Final = 2  # characters of a fuzzy word that may be the beginning of another


class NamePattern(NamedTuple):
    """
    One way in which a name can match.

    Attributes:
        group: the component group that the pattern begins in, 0 to 2; `ANY_GROUP` for each alone.
        text: in the form of `name_search_key`, with wild cards.
    """

    group: int
    text: str


def _group_pattern(group: str) -> str:
    """Give a component group's pattern: empty components before others are any."""
    if "^" not in group:
        return group
    components = group.split("^")
    while len(components) > 1 and components[-1] in ("", "*"):
        components.pop()  # absent components match "*"
    return "^".join(component or "*" for component in components) if components != [""] else ""


@lru_cache(maxsize=1024)
def name_patterns(key: str) -> tuple[NamePattern, ...]:
    """
    Give the patterns of a key; any of them is a match. None at all is universal matching.

    "Yamada^*" has two: the name without given name is the same as one with an empty given name (PS3.5 6.2.1.1).
    """
    normalized = name_search_key(key)
    if not normalized.strip(_UNIVERSAL):
        return ()
    groups = normalized.split("=")
    place = 0 if len(groups) > 1 else ANY_GROUP
    while groups[0] in ("", "*"):
        groups.pop(0)
        place += 1
    closed = "=".join(_group_pattern(group) or "*" for group in groups)
    patterns = [NamePattern(place, closed)]
    if groups[-1].endswith("^*"):
        patterns.append(NamePattern(place, closed + "^*"))
    return tuple(patterns)


@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[NamePattern, ...]) -> tuple[tuple[int, re.Pattern[str]], ...]:
    return tuple((group, re.compile(wildcard_expression(text) + "(=.*)?", re.DOTALL)) for group, text in patterns)


def wildcard_expression(pattern: str) -> str:
    """
    Give the regular expression of "*" and "?".

    What stands between two "*" is sought once, at its first place, and never at another again: with a few "*" and a
    long value the combinations would take days, and the interpreter with them.
    """
    first, *others = (
        "".join("." if c == "?" else re.escape(c) for c in part) for part in re.sub(r"\*+", "*", pattern).split("*")
    )
    if not others:
        return first
    return first + "".join(f"(?>.*?{part})" for part in others[:-1]) + ".*" + others[-1]


def name_matches(key: str, name: str) -> bool:
    """Whether a name matches a key literally; the index says the same in its own language."""
    patterns = name_patterns(key)
    if not patterns:
        return True
    rest = name_search_key(name)
    for group in range(3):
        for place, expression in _compiled(patterns):
            if place in (ANY_GROUP, group) and rest and expression.fullmatch(rest):
                return True
        rest = rest.partition("=")[2]
    return False


@lru_cache(maxsize=8192)
def _words(name: str) -> tuple[str, ...]:
    """Give the words of a name without accents; umlauts as they are spelled without them."""
    text = unicodedata.normalize("NFKC", name).casefold().translate(_APOSTROPHES)
    for letter, spelling in _SPELLINGS:
        text = text.replace(letter, spelling)
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", plain)))


_SOUNDS: Final = str.maketrans(
    {**dict.fromkeys("bfpvw", "1"), **dict.fromkeys("cgjkqsxz", "2"), **dict.fromkeys("dt", "3"), "l": "4",
     **dict.fromkeys("mn", "5"), "r": "6", **dict.fromkeys("aeiouyh", "")}
)  # fmt: skip


@lru_cache(maxsize=8192)
def _sound(word: str) -> str:
    """Give how a Latin word sounds, roughly as Soundex has it; a word in another script sounds like itself."""
    if not (word.isascii() and word.isalpha()):
        return word
    digits = re.sub(r"(\d)\1+", r"\1", word.translate(_SOUNDS))
    first = word.translate(_SOUNDS)[:1] if word[0] not in "aeiouyh" else ""
    return word[0] + (digits[1:] if first else digits)


def fuzzy_name_matches(key: str, name: str) -> bool:
    """
    Whether a name matches when fuzzy semantic matching was negotiated.

    Each word of the key is a word of the name, the beginning of one, or sounds like one; case, accents, punctuation
    and the order of components do not count.
    """
    if "*" in key or "?" in key:
        return name_matches(key, name)
    words = _words(name)
    return all(
        any(
            word == candidate
            or (len(word) >= SHORTEST_BEGINNING and candidate.startswith(word))
            or (len(word) > SHORTEST_BEGINNING and _sound(word) == _sound(candidate))
            for candidate in words
        )
        for word in _words(key)
    )
