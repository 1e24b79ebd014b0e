"""
Person names as keys: literal and fuzzy matching, PS3.4 C.2.2.2.1.1.
"""

from __future__ import annotations

import itertools
import re

import pytest

from pacs.archive.names import fuzzy_name_matches, name_matches, wildcard_expression

JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("SMITH^jo", "Smith^Jo"),
        ("Smith^Jo^^", "Smith^Jo"),
        ("Smith", "Smith"),
        ("Smith^*", "Smith"),
        ("Sm?th^*", "Smith^Jo^Ann"),
        ("^Jo", "Smith^Jo"),
        ("Smith^^Ann", "Smith^Jo^Ann"),
        ("^^Ann", "Smith^Jo^Ann"),
        ("*", ""),
        ("", "Smith"),
        ("yamada^tarou", JAPANESE),
        ("山田^太郎", JAPANESE),
        ("やまだ*", JAPANESE),
        ("=山田^太郎", JAPANESE),
        ("==やまだ^たろう", JAPANESE),
        ("yamada*=山田*", JAPANESE),
        ("*=山田^太郎", JAPANESE),
        (JAPANESE, JAPANESE),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ^タロウ"),
        ("STRASSE^X", "Straße^X"),
        ("^太郎", JAPANESE),
    ],
)
def test_a_name_matches_its_key(key: str, name: str) -> None:
    assert name_matches(key, name)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("Smith", "Smith^Jo"),
        ("Jo", "Smith^Jo"),
        ("^Ann", "Smith^Jo"),
        ("Smith", ""),
        ("Sm?th", "Smth"),
        ("=Yamada^Tarou", JAPANESE),
        ("==山田^太郎", JAPANESE),
        ("yamada^tarou=太郎", JAPANESE),
        ("S.*", "Smith"),
        ("[S]mith", "Smith"),
        ("Muller", "Müller"),
    ],
)
def test_another_name_does_not(key: str, name: str) -> None:
    assert not name_matches(key, name)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("Smith", "Smith^Jo"),
        ("jo smith", "Smith^Jo"),
        ("Mary^Smith", "Smith^Mary"),
        ("Swain", "Swayne^A"),
        ("Muller", "Müller^Hans"),
        ("Mueller", "Müller^Hans"),
        ("Garcia", "García^José"),
        ("Obrien", "O'Brien^Pat"),
        ("Smi", "Smith^Jo"),
        ("山田", JAPANESE),
        ("Smith*", "Smith^Jo"),
    ],
)
def test_a_fuzzy_key_finds_spellings_and_any_order(key: str, name: str) -> None:
    assert fuzzy_name_matches(key, name)


@pytest.mark.parametrize(
    ("key", "name"), [("Smith", "Jones^A"), ("S", "Smith"), ("Smith^Bob", "Smith^Jo"), ("山", "川")]
)
def test_a_fuzzy_key_does_not_find_everything(key: str, name: str) -> None:
    assert not fuzzy_name_matches(key, name)


@pytest.mark.parametrize(
    "pattern", ["", "a", "*", "a*", "*a", "*a*", "a*b", "a**b", "*a?b*", "?", "a?*?", "*ab*ab*", "*b*a", "a*a"]
)
def test_wild_cards_are_what_they_always_were(pattern: str) -> None:
    naive = re.compile("".join({"*": ".*", "?": "."}.get(c, c) for c in pattern), re.DOTALL)
    expression = re.compile(wildcard_expression(pattern), re.DOTALL)
    for length in range(7):
        for letters in itertools.product("ab", repeat=length):
            text = "".join(letters)
            assert bool(expression.fullmatch(text)) == bool(naive.fullmatch(text)), text


def test_many_wild_cards_in_a_long_value_are_soon_decided() -> None:
    """L6 allows 1,000 characters; a naive expression would not come back, and it holds the interpreter's lock."""
    expression = re.compile(wildcard_expression("*a" * 499 + "*b"), re.DOTALL)
    assert expression.fullmatch("a" * 10_000) is None
    assert expression.fullmatch("a" * 10_000 + "b") is not None
    assert not name_matches("*a" * 30 + "*b", "a" * 64 + "^" + "a" * 64)
