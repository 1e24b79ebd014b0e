"""
The transformer: one object in, the same object without what its profile's rules take away.

It knows tags and rules, no attribute by its name. What a rule keeps is copied as it stands, in runs; bulk is passed on
as a view of the original. Every sequence is entered. What it gives is not released before the verifier has seen it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pacs.dataset.charset import decode_text
from pacs.dataset.part10 import encode_file_meta
from pacs.dataset.scanner import DEFAULT_LIMITS, ScanLimits
from pacs.deidentification import dates
from pacs.deidentification.codec import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    Buffer,
    Encoding,
    FragmentsPlace,
    Place,
    SequencePlace,
    parse_data_set,
)
from pacs.deidentification.documents import empty_document
from pacs.deidentification.dummies import dummy_item, dummy_value
from pacs.deidentification.errors import NotDeidentifiable
from pacs.deidentification.frames import clean_fragments, clean_icc_profile
from pacs.deidentification.markers import method_item, own_codes
from pacs.deidentification.original import Echoes, Original, character_set_of, fold
from pacs.deidentification.profiles import Policy
from pacs.deidentification.pseudonyms import PatientPseudonyms
from pacs.deidentification.references import KEY_OBJECTS_SOP_CLASS, key_object_items
from pacs.deidentification.rules import Action, Rule, outside_table, rules_of_sequence, rules_of_sop_class
from pacs.deidentification.settings import Implementation
from pacs.deidentification.tables import defined_terms, dictionary, distinct_numbers, iod_of_sop_class, structural_uids
from pacs.deidentification.vault import Vault

MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"
UNDEFINED: Final = 0xFFFFFFFF

# single tags with a rule of their own; what each is, is said in docs/deidentification.rst
_SOP_CLASS: Final = 0x00080016
_SOP_INSTANCE: Final = 0x00080018
_STUDY: Final = 0x0020000D
_SUBJECT: Final = (0x00100010, 0x00100020)
_DONE: Final = 0x00120062
_METHOD: Final = 0x00120063
_METHOD_CODES: Final = 0x00120064
_TEMPORAL: Final = 0x00280303
_COLOR_PROFILE: Final = 0x00282000
_DOCUMENT: Final = 0x00420011
_DOCUMENT_TYPE: Final = 0x00420012
_DOCUMENT_BYTES: Final = 0x00420015
_CONTENT_TREE: Final = 0x0040A730
_LISTED_REFERENCES: Final = 0x00081115  # an object that has it must refer to something (PS3.3 C.12.2)
_NOT_REPLACED: Final = frozenset((0x00080005, 0x00080060, *_SUBJECT))

_DROPPED_GROUPS: Final = frozenset(
    (*range(1, 0x10000, 2), 0x0004, *range(0x5000, 0x501F, 2), *range(0x6000, 0x601F, 2))
)
"""Private groups, the media directory's, curves, overlays."""

_LAST_STRAY: Final = 0x0007FFFF  # groups of command sets, file meta and media directories
_TEXTS: Final = frozenset(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "PN"))
_NUMBERS: Final = frozenset(
    ("AS", "AT", "DS", "FD", "FL", "IS", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "US", "UV")
)
_UNRULED: Final = _NUMBERS | {"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"}
"""VRs whose values stay where no rule speaks; the others have rules by their kind."""

_IMAGE_TYPES: Final = frozenset((0x00080008, 0x00089007))
_OF_THEIR_OWN: Final = frozenset((_COLOR_PROFILE, _DOCUMENT_BYTES))
_BINARY: Final = frozenset(("OB", "OW", "OD", "OF", "OL", "OV", "UN"))
ESCAPE: Final = b"\x1b"  # of ISO 2022
_JPEG_ROOTS: Final = ("1.2.840.10008.1.2.4.",)


@dataclass(frozen=True, slots=True)
class Deidentified:
    """
    A de-identified object.

    Attributes:
        meta: preamble, prefix and File Meta Information.
        data_set: its pieces, in order; some are views of the original.
        pseudonym: of its patient.
    """

    meta: bytes
    data_set: list[Buffer]
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    pseudonym: str


