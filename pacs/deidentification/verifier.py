"""
The verifier: a second opinion on every output, before it is stored or written.

It reads the same tables as the transformer, and shares no code with it: its own parser, its own idea of what each
action code allows, its own search for what names the patient. Whatever it does not understand, it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple
from unicodedata import normalize

from pacs.dataset.charset import decode_text
from pacs.deidentification.errors import VerificationFailed
from pacs.deidentification.profiles import Policy
from pacs.deidentification.reading import Buffer, Reading, read_meta
from pacs.deidentification.tables import (
    additional_rules,
    defined_terms,
    dictionary,
    dummy_items,
    dummy_texts,
    identifying,
    rows,
    structural_uids,
)

SHORTEST_LATIN_PART: Final = 4
SHORTEST_IDEOGRAPHIC_PART: Final = 2
SHORTEST_NUMBER: Final = 5

_SPOKEN: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_WRITTEN: Final = _SPOKEN | {"AE", "CS", "UR", "DA", "DT", "TM", "AS", "DS", "IS", "UI"}
_PLAIN: Final = frozenset(
    ("AE", "AS", "CS", "DS", "FD", "FL", "IS", "LO", "LT", "SH", "SL", "SS", "ST", "UC", "UL", "US")
)
_OURS: Final = frozenset((0x0012, 0x0013))  # of file meta: who wrote it
_IMAGE_TYPES: Final = frozenset((0x00080008, 0x00089007))
_MARKS: Final = frozenset((0x00120063,))
_LOOKED_AT: Final = frozenset((0x00080016, 0x00080018, 0x00120062, 0x00120063, 0x00120064, 0x00280303))
_IDEOGRAPH: Final = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_BETWEEN_PARTS: Final = re.compile(r"[^\w]+|_", re.UNICODE)
_NEW_UID: Final = re.compile(rb"2\.25\.[1-9]\d{0,38}|1\.2\.840\.10008\.[\d.]+")
_NUMERIC: Final = b"0123456789."


@dataclass(frozen=True, slots=True)
class Expectation:
    """
    What the output must agree with.

    Attributes:
        pseudonym: the patient's.
        shift_days: by which dates were moved back.
    """

    policy: Policy
    pseudonym: str
    shift_days: int
    pixels_cleaned: bool = False


class _Permission(NamedTuple):
    """What the table allows an attribute: its action code, and its VR."""

    code: str
    vr: str


@lru_cache(maxsize=16)
def _permissions(policy: Policy) -> Mapping[int, _Permission]:
    allowed = {
        row.tag: _Permission(row.action, row.vr)
        for row in rows(policy.profile, maps_uids=policy.maps_uids)
        if row.tag is not None
    }
    known = dictionary()
    allowed.update((tag, _Permission(code, known[tag])) for tag, code in additional_rules().items())
    return allowed


@lru_cache(maxsize=1)
def _special_kinds() -> frozenset[int]:
    """Give the tags whose values are of a kind that has a rule, whatever VR is written."""
    return frozenset(tag for tag, vr in dictionary().items() if vr in ("DA", "DT", "TM", "PN", "UR", "UI"))


@lru_cache(maxsize=16)
def _compared(policy: Policy) -> frozenset[int]:
    """Give the tags whose original values are compared: all but those that the table keeps, and samples and numbers."""
    known = dictionary()
    listed = {tag for tag, (code, _) in _permissions(policy).items() if code not in ("K", "X", "C|X")}
    spoken = {tag for tag, vr in known.items() if vr in _SPOKEN or vr in ("DA", "DT", "TM", "UI", "UR")}
    return frozenset(listed | spoken - {tag for tag, (code, _) in _permissions(policy).items() if code == "K"})


@lru_cache(maxsize=1)
def _harmless() -> frozenset[bytes]:
    """Give what the dummies say."""
    texts = set(dummy_texts().values())

    def collect(item: Mapping[str, Any]) -> None:
        for vr, value in item.values():
            if vr == "SQ":
                for inner in value:
                    collect(inner)
            elif isinstance(value, str):
                texts.add(value.encode())

    for item in dummy_items().values():
        collect(item)
    return frozenset(texts)


class Verifier:
    """Compares an output with its original."""

    def verify(
        self,
        original: Buffer,
        original_syntax: str,
        output: Buffer,
        expected: Expectation,
        *,
        original_start: int = 0,
    ) -> None:
        """
        Look at a whole output file.

        Args:
            original: its data set begins at `original_start`.
            output: a file: preamble, File Meta Information, data set.

        Raises:
            VerificationFailed: something is there that must not be, or lacks.
        """
        meta, start = read_meta(output)
        before = Reading(original, original_start, len(original), original_syntax, skips_private=True)
        after = Reading(output, start, len(output), meta.get(0x0010, b"").decode("latin-1"), skips_private=False)
        check = _Check(before, after, expected)
        check.attributes()
        check.marks(meta)
        check.words([value for element, value in meta.items() if element not in _OURS])


class _Check:
    """One comparison."""

    def __init__(self, before: Reading, after: Reading, expected: Expectation) -> None:
        self._before = before
        self._after = after
        self._expected = expected
        self._policy = expected.policy
        self._allowed = _permissions(expected.policy)
        self._structural = structural_uids()
        self._known = dictionary()
        self._harmless = _harmless() | {expected.pseudonym.encode()}
        self._originals: dict[int, set[bytes]] = {}
        source, compared = before.buffer, _compared(expected.policy)
        for tag, vr, start, end, items, _, _ in before.seen:
            if tag in compared and items < 0 and end - start < 4096:
                value = bytes(source[start:end])
                self._originals.setdefault(tag, set()).add(value.strip(b"\0 ") if vr in _WRITTEN else value)

    # -- attributes

    def attributes(self) -> None:
        """Hold each element against the table."""
        after, allowed, known = self._after, self._allowed, self._known
        buffer = after.buffer
        dummy_depth = 1 << 30
        for tag, vr, start, end, items, depth, _ in after.seen:
            if depth <= dummy_depth:
                dummy_depth = 1 << 30
            group = tag >> 16
            if group & 1:
                raise VerificationFailed("private", "a private element", tag)
            if not tag & 0xFFFF or group == 4:
                raise VerificationFailed("group", "a group that is to be removed", tag)
            if 0x5000 <= group <= 0x501E or 0x6000 <= group <= 0x601E:
                raise VerificationFailed("repeating_group", "a curve or an overlay", tag)
            if items < 0 and known.get(tag) == "SQ" and end > start:
                raise VerificationFailed("structure", "a sequence that is written as something else", tag)
            permission = allowed.get(tag)
            if permission is None:
                if vr in _PLAIN and tag not in _special_kinds() and depth <= dummy_depth and group >= 8:
                    continue
                if group < 8:
                    raise VerificationFailed("group", "a stray of a command set or of file meta", tag)
                if items < 0:
                    kind = vr if vr != "UN" else known.get(tag, "UN")
                    if kind == "UN" and tag not in known:
                        raise VerificationFailed("unknown", "an unknown attribute of VR UN", tag)
                    if kind in ("DA", "DT", "TM", "PN", "UR", "UI") or known.get(tag) in ("PN", "DA", "DT", "TM", "UI"):
                        self._outside(tag, known.get(tag, kind), bytes(buffer[start:end]))
                elif vr == "UN" and tag not in known:
                    raise VerificationFailed("unknown", "an unknown sequence of VR UN", tag)
            else:
                code = permission.code
                if code in ("X", "C|X"):
                    raise VerificationFailed("table", "the table removes this attribute", tag)
                if items >= 0:
                    if code == "Z" and items:
                        raise VerificationFailed("table", "a sequence that is to have no items", tag)
                    if code not in ("K", "X/Z/U*") and items and dummy_depth > depth:
                        dummy_depth = depth
                elif code != "K":
                    self._listed(tag, permission, vr, bytes(buffer[start:end]))
            if depth > dummy_depth and items < 0 and vr in _SPOKEN:
                self._is_new(tag, bytes(buffer[start:end]).strip(b"\0 "))

    def _listed(self, tag: int, permission: _Permission, vr: str, raw: bytes) -> None:
        code, kind = permission
        text = raw.strip(b"\0 ")
        if not text or text in self._harmless:
            return
        if code == "U":
            self._is_new_uid(tag, text)
        elif code == "C:shift":
            self._is_shifted(tag, kind, text)
        elif code == "C:year":
            self._is_year(tag, kind, text)
        elif code == "K:cap90":
            if text != b"090Y" and (len(text) != 4 or (text.endswith(b"Y") and text > b"089Y")):
                raise VerificationFailed("age", "an age over 89 years", tag)
        else:
            self._is_new(tag, text if kind not in ("OB", "OW", "UN") else raw)

    def _outside(self, tag: int, kind: str, raw: bytes) -> None:
        text = raw.strip(b"\0 ")
        if not text or text in self._harmless:
            return
        if kind == "UI":
            if tag not in self._structural and self._policy.maps_uids:
                self._is_new_uid(tag, text)
        elif kind in ("PN", "UR") or self._policy.date_action == "D":
            self._is_new(tag, text)
        elif self._policy.date_action == "C:shift":
            self._is_shifted(tag, kind, text)
        else:
            self._is_year(tag, kind, text)

    def _is_new(self, tag: int, text: bytes) -> None:
        if text and text not in self._harmless and any(text) and text in self._originals.get(tag, ()):
            raise VerificationFailed("original_value", "an original value is still there", tag)

    def _is_new_uid(self, tag: int, text: bytes) -> None:
        for uid in text.split(b"\\"):
            if uid.strip() and not _NEW_UID.fullmatch(uid.strip()):
                raise VerificationFailed("uid", "a UID that was not mapped", tag)
            originals = self._originals.get(tag, ())
            if uid.startswith(b"2.25.") and (uid in originals or text in originals):
                raise VerificationFailed("uid", "an original UID is still there", tag)

    def _is_shifted(self, tag: int, kind: str, text: bytes) -> None:
        originals = {part.strip() for value in self._originals.get(tag, ()) for part in value.split(b"\\")}
        for part in text.split(b"\\"):
            value = part.strip()
            if not value:
                continue
            if kind == "TM":
                if not re.fullmatch(rb"[\d:]{2,8}(\.\d{1,6})?", value):
                    raise VerificationFailed("date", "no time", tag)
                continue
            if kind == "SH":
                if not re.fullmatch(rb"[+-]\d{4}", value):
                    raise VerificationFailed("date", "no time zone", tag)
                continue
            try:
                back = datetime.strptime(value[:8].decode("ascii"), "%Y%m%d") + timedelta(self._expected.shift_days)
            except (ValueError, OverflowError):
                raise VerificationFailed("date", "no date, or one that was not shifted", tag) from None
            day = back.strftime("%Y%m%d").rjust(8, "0").encode()
            dotted = day[:4] + b"." + day[4:6] + b"." + day[6:]
            if kind not in ("DA", "DT") or (day + value[8:] not in originals and dotted not in originals):
                raise VerificationFailed("date", "a date that was not shifted by the patient's days", tag)

    @staticmethod
    def _is_year(tag: int, kind: str, text: bytes) -> None:
        pattern = {"DA": rb"\d{4}0101", "DT": rb"\d{4}"}.get(kind)
        parts = [part.strip() for part in text.split(b"\\")]
        if pattern is None or not all(re.fullmatch(pattern, part) for part in parts if part):
            raise VerificationFailed("date", "more than the year", tag)

    # -- what the output says of itself

    def marks(self, meta: Mapping[int, bytes]) -> None:
        """Look for the markers, and hold the file meta against the data set."""
        buffer = self._after.buffer
        top = {
            tag: bytes(buffer[start:end]).strip(b"\0 ")
            for tag, _, start, end, _, depth, _ in self._after.seen
            if tag in _LOOKED_AT and depth == 0
        }
        if top.get(0x00120062) != b"YES":
            raise VerificationFailed("marker", "not marked", 0x00120062)
        if top.get(0x00280303) != self._policy.temporal_information.encode():
            raise VerificationFailed("marker", "not marked", 0x00280303)
        codes = top.get(0x00120064, b"")
        for code in self._policy.codes(pixels_cleaned=self._expected.pixels_cleaned):
            if code.encode() not in codes:
                raise VerificationFailed("marker", "a method code lacks", 0x00120064)
        if not top.get(0x00120063):
            raise VerificationFailed("marker", "not marked", 0x00120063)
        for element, tag in ((0x0002, 0x00080016), (0x0003, 0x00080018)):
            if meta.get(element) != top.get(tag):
                raise VerificationFailed("file_meta", "it differs from the data set", 0x00020000 | element)

    # -- words

    def words(self, meta: Sequence[bytes]) -> None:
        """Search for what names the patient: in decoded values, and in all bytes but those of samples."""
        parts, numbers, short = self._identifiers()
        spans = list(self._searched())
        folded = {_folded(part) for part in parts}
        needles = [part.lower().encode() for part in parts | folded if part.isascii()]
        counted = [number.lower().encode() for number in numbers]
        for start, end in spans:
            self._search(bytes(self._after.buffer[start:end]).lower(), start, needles, counted)
        self._search(b"\0".join(meta).lower(), -1, needles, counted)
        self._values(folded | {_folded(number) for number in numbers if not number.isascii()}, short)

    def _search(
        self,
        data: bytes,
        offset: int,
        needles: Sequence[bytes],
        numbers: Sequence[bytes],
    ) -> None:
        for needle in needles:
            if needle in data:
                self._hit("name", data, needle, offset, is_number=False)
        for number in numbers:
            if number in data:
                self._hit("number", data, number, offset, is_number=True)

    def _hit(self, rule: str, data: bytes, needle: bytes, offset: int, *, is_number: bool) -> None:
        exempt = self._exempt() if offset >= 0 else ()
        at = data.find(needle)
        while at >= 0:
            end = at + len(needle)
            is_within = is_number and (data[max(0, at - 1) : at] in _DIGITS or data[end : end + 1] in _DIGITS)
            if not is_within and not any(start <= offset + at and offset + end <= stop for start, stop in exempt):
                raise VerificationFailed(rule, "what names the patient is in the bytes", self._tag_at(offset + at))
            at = data.find(needle, at + 1)

    def _tag_at(self, position: int) -> int | None:
        found = None
        for tag, _, start, end, items, _, _ in self._after.seen:
            if items < 0 and start <= position < end:
                found = tag
        return found

    def _searched(self) -> Iterator[tuple[int, int]]:
        """Give what lies between the samples, and the heads of frames."""
        position = self._after.start
        for start, end in sorted(self._after.pixels):
            if start > position:
                yield position, start
            position = max(position, end)
        if position < self._after.end:
            yield position, self._after.end
        for start, end in self._after.frames:
            if bytes(self._after.buffer[start : start + 2]) in (b"\xff\xd8", b"\xff\x4f"):
                head = bytes(self._after.buffer[start : min(end, start + 65536)])
                data_at = max(head.find(b"\xff\xda"), head.find(b"\xff\x93"))
                if data_at > 0:
                    yield start, start + data_at

    def _exempt(self) -> list[tuple[int, int]]:
        """Give the places of what we wrote: marks and dummies."""
        buffer = self._after.buffer
        ours = {text.encode() for text in self._policy.method_texts}
        places = []
        for tag, vr, start, end, items, _, _ in self._after.seen:
            if tag == 0x00120064:
                places.append((start, end))
            elif items < 0 and (tag in _MARKS or (vr in _WRITTEN and end - start < 128)):
                value = bytes(buffer[start:end]).strip(b"\0 ")
                if tag in _IMAGE_TYPES:
                    places += _defined(start, value)
                elif value in self._harmless:
                    places.append((start, end))
                elif tag in _MARKS:
                    for text in ours:
                        at = value.find(text)
                        if at >= 0:
                            places.append((start + at, start + at + len(text)))
        return places

    def _identifiers(self) -> tuple[set[str], set[str], set[bytes]]:
        """Collect the original's names, numbers, and numbers too short to be searched within others."""
        kinds = identifying()
        source = self._before.buffer
        parts: set[str] = set()
        numbers: set[str] = set()
        for tag, vr, start, end, items, _, character_set in self._before.seen:
            kind = kinds.get(tag)
            if kind is None or items >= 0 or start == end:
                continue
            text = decode_text(bytes(source[start:end]), character_set, is_person_name=vr == "PN")
            if kind == "name":
                for part in _BETWEEN_PARTS.split(text):
                    if len(part) >= SHORTEST_LATIN_PART or (
                        len(part) >= SHORTEST_IDEOGRAPHIC_PART and _IDEOGRAPH.search(part)
                    ):
                        parts.add(part)
            else:
                numbers.update(value.strip("\0 ") for value in text.split("\\"))
        long = {number for number in numbers if len(number) >= SHORTEST_NUMBER}
        return parts, long, {number.encode() for number in numbers - long if number}

    def _values(self, folded: set[str], short: set[bytes]) -> None:
        """Search decoded values."""
        if not short and not folded:
            return
        buffer = self._after.buffer
        for tag, vr, start, end, items, _, character_set in self._after.seen:
            if items >= 0 or vr not in _WRITTEN or start == end:
                continue
            raw = bytes(buffer[start:end])
            if short and vr in _SPOKEN and tag != 0x00080104:
                for value in raw.split(b"\\"):
                    if value.strip(b"\0 ") in short and value.strip(b"\0 ") not in self._harmless:
                        raise VerificationFailed("number", "a number of the patient is a whole value", tag)
            if folded and (not raw.isascii() or b"\x1b" in raw):
                text = _folded(decode_text(raw, character_set, is_person_name=vr == "PN"))
                if any(word in text for word in folded):
                    raise VerificationFailed("name", "what names the patient is in a value", tag)


def _folded(text: str) -> str:
    return normalize("NFKC", normalize("NFKC", text).casefold())


def _defined(start: int, value: bytes) -> Iterator[tuple[int, int]]:
    """Give the places of the standard's words in an image's type."""
    at = start
    for part in value.split(b"\\"):
        if part.strip() in defined_terms():
            yield at, at + len(part)
        at += len(part) + 1


_DIGITS: Final = frozenset(bytes((digit,)) for digit in _NUMERIC)
