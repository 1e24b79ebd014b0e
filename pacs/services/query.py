"""
Query Service Class, PS3.4 annex C, as SCP: C-FIND in the Patient Root, Study Root and Patient/Study Only models.

Keys of the unique, required and optional kind at a level are matched wherever they stand at or above it: an identifier
without the unique keys of the levels above is answered as a relational query, as users of other archives expect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from pacs.archive.archive import Archive
from pacs.archive.attributes import SPECIFIC_CHARACTER_SET, Level
from pacs.archive.index.search import select_for
from pacs.archive.query import (
    BY_TAG,
    COMPUTED,
    Condition,
    Query,
    QueryError,
    condition_for,
    is_within,
    level_of,
)
from pacs.dataset.charset import UTF_8, decode_text, encode_text
from pacs.dataset.elements import Element, ElementEncoder, read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.dimse import (
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    CFindRQ,
    CFindRSP,
    Command,
    DIMSEError,
    Response,
    Status,
)
from pacs.events import EventBus, QueryExecuted
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Association
from pacs.net.dispatch import Handler
from pacs.net.source import DataSetSource
from pacs.security.access import Operation
from pacs.services.authorization import Authorization
from pacs.services.sop_classes import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND, STUDY_ROOT_FIND
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

QUERY_RETRIEVE_LEVEL: Final = 0x00080052
RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056
TIMEZONE_OFFSET: Final = 0x00080201
RESPONSES_AT_ONCE: Final = 64

LEVELS_OF: Final[Mapping[str, frozenset[Level]]] = {
    PATIENT_ROOT_FIND: frozenset(Level),
    STUDY_ROOT_FIND: frozenset((Level.STUDY, Level.SERIES, Level.IMAGE)),
    PATIENT_STUDY_ONLY_FIND: frozenset((Level.PATIENT, Level.STUDY)),
}

_UNIQUE_KEY: Final[Mapping[Level, int]] = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}
_ADDED: Final[Mapping[int, str]] = {QUERY_RETRIEVE_LEVEL: "CS", RETRIEVE_AE_TITLE: "AE", INSTANCE_AVAILABILITY: "CS"}
_CHARACTER_SET_VRS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))


@dataclass(frozen=True, slots=True)
class Identifier:
    """
    A parsed C-FIND identifier.

    Attributes:
        keys: tag and VR of every key that the peer wants back, in the order of tags.
        supports_all: every key is one that the index knows; else a match is FF01.
    """

    query: Query
    keys: tuple[tuple[int, str], ...]
    character_set: str
    supports_all: bool


def parse_identifier(elements: Sequence[Element], *, levels: frozenset[Level]) -> Identifier:
    """
    Read an identifier (PS3.4 C.4.1.1.3).

    Raises:
        DIMSEError: A900, it does not fit the information model.
    """
    by_tag = {element.tag: element for element in elements if element.tag & 0xFFFF}
    raw_character_set = by_tag.get(SPECIFIC_CHARACTER_SET)
    character_set = "" if raw_character_set is None else raw_character_set.value.decode("latin-1").strip("\0 ")
    level = _level(by_tag.get(QUERY_RETRIEVE_LEVEL), levels)
    keys: list[tuple[int, str]] = []
    conditions: list[Condition] = []
    wanted: list[int] = []
    supports_all = True
    unique_key = _UNIQUE_KEY[level]
    by_tag.setdefault(unique_key, Element(unique_key, "UI", b""))
    for tag, element in sorted(by_tag.items()):
        if tag in _ADDED or tag in (SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET):
            continue
        vr = _vr_of(element)
        keys.append((tag, vr))
        key_level = level_of(tag)
        if key_level is None or not is_within(level, key_level):
            supports_all = False
            continue
        wanted.append(tag)
        text = decode_text(element.value, character_set, is_person_name=vr == "PN").strip("\0 ")
        try:
            condition = condition_for(tag, text)
        except QueryError as error:
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, str(error), (tag,)) from error
        if condition is not None:
            conditions.append(condition)
    return Identifier(Query(level, tuple(conditions), tuple(wanted)), tuple(keys), character_set, supports_all)


def _level(element: Element | None, levels: frozenset[Level]) -> Level:
    text = "" if element is None else element.value.decode("latin-1").strip("\0 ").upper()
    try:
        level = Level(text)
    except ValueError:
        level = None
    if level is None or level not in levels:
        allowed = ", ".join(item.value for item in Level if item in levels)
        raise DIMSEError(
            IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, f"Query/Retrieve Level must be {allowed}", (QUERY_RETRIEVE_LEVEL,)
        )
    return level


def _vr_of(element: Element) -> str:
    attribute = BY_TAG.get(element.tag)
    if attribute is not None:
        return attribute.vr
    if element.tag in COMPUTED:
        return COMPUTED[element.tag][1]
    return element.vr or ("SQ" if element.items is not None else "UN")


class ResponseEncoder:
    """Makes the identifiers of C-FIND responses, by hand: they go out by the thousand."""

    def __init__(self, identifier: Identifier, *, transfer_syntax: str, retrieve_ae_title: str) -> None:
        self._encoder = ElementEncoder(transfer_syntax)
        self._character_set = identifier.character_set
        self._level = identifier.query.level.value
        columns = {tag: index for index, tag in enumerate(identifier.query.wanted)}
        self._keys = [(tag, vr, columns.get(tag)) for tag, vr in identifier.keys]
        self._fixed = [
            (QUERY_RETRIEVE_LEVEL, "CS", _padded(self._level.encode(), "CS")),
            (RETRIEVE_AE_TITLE, "AE", _padded(retrieve_ae_title.encode(), "AE")),
            (INSTANCE_AVAILABILITY, "CS", b"ONLINE"),
        ]

    def encode(self, row: Sequence[Any]) -> bytes:
        """
        Give one identifier.

        It is in the request's character set where that can represent every value, else in UTF-8.
        """
        character_set = self._character_set
        elements = self._elements(row, character_set)
        if elements is None:
            character_set = UTF_8
            elements = self._elements(row, character_set)
            assert elements is not None
        if character_set:
            elements.append((SPECIFIC_CHARACTER_SET, "CS", _padded(character_set.encode("ascii", "replace"), "CS")))
        elements += self._fixed
        elements.sort()
        return self._encoder.data_set(elements)

    def _elements(self, row: Sequence[Any], character_set: str) -> list[tuple[int, str, bytes]] | None:
        elements: list[tuple[int, str, bytes]] = []
        for tag, vr, column in self._keys:
            value = "" if column is None else str(row[column])
            if vr == "US":
                data = self._unsigned_short(value)
            elif vr in _CHARACTER_SET_VRS:
                encoded = encode_text(value, character_set)
                if encoded is None:
                    return None
                data = encoded
            else:
                data = value.encode("ascii", "replace")
            elements.append((tag, vr, _padded(data, vr)))
        return elements

    def _unsigned_short(self, value: str) -> bytes:
        if not value.isdigit():
            return b""
        return (int(value) & 0xFFFF).to_bytes(2, "little" if self._encoder.is_little_endian else "big")


def _padded(value: bytes, vr: str) -> bytes:
    return value + (b"\0" if vr == "UI" else b" ") if len(value) % 2 else value


def _accepts(transfer_syntax: str) -> bool:
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax)
    return syntax is not None and not syntax.is_encapsulated and not syntax.is_deflated and syntax.keeps_pixels


class QueryService:
    """Answers C-FIND."""

    _support = AbstractSyntaxSupport(accepts_transfer_syntax=_accepts)

    def __init__(
        self,
        *,
        archive: Archive,
        authorization: Authorization,
        bus: EventBus,
        metrics: Metrics,
        clock: IReactorTime,
        ae_title: str,
        identifier_bytes: int,
    ) -> None:
        self._archive = archive
        self._authorization = authorization
        self._bus = bus
        self._metrics = metrics
        self._clock = clock
        self._ae_title = ae_title
        self._identifier_bytes = identifier_bytes
        self.handlers: Mapping[type[Command], Handler] = {CFindRQ: self.c_find}

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Support the three information models."""
        return self._support if abstract_syntax in LEVELS_OF else None

    async def c_find(
        self, association: Association, context: AcceptedContext, request: CFindRQ, data_set: DataSetSource | None
    ) -> Response:
        """Give a pending response for each match, then the final one (PS3.4 C.4.1.3)."""
        started_s = self._clock.seconds()
        self._authorization.require(association, Operation.FIND)
        if request.affected_sop_class_uid != context.abstract_syntax:
            raise DIMSEError(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context")
        if data_set is None:
            raise DIMSEError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, "C-FIND-RQ without an identifier")
        raw = await data_set.read(self._identifier_bytes)
        try:
            elements = read_elements(raw, context.transfer_syntax)
        except DataSetError as error:
            raise DIMSEError(Status.CANNOT_UNDERSTAND, f"identifier: {error}") from error
        identifier = parse_identifier(elements, levels=LEVELS_OF[context.abstract_syntax])
        count, is_canceled = await self._answer(association, context, request, identifier)
        self._metrics.query_results_total.inc(count)
        if self._bus.has_subscribers(QueryExecuted):
            self._bus.publish(
                QueryExecuted(
                    query_level=identifier.query.level.value,
                    result_count=count,
                    calling_ae=association.calling_ae_title,
                    duration_ms=(self._clock.seconds() - started_s) * 1000,
                    protocol="dimse",
                    peer_address=association.peer_address,
                    sop_class_uid=context.abstract_syntax,
                    transfer_syntax_uid=context.transfer_syntax,
                    identifier=raw,
                )
            )
        return request.response(Status.CANCEL if is_canceled else Status.SUCCESS)

    async def _answer(
        self, association: Association, context: AcceptedContext, request: CFindRQ, identifier: Identifier
    ) -> tuple[int, bool]:
        """Send the matches, as fast as the peer takes them; give how many, and whether it canceled."""
        encoder = ResponseEncoder(identifier, transfer_syntax=context.transfer_syntax, retrieve_ae_title=self._ae_title)
        pending = CFindRSP(
            message_id_being_responded_to=request.message_id,
            affected_sop_class_uid=request.affected_sop_class_uid,
            status=Status.PENDING if identifier.supports_all else Status.PENDING_WITH_WARNING,
            has_data_set=True,
        )
        count = 0
        pages: AsyncIterator[list[Any]] = self._archive.pages(select_for(identifier.query))
        async with aclosing(pages) as rows_of_pages:  # type: ignore[type-var]
            async for rows in rows_of_pages:
                for start in range(0, len(rows), RESPONSES_AT_ONCE):
                    if association.is_canceled(request.message_id):
                        return count, True
                    group = rows[start : start + RESPONSES_AT_ONCE]
                    await association.send(context.id, *((pending, encoder.encode(row)) for row in group))
                    count += len(group)
        return count, association.is_canceled(request.message_id)