class Transformer:
    """
    De-identifies objects by one policy.

    Args:
        default_character_set: for data sets without Specific Character Set.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        vault: Vault,
        implementation: Implementation,
        limits: ScanLimits = DEFAULT_LIMITS,
        default_character_set: str | None = None,
    ) -> None:
        self.policy = policy
        self._vault = vault
        self._implementation = implementation
        self._limits = limits
        self._default_character_set = default_character_set

    def read(self, buffer: Buffer, transfer_syntax_uid: str) -> Original:
        """
        Parse an object.

        Raises:
            NotDeidentifiable: it has no structure.
        """
        parsed = parse_data_set(buffer, transfer_syntax_uid, self._limits)
        return Original(parsed, default_character_set=self._default_character_set)

    def transform(self, original: Original, transfer_syntax_uid: str, *, pixels_cleaned: bool = False) -> Deidentified:
        """
        De-identify one object.

        Args:
            pixels_cleaned: burned-in text was removed from its frames before.

        Raises:
            NotDeidentifiable: it can't be.
            VaultError: the vault can't be used.
        """
        sop_class_uid = original.text(_SOP_CLASS)
        if sop_class_uid == MEDIA_DIRECTORY:
            raise NotDeidentifiable("media_directory", "a DICOMDIR is not de-identified; make a new one")
        if not sop_class_uid or not original.text(_SOP_INSTANCE):
            raise NotDeidentifiable("unreadable", "SOP Class UID or SOP Instance UID is missing")
        patient = self._vault.pseudonyms(original.identity())
        writer = _Writer(self.policy, self._vault, patient, original, transfer_syntax_uid, pixels_cleaned)
        pieces = writer.top_level()
        if original.parsed.is_deflated:
            deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
            deflated = b"".join([*map(deflater.compress, pieces), deflater.flush()])
            pieces = [deflated + b"\0" * (len(deflated) % 2)]
        instance = writer.uid(original.value(_SOP_INSTANCE), writer.instance_rule).decode("latin-1")
        meta = encode_file_meta(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=instance,
            transfer_syntax_uid=transfer_syntax_uid,
            source_ae_title="",
            implementation_class_uid=self._implementation.class_uid,
            implementation_version_name=self._implementation.version_name,
        )
        return Deidentified(meta, pieces, sop_class_uid, instance, transfer_syntax_uid, patient.pseudonym)


class _Writer:
    """Writes one object."""

    def __init__(
        self,
        policy: Policy,
        vault: Vault,
        patient: PatientPseudonyms,
        original: Original,
        transfer_syntax_uid: str,
        pixels_cleaned: bool,
    ) -> None:
        self._policy = policy
        self._map = vault.uid_map
        self._patient = patient
        self._original = original
        self._buffer = original.parsed.buffer
        self._view = memoryview(self._buffer)
        self._transfer_syntax_uid = transfer_syntax_uid
        self._pixels_cleaned = pixels_cleaned
        self._sop_class_uid = original.text(_SOP_CLASS)
        self._is_known = self._sop_class_uid in iod_of_sop_class()
        self._echoes: Echoes = original.echoes()
        self._raw_search = None if self._echoes.raw is None else self._echoes.raw.search
        self._distinct = distinct_numbers()
        self._structural = structural_uids()
        self._rules = rules_of_sop_class(policy, self._sop_class_uid)
        self._subject = original.value(_SUBJECT[1]).strip(b"\0 ")

    @property
    def instance_rule(self) -> Rule:
        """What is done to the object's own UID."""
        return self._rules[_SOP_INSTANCE]

    def uid(self, value: bytes, rule: Rule) -> bytes:
        """Map one UID, or keep it, as its rule says; without padding."""
        return self._map(value) if rule.action is Action.UID else value.strip(b"\0 ")

    # -- the data set

    def top_level(self) -> list[Buffer]:
        """Write the main data set."""
        parsed = self._original.parsed
        out: list[Buffer] = []
        added = self._additions(parsed.encoding)
        self._elements(parsed.places, self._rules, parsed.encoding, self._original.character_set, out, added)
        return out

    def _additions(self, encoding: Encoding) -> list[tuple[int, bytes]]:
        """Give the elements that are written anew, in order."""
        policy, top = self._policy, self._original.top
        added: dict[int, bytes] = {}
        if _STUDY in top or _SUBJECT[1] in top or _SUBJECT[0] in top:
            for tag, vr in zip(_SUBJECT, ("PN", "LO"), strict=True):
                added[tag] = encoding.element(tag, vr, self._patient.pseudonym.encode())
        added[_DONE] = encoding.element(_DONE, "CS", b"YES")
        texts = [text for text in self._earlier_methods() if text not in policy.method_texts]
        added[_METHOD] = encoding.element(_METHOD, "LO", "\\".join([*texts, *policy.method_texts]).encode())
        added[_METHOD_CODES] = self._method_codes(encoding)
        if self._pixels_cleaned:
            added[0x00280301] = encoding.element(0x00280301, "CS", b"NO")
        added[_TEMPORAL] = encoding.element(_TEMPORAL, "CS", policy.temporal_information.encode())
        return sorted(added.items())

    def _earlier_methods(self) -> list[str]:
        """Give what was done to the object before; only plain text that names nobody."""
        raw = self._original.value(_METHOD).strip(b"\0 ")
        if not raw.isascii() or (self._raw_search is not None and self._raw_search(raw)):
            return []
        return [text.strip() for text in raw.decode("ascii").split("\\") if text.strip()]

    def _method_codes(self, encoding: Encoding) -> bytes:
        codes = own_codes(self._policy, pixels_cleaned=self._pixels_cleaned)
        body = b"".join([method_item(code, encoding) for code in codes])
        return encoding.header(_METHOD_CODES, "SQ", len(body)) + body

    def _elements(
        self,
        places: list[Place],
        rules: Mapping[int, Rule],
        encoding: Encoding,
        character_set: str,
        out: list[Buffer],
        added: list[tuple[int, bytes]] = [],  # noqa: B006 - never changed
    ) -> None:
        """Write the elements of a data set or an item; what is kept goes out in runs."""
        view, buffer, get, search = self._view, self._buffer, rules.get, self._raw_search
        decodes, whole, dropped = self._echoes.text is not None, self._echoes.whole, _DROPPED_GROUPS
        run_start = run_end = -1
        next_added = added[0][0] if added else 1 << 32
        anew = frozenset(tag for tag, _ in added)
        is_top = bool(added)
        position = 0
        for place in places:
            tag, vr, start, value_at, end, content = place
            if tag >= next_added:
                if run_start >= 0:
                    out.append(view[run_start:run_end])
                    run_start = -1
                while position < len(added) and added[position][0] <= tag:
                    out.append(added[position][1])
                    position += 1
                next_added = added[position][0] if position < len(added) else 1 << 32
            if tag in anew or (tag >> 16 == 2 and is_top):
                if run_start >= 0:
                    out.append(view[run_start:run_end])
                    run_start = -1
                continue
            rule = get(tag)
            if tag >> 16 in dropped or not tag & 0xFFFF or (rule is not None and rule[0] == Action.REMOVE):
                if run_start >= 0:
                    out.append(view[run_start:run_end])
                    run_start = -1
                continue
            if rule is None and content is None and vr in _UNRULED and tag > _LAST_STRAY and tag not in _OF_THEIR_OWN:
                is_kept = vr in _NUMBERS or not (
                    (search is not None and search(buffer, value_at, end))
                    or (decodes and self._is_echo(value_at, end, character_set))
                    or (whole and self._is_whole_echo(tag, vr, value_at, end))
                )
                if is_kept:
                    if run_start < 0:
                        run_start = start
                    run_end = end
                    continue
            piece = self._element(place, rule, encoding, character_set)
            if piece is None:  # as it stands
                if run_start < 0:
                    run_start = start
                run_end = end
                continue
            if run_start >= 0:
                out.append(view[run_start:run_end])
                run_start = -1
            out += piece
        if run_start >= 0:
            out.append(view[run_start:run_end])
        out += [element for _, element in added[position:]]

    def _element(self, place: Place, rule: Rule | None, encoding: Encoding, character_set: str) -> list[Buffer] | None:
        """Give what is written for one element; [] for nothing, None for the element as it stands."""
        tag, vr, _, value_at, end, content = place
        if rule is None:
            if tag <= _LAST_STRAY:
                return []  # strays of command sets and of file meta
            rule = self._rule_outside(tag, vr, content)
        action = rule.action
        if action is Action.REMOVE:
            return []
        if isinstance(content, SequencePlace):
            return self._sequence(place, content, rule, encoding, character_set)
        if isinstance(content, FragmentsPlace):
            return self._fragments(place, content, encoding)
        if rule.vr == "SQ":  # no sequence, whatever it is
            return [] if action not in (Action.EMPTY, Action.REFERENCES) else [encoding.element(tag, "SQ", b"")]
        if action is Action.STRUCTURAL:
            return None
        if action is Action.KEEP:
            return self._kept(place, rule, encoding, character_set)
        value = self._value(tag, rule, bytes(self._buffer[value_at:end]), encoding)
        return [] if value is None else [encoding.element(tag, rule.vr or vr, value)]

    def _rule_outside(self, tag: int, vr: str, content: object) -> Rule:
        if content is None and vr in ("UN", ""):
            return Rule(Action.KEEP if tag in dictionary() else Action.REMOVE, vr, is_required=False)
        action = Action.STRUCTURAL if tag in self._structural else outside_table(vr, self._policy)
        return Rule(action, vr, is_required=False)

    # -- values

    def _kept(self, place: Place, rule: Rule, encoding: Encoding, character_set: str) -> list[Buffer] | None:
        """Keep an element, unless what it says names the patient."""
        tag, vr, _, value_at, end, _ = place
        if tag == _COLOR_PROFILE:
            profile = clean_icc_profile(bytes(self._buffer[value_at:end]))
            return [] if profile is None else [encoding.element(tag, "OB", profile)]
        if tag == _DOCUMENT_BYTES:
            length = len(empty_document(self._original.text(_DOCUMENT_TYPE)))
            return [encoding.element(tag, "UL", length.to_bytes(4, "little" if encoding.is_little_endian else "big"))]
        if (vr not in _TEXTS and vr != "UN") or tag in _NOT_REPLACED or tag >> 16 == 0x0028:
            return None
        search = self._raw_search
        if (
            (search is not None and search(self._buffer, value_at, end))
            or (self._echoes.text is not None and self._is_echo(value_at, end, character_set))
            or self._is_whole_echo(tag, vr, value_at, end)
        ):
            if tag in _IMAGE_TYPES and self._is_defined(value_at, end):
                return None
            known = rule.vr or vr
            return [] if vr in ("UN", "CS") else [encoding.element(tag, known, dummy_value(known))]
        return None

    def _is_defined(self, value_at: int, end: int) -> bool:
        """Whether all values of an image's type that echo a name are words of the standard."""
        search = self._raw_search
        values = [value.strip(b"\0 ") for value in bytes(self._buffer[value_at:end]).split(b"\\")]
        return all(value in defined_terms() or search is None or not search(value) for value in values)

    def _is_echo(self, value_at: int, end: int, character_set: str) -> bool:
        value = bytes(self._buffer[value_at:end])
        pattern = self._echoes.text
        if pattern is None or (value.isascii() and ESCAPE not in value):
            return False
        return pattern.search(fold(decode_text(value, character_set))) is not None

    def _is_whole_echo(self, tag: int, vr: str, value_at: int, end: int) -> bool:
        if not self._echoes.whole or vr not in ("LO", "SH", "PN", "LT", "ST", "UC", "UT") or tag == 0x00080104:
            return False
        values = bytes(self._buffer[value_at:end]).split(b"\\")
        return any(value.strip(b"\0 ") in self._echoes.whole for value in values)

    def _value(self, tag: int, rule: Rule, raw: bytes, encoding: Encoding) -> bytes | None:
        """Give the new value of an element without items; None removes it."""
        action, vr = rule.action, rule.vr
        stripped = raw.strip(b"\0 ") if vr not in _BINARY else raw
        if not stripped and not rule.is_required:
            return b""
        if tag in self._distinct and stripped and action in (Action.EMPTY, Action.DUMMY):
            if tag == _SUBJECT[1] and stripped == self._subject:
                return self._patient.pseudonym.encode()
            return self._patient.number(tag, stripped).encode()
        if action is Action.EMPTY:
            return b""
        if action is Action.DUMMY:
            return empty_document(self._original.text(_DOCUMENT_TYPE)) if tag == _DOCUMENT else dummy_value(vr)
        if action is Action.UID:
            return b"\\".join([self._map(value) for value in stripped.split(b"\\")]) if vr == "UI" else dummy_value(vr)
        if vr in _BINARY:
            return dummy_value(vr) if rule.is_required else None  # binary time stamps
        changed = self._dated(action, vr, stripped)
        if changed is None:
            return dummy_value(vr) if rule.is_required else b""
        return changed

    def _dated(self, action: Action, vr: str, value: bytes) -> bytes | None:
        """Give dates and ages as the profile leaves them; None: at least one value is none."""
        changed: list[bytes] = []
        for part in value.split(b"\\"):
            one = self._dated_value(action, vr, part.strip(b" \0")) if part.strip(b" \0") else b""
            if one is None:
                return None
            changed.append(one)
        return b"\\".join(changed)

    def _dated_value(self, action: Action, vr: str, value: bytes) -> bytes | None:
        if action is Action.CAP_AGE:
            return dates.cap_age(value)
        if action is Action.SHIFT:
            if vr == "DA":
                return dates.shift_date(value, self._patient.shift_days)
            if vr == "DT":
                return dates.shift_date_time(value, self._patient.shift_days)
            return dates.keep_time(value) if vr == "TM" else dates.keep_offset(value)
        if vr == "DA":
            return dates.year_of_date(value)
        return dates.year_of_date_time(value) if vr == "DT" else None

    # -- sequences and fragments

    def _sequence(
        self, place: Place, sequence: SequencePlace, rule: Rule, encoding: Encoding, character_set: str
    ) -> list[Buffer]:
        tag, vr = place[0], place[1]
        action = rule.action
        if action is Action.REFERENCES and _LISTED_REFERENCES not in self._original.top:
            action = Action.EMPTY
        if action is Action.EMPTY or (action is Action.DUMMY and not sequence.items and not rule.is_required):
            return [encoding.element(tag, "SQ", b"")]
        if action is Action.DUMMY:
            body = self._dummy_items(tag, encoding)
            return [encoding.header(tag, "SQ", len(body)) + body]
        if vr in ("UN", "") and tag not in dictionary():
            return []
        rules = rules_of_sequence(self._policy, tag, self._is_known)
        inner = sequence.encoding
        body_pieces: list[Buffer] = []
        for places, is_open in sequence.items:
            item: list[Buffer] = []
            own_set = character_set_of(places, self._buffer, character_set)
            self._elements(places, rules, inner, own_set, item)
            length = sum(map(len, item))
            body_pieces.append(inner.header(ITEM, "", UNDEFINED if is_open else length))
            body_pieces += item
            if is_open:
                body_pieces.append(inner.header(ITEM_END, "", 0))
        if sequence.is_open:
            body_pieces.append(inner.header(SEQUENCE_END, "", 0))
        length = UNDEFINED if sequence.is_open else sum(map(len, body_pieces))
        written = "UN" if inner is not encoding else "SQ"
        return [encoding.header(tag, written, length), *body_pieces]

    def _dummy_items(self, tag: int, encoding: Encoding) -> bytes:
        if tag == _CONTENT_TREE and self._sop_class_uid == KEY_OBJECTS_SOP_CLASS:
            return key_object_items(self._original, encoding, self._map if self._policy.maps_uids else bytes)
        return dummy_item(tag, encoding)

    def _fragments(self, place: Place, fragments: FragmentsPlace, encoding: Encoding) -> list[Buffer] | None:
        if not self._transfer_syntax_uid.startswith(_JPEG_ROOTS) or not fragments.ranges:
            return None
        buffer = self._buffer
        _, table_end = fragments.ranges[0]
        cleaned = clean_fragments([bytes(buffer[start:end]) for start, end in fragments.ranges[1:]])
        _, _, start, value_at, _, _ = place
        pieces: list[Buffer] = [self._view[start:value_at], self._view[value_at:table_end]]
        for fragment in cleaned:
            pieces += (encoding.header(ITEM, "", len(fragment)), fragment)
        pieces.append(encoding.header(SEQUENCE_END, "", 0))
        return pieces
