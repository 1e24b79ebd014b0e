"""
The protocol data units, PS3.8 9.3, except P-DATA-TF, which is never held whole: `pacs.ul.reader` streams it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Final

from pacs.ul.errors import REASON_INVALID_PDU_PARAMETER_VALUE, RemoteProtocolError
from pacs.ul.items import (
    APPLICATION_CONTEXT_NAME,
    ITEM_APPLICATION_CONTEXT,
    ITEM_PRESENTATION_CONTEXT_AC,
    ITEM_PRESENTATION_CONTEXT_RQ,
    ITEM_USER_IDENTITY_RQ,
    ITEM_USER_INFORMATION,
    MAX_PRESENTATION_CONTEXTS,
    PresentationContextAC,
    PresentationContextRQ,
    UserInformation,
    decode_uid,
    encode_item,
    read_items,
)

PDU_HEADER_BYTES: Final = 6  # type, reserved, 32-bit length

TYPE_ASSOCIATE_RQ: Final = 1
TYPE_ASSOCIATE_AC: Final = 2
TYPE_ASSOCIATE_RJ: Final = 3
TYPE_DATA_TF: Final = 4
TYPE_RELEASE_RQ: Final = 5
TYPE_RELEASE_RP: Final = 6
TYPE_ABORT: Final = 7

FIXED_BODY_BYTES: Final = 4  # of A-ASSOCIATE-RJ, A-RELEASE-RQ, A-RELEASE-RP and A-ABORT
_ASSOCIATE_FIXED_BYTES: Final = 68
_AE_TITLE_BYTES: Final = 16

_HEADER: Final = Struct(">BxL")
_UINT16: Final = Struct(">H")


def encode_pdu(pdu_type: int, body: bytes) -> bytes:
    """Give a PDU with its header."""
    return _HEADER.pack(pdu_type, len(body)) + body


def _encode_ae_title(title: str) -> bytes:
    return title.encode("latin-1", "replace")[:_AE_TITLE_BYTES].ljust(_AE_TITLE_BYTES)


def _is_legal_ae_title(title: str) -> bool:
    return 0 < len(title) <= _AE_TITLE_BYTES and title.isascii() and title.isprintable() and "\\" not in title


def _encode_associate(version: int, called: str, calling: str, items: list[bytes]) -> bytes:
    return b"".join(
        [
            _UINT16.pack(version),
            b"\0\0",
            _encode_ae_title(called),
            _encode_ae_title(calling),
            bytes(32),
            *items,
        ]
    )


def _read_associate(body: bytes, context_item: int) -> tuple[int, str, str, str, list[bytes], UserInformation]:
    """Read what A-ASSOCIATE-RQ and -AC have in common."""
    if len(body) < _ASSOCIATE_FIXED_BYTES:
        raise RemoteProtocolError(f"A-ASSOCIATE PDU of {len(body)} bytes, {_ASSOCIATE_FIXED_BYTES} are fixed")
    version: int = _UINT16.unpack_from(body)[0]
    called = body[4:20].decode("latin-1").strip(" ")
    calling = body[20:36].decode("latin-1").strip(" ")
    application_context = ""
    contexts: list[bytes] = []
    user_information: UserInformation | None = None
    for item_type, item in read_items(body[_ASSOCIATE_FIXED_BYTES:]):
        if item_type == ITEM_APPLICATION_CONTEXT:
            application_context = decode_uid(item)
        elif item_type == context_item:
            contexts.append(item)
        elif item_type == ITEM_USER_INFORMATION:
            read = UserInformation.decode if _HEAD_OF_IDENTITY in item else _user_information
            user_information = read(item)
    if user_information is None:
        raise RemoteProtocolError("A-ASSOCIATE PDU without user information")
    return version, called, calling, application_context, contexts, user_information


# A peer proposes the same, association after association: what was read or written once is remembered. Not what has a
# user's identity in it.
_REMEMBERED_BYTES: Final = 16384  # of a whole request; 128 presentation contexts are less
_HEAD_OF_IDENTITY: Final = bytes((ITEM_USER_IDENTITY_RQ, 0))
_proposed_context = lru_cache(maxsize=2048)(PresentationContextRQ.decode)
_user_information = lru_cache(maxsize=512)(UserInformation.decode)


@lru_cache(maxsize=512)
def _encode_answer(
    application_context: str, contexts: tuple[PresentationContextAC, ...], information: UserInformation
) -> bytes:
    name = encode_item(ITEM_APPLICATION_CONTEXT, application_context.encode("ascii"))
    return b"".join([name, *[context.encode() for context in contexts], information.encode()])


@dataclass(frozen=True, slots=True)
class AAssociateRQ:
    """
    A-ASSOCIATE-RQ, PS3.8 9.3.2.

    Attributes:
        called_ae_title, calling_ae_title: without the padding, otherwise as received.
        protocol_version: bit 0 is version 1.
        is_remembered: whoever sends the same bytes gives this very object.
    """

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[PresentationContextRQ, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = 1
    is_remembered: bool = field(default=False, compare=False)

    @property
    def has_legal_called_ae_title(self) -> bool:
        """The called AE title is of the default repertoire without control characters (PS3.5 6.2, AE)."""
        return _is_legal_ae_title(self.called_ae_title)

    @property
    def has_legal_calling_ae_title(self) -> bool:
        """The same of the calling one."""
        return _is_legal_ae_title(self.calling_ae_title)

    def encode(self) -> bytes:
        """Give the PDU."""
        items = [encode_item(ITEM_APPLICATION_CONTEXT, self.application_context.encode("ascii"))]
        items += [context.encode() for context in self.presentation_contexts]
        items.append(self.user_information.encode())
        body = _encode_associate(self.protocol_version, self.called_ae_title, self.calling_ae_title, items)
        return encode_pdu(TYPE_ASSOCIATE_RQ, body)

    @classmethod
    def decode(cls, body: bytes) -> AAssociateRQ:
        """
        Read the PDU's variable field.

        Raises:
            RemoteProtocolError: it is malformed, or its contexts are not 1 to 128 with unique odd ids.
        """
        if len(body) <= _REMEMBERED_BYTES and _HEAD_OF_IDENTITY not in body:
            return _remembered_request(body)
        return cls._decode(body, is_remembered=False)

    @classmethod
    def _decode(cls, body: bytes, is_remembered: bool = True) -> AAssociateRQ:
        version, called, calling, name, items, information = _read_associate(body, ITEM_PRESENTATION_CONTEXT_RQ)
        if not 1 <= len(items) <= MAX_PRESENTATION_CONTEXTS:
            raise RemoteProtocolError(
                f"{len(items)} presentation contexts, 1 to {MAX_PRESENTATION_CONTEXTS} are allowed"
            )
        contexts = tuple(map(_proposed_context, items))
        ids = {context.id for context in contexts}
        if len(ids) != len(contexts) or any(context_id % 2 == 0 for context_id in ids):
            raise RemoteProtocolError(
                "presentation context ids are not odd and unique", reason=REASON_INVALID_PDU_PARAMETER_VALUE
            )
        return cls(called, calling, contexts, information, name, version, is_remembered)


_remembered_request = lru_cache(maxsize=256)(AAssociateRQ._decode)


@dataclass(frozen=True, slots=True)
class AAssociateAC:
    """A-ASSOCIATE-AC, PS3.8 9.3.3; the AE titles repeat the request's."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[PresentationContextAC, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = 1
    _encoded: list[bytes] = field(default_factory=list, init=False, compare=False, repr=False)  # once it was

    def encode(self) -> bytes:
        """Give the PDU."""
        if self._encoded:
            return self._encoded[0]
        information = self.user_information
        encode = _encode_answer if information.user_identity_response is None else _encode_answer.__wrapped__
        items = [encode(self.application_context, self.presentation_contexts, information)]
        body = _encode_associate(self.protocol_version, self.called_ae_title, self.calling_ae_title, items)
        self._encoded.append(encode_pdu(TYPE_ASSOCIATE_AC, body))
        return self._encoded[0]

    @classmethod
    def decode(cls, body: bytes) -> AAssociateAC:
        """
        Read the PDU's variable field.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        version, called, calling, name, items, information = _read_associate(body, ITEM_PRESENTATION_CONTEXT_AC)
        contexts = tuple(PresentationContextAC.decode(item) for item in items)
        return cls(called, calling, contexts, information, name, version)


@dataclass(frozen=True, slots=True)
class AAssociateRJ:
    """A-ASSOCIATE-RJ, PS3.8 9.3.4."""

    result: int
    source: int
    reason: int

    def encode(self) -> bytes:
        """Give the PDU."""
        return encode_pdu(TYPE_ASSOCIATE_RJ, bytes((0, self.result, self.source, self.reason)))

    @classmethod
    def decode(cls, body: bytes) -> AAssociateRJ:
        """Read the PDU's body of four bytes."""
        return cls(body[1], body[2], body[3])


