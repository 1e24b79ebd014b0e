"""
Pseudonyms: what stands in the place of a patient's identity, of numbers, dates and UIDs.

Those of a patient come from the patient's random secret, so they say nothing about the person (45 CFR 164.514(c));
UIDs come from the site key in every profile, so that references hold between objects of any patient and of none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pacs.deidentification.keys import derive_key, keyed_hash

MOST_DAYS: Final = 3650
PSEUDONYM_DIGITS: Final = 18
NUMBER_DIGITS: Final = 15  # with a letter before them they fit into SH
WELL_KNOWN_ROOT: Final = b"1.2.840.10008."

_UID_CACHE_ENTRIES: Final = 16384


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Who a patient is to the vault.

    Attributes:
        parts: Patient ID, Issuer of Patient ID and its qualifiers; or the Study Instance UID alone.
    """

    parts: tuple[str, ...]

    def encoded(self) -> bytes:
        """Give the parts, each preceded by its length, so that no two identities are the same bytes."""
        texts = [part.encode() for part in self.parts]
        return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


class PatientPseudonyms:
    """
    What derives from one patient's secret.

    Attributes:
        pseudonym: in the place of Patient's Name and Patient ID.
        shift_days: to move dates backwards by, 1 to 3650.
    """

    __slots__ = ("_number_key", "pseudonym", "shift_days")

    def __init__(self, secret: bytes) -> None:
        self.pseudonym = pseudonym_of(secret)
        days = int.from_bytes(derive_key(secret, b"day"), "big")
        self.shift_days = 1 + days % MOST_DAYS
        self._number_key = derive_key(secret, b"acc")

    def number(self, tag: int, value: bytes) -> str:
        """Give a number that differs where the values of an attribute differ."""
        digest = keyed_hash(self._number_key, tag.to_bytes(4, "big") + value)
        return f"N{int.from_bytes(digest, 'big') % 10**NUMBER_DIGITS:0{NUMBER_DIGITS}}"


def pseudonym_of(secret: bytes) -> str:
    """Give the patient pseudonym of a secret; the vault makes sure that it is unique."""
    number = int.from_bytes(derive_key(secret, b"id"), "big") % 10**PSEUDONYM_DIGITS
    return f"P{number:0{PSEUDONYM_DIGITS}}"


class UIDMap:
    """
    Maps UIDs: 2.25 and a UUID of version 8 from the keyed hash of the original (PS3.5 B.2, RFC 9562).

    One function for every place; well-known UIDs stay.
    """

    __slots__ = ("_cache", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cache: dict[bytes, bytes] = {}

    def __call__(self, value: bytes) -> bytes:
        """Map one UID; give it without padding."""
        mapped = self._cache.get(value)
        if mapped is None:
            if len(self._cache) >= _UID_CACHE_ENTRIES:
                self._cache.clear()
            mapped = self._cache[value] = self._map(value.strip(b"\0 \t\r\n"))
        return mapped

    def _map(self, original: bytes) -> bytes:
        if not original or original.startswith(WELL_KNOWN_ROOT):
            return original
        digest = keyed_hash(self._key, original)
        number = int.from_bytes(digest[:16], "big")
        number = number & ~(0xF << 76) | 8 << 76  # version 8
        number = number & ~(0x3 << 62) | 2 << 62  # variant 2
        return b"2.25.%d" % number
