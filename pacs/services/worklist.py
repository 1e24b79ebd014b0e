"""
Basic Worklist Management Service Class, PS3.4 annex K, as SCP: C-FIND in the Modality Worklist model.

Every attribute can be a key and every key is answered, with an empty value where an item has none. A range of the
scheduled date and one of the scheduled time are one period (PS3.4 table K.6-1). Names are matched fuzzily when that was
negotiated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from twisted.internet.interfaces import IReactorTime

from pacs.archive.evaluate import matches
from pacs.archive.keys import key_vr
from pacs.archive.query import Condition, SequenceKey, combined
from pacs.dataset.elements import Element
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.dataset.values import SPECIFIC_CHARACTER_SET, Value, ValueEncoder, Values
from pacs.dimse import (
    CFindRQ,
)
from pacs.events import EventBus
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.services.finding import SUPPORT, FindService, Found, negotiated_of, pending_response
from pacs.services.identifiers import QUERY_RETRIEVE_LEVEL, KeyParser, Negotiated
from pacs.ul import AbstractSyntaxSupport, AcceptedContext
from pacs.workflow import tags
from pacs.workflow.worklist import Worklist

MODALITY_WORKLIST_FIND: Final = "1.2.840.10008.5.1.4.31"
TIMEZONE_OFFSET: Final = 0x00080201
RESPONSES_AT_ONCE: Final = 64

_NO_KEYS: Final = frozenset((SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET, QUERY_RETRIEVE_LEVEL))  # some send the last one
_EMPTY_SEQUENCE: Final = Value("SQ", "", ())


@dataclass(frozen=True, slots=True)
class WorklistIdentifier:
    """
    A parsed identifier.

    Attributes:
        wanted: tag and VR of every key that the peer wants back.
        sequences: the keys among them that are sequences with keys of their own, by tag.
        supports_all: every key is supported; else a match is FF01.
    """

    conditions: tuple[Condition, ...]
    wanted: tuple[tuple[int, str], ...]
    sequences: Mapping[int, SequenceKey]
    character_set: str
    supports_all: bool

    def answer(self, values: Values) -> dict[int, Value]:
        """Give what is wanted of an item that matches; every key, with an empty value where it has none."""
        return {tag: self._wanted(tag, vr, values.get(tag)) for tag, vr in self.wanted}

    def _wanted(self, tag: int, vr: str, value: Value | None) -> Value:
        key = self.sequences.get(tag)
        if key is not None:
            return _wanted_items(key, value or _EMPTY_SEQUENCE)
        return value if value is not None else Value(vr, "", () if vr == "SQ" else None)


def _wanted_items(key: SequenceKey, value: Value) -> Value:
    """Give the items that match, each with every attribute that is wanted of it (PS3.4 C.2.2.2.6)."""
    nested = {inner.tag: inner for inner in key.nested}
    items: list[Values] = []
    for item in value.items or ():
        if not all(matches(condition, item) for condition in key.conditions):
            continue
        items.append(
            {
                tag: _wanted_items(nested[tag], item.get(tag, _EMPTY_SEQUENCE))
                if tag in nested
                else item.get(tag) or _empty(tag)
                for tag in key.wanted
            }
        )
    return Value("SQ", "", tuple(items))


def _empty(tag: int) -> Value:
    vr = key_vr(tag)
    return Value(vr, "", () if vr == "SQ" else None)


def parse_worklist_identifier(
    elements: Sequence[Element], *, is_little_endian: bool, is_fuzzy: bool = False
) -> WorklistIdentifier:
    """
    Read an identifier (PS3.4 K.4.1.1.3).

    Raises:
        DIMSEError: A900, a key has no meaning.
    """
    by_tag = {element.tag: element for element in elements if element.tag & 0xFFFF}
    raw_character_set = by_tag.get(SPECIFIC_CHARACTER_SET)
    character_set = "" if raw_character_set is None else raw_character_set.value.decode("latin-1").strip("\0 ")
    parser = KeyParser(character_set, Negotiated(is_fuzzy=is_fuzzy), is_little_endian=is_little_endian)
    keys = parser.keys([by_tag[tag] for tag in sorted(by_tag) if tag not in _NO_KEYS], None)
    sequences = {key.tag: _as_period(key) for key in keys.nested}
    conditions = tuple(sequences.get(c.tag, c) if isinstance(c, SequenceKey) else c for c in keys.conditions)
    return WorklistIdentifier(combined(conditions), tuple(keys.wanted), sequences, character_set, keys.supports_all)


def _as_period(key: SequenceKey) -> SequenceKey:
    if key.tag != tags.SCHEDULED_STEP_SEQUENCE:
        return key
    return replace(key, conditions=combined(key.conditions))


class WorklistService(FindService):
    """Answers C-FIND of modalities."""

    operation = Operation.QUERY_WORKLIST

    def __init__(
        self,
        *,
        worklist: Worklist,
        authorization: Authorization,
        bus: EventBus,
        metrics: Metrics,
        clock: IReactorTime,
        identifier_bytes: int,
    ) -> None:
        super().__init__(
            authorization=authorization, bus=bus, metrics=metrics, clock=clock, identifier_bytes=identifier_bytes
        )
        self._worklist = worklist

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the one information model."""
        return SUPPORT if abstract_syntax == MODALITY_WORKLIST_FIND else None

    async def send_matches(
        self, association: Association, context: AcceptedContext, request: CFindRQ, elements: Sequence[Element]
    ) -> Found:
        """Answer page by page."""
        identifier = parse_worklist_identifier(
            elements,
            is_little_endian=TRANSFER_SYNTAXES[context.transfer_syntax].is_little_endian,
            is_fuzzy=negotiated_of(association, context.abstract_syntax).is_fuzzy,
        )
        return Found("WORKLIST", await self._answer(association, context, request, identifier))

    async def _answer(
        self, association: Association, context: AcceptedContext, request: CFindRQ, identifier: WorklistIdentifier
    ) -> int:
        encoder = ValueEncoder(context.transfer_syntax)
        pending = pending_response(request, supports_all=identifier.supports_all)
        count = 0
        async with aclosing(self._worklist.find(identifier.conditions)) as pages:  # type: ignore[type-var]
            async for page in pages:
                for start in range(0, len(page), RESPONSES_AT_ONCE):
                    if association.is_canceled(request.message_id):
                        return count
                    answers = [
                        (pending, encoder.data_set(identifier.answer(values), identifier.character_set))
                        for values in page[start : start + RESPONSES_AT_ONCE]
                    ]
                    await association.send(context.id, *answers)
                    count += len(answers)
        return count