@dataclass(frozen=True, slots=True)
class AReleaseRQ:
    """A-RELEASE-RQ, PS3.8 9.3.6."""

    def encode(self) -> bytes:
        """Give the PDU."""
        return encode_pdu(TYPE_RELEASE_RQ, bytes(FIXED_BODY_BYTES))

    @classmethod
    def decode(cls, body: bytes) -> AReleaseRQ:
        """Ignore the reserved bytes."""
        return cls()


@dataclass(frozen=True, slots=True)
class AReleaseRP:
    """A-RELEASE-RP, PS3.8 9.3.7."""

    def encode(self) -> bytes:
        """Give the PDU."""
        return encode_pdu(TYPE_RELEASE_RP, bytes(FIXED_BODY_BYTES))

    @classmethod
    def decode(cls, body: bytes) -> AReleaseRP:
        """Ignore the reserved bytes."""
        return cls()


@dataclass(frozen=True, slots=True)
class AAbort:
    """A-ABORT, PS3.8 9.3.8."""

    source: int
    reason: int

    def encode(self) -> bytes:
        """Give the PDU."""
        return encode_pdu(TYPE_ABORT, bytes((0, 0, self.source, self.reason)))

    @classmethod
    def decode(cls, body: bytes) -> AAbort:
        """Read the PDU's body of four bytes."""
        return cls(body[2], body[3])


PDU = AAssociateRQ | AAssociateAC | AAssociateRJ | AReleaseRQ | AReleaseRP | AAbort
"""Every PDU that is decoded whole."""
