"""
What one key may hold: the kinds of values that the model is made of, each with its check.
"""

from __future__ import annotations

import re
import types
import typing
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from pacs.dataset.charset import is_defined
from pacs.events import EVENT_NAMES
from pacs.security.passwords import is_password_hash
from pacs.security.policy import parse_network

_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_UPPER_PORT = 65535


def _ae_title(value: str) -> str:
    value = value.strip(" ")
    if not _AE_TITLE.fullmatch(value):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters, no backslash")
    return value


def _host(value: str) -> str:
    if not value.isprintable() or any(character.isspace() for character in value):
        raise ValueError("the name or address of a host has no blanks")
    return value


def _character_set(value: str) -> str:
    if not is_defined(value):
        raise ValueError(
            "no defined terms of Specific Character Set (PS3.3 C.12.1.1.2), such as ISO_IR 100, ISO_IR 192 or"
            " \\ISO 2022 IR 87"
        )
    return value


def _web_url(value: str) -> str:
    parts = urlsplit(value)
    is_text = value.isascii() and value.isprintable() and " " not in value
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_text:
        raise ValueError("give an http:// or https:// URL")
    if parts.port == 0:
        raise ValueError("port 0 is none")
    return value


def _naming_scheme(value: object) -> object:
    spellings = {"flat": "uid_flat", "hierarchical": "uid_hierarchical"}
    return spellings.get(value, value) if isinstance(value, str) else value


def _tls_version(value: object) -> object:
    return str(value) if isinstance(value, float) else value


def is_number(annotation: Any) -> bool:
    """Whether a key with this annotation takes a number."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union, Annotated):
        return any(is_number(part) for part in typing.get_args(annotation))
    return annotation in (int, float)


def _address_block(value: str) -> str:
    try:
        parse_network(value)
    except ValueError as error:
        raise ValueError(f"no address or CIDR block such as 10.1.0.0/16: {error}") from None
    return value


def _password_hash(value: SecretStr) -> SecretStr:
    if not is_password_hash(value.get_secret_value()):
        raise ValueError("no argon2id hash; 'pacsctl user add' makes the line")
    return value


def _provider_url(value: str | None) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value)
    is_here = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not value.isascii() or not parts.hostname or not (parts.scheme == "https" or is_here):
        raise ValueError("no https:// URL")
    return value


def _public_url(value: str) -> str:
    if not value:
        return value  # as null
    parts = urlsplit(_web_url(value))
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("a base URL has no user, query or fragment")
    return value


def _event_name(value: str) -> str:
    if value not in EVENT_NAMES:
        raise ValueError(f"no event; there are {', '.join(EVENT_NAMES)}")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=0, le=_UPPER_PORT)]
PeerPort = Annotated[int, Field(ge=1, le=_UPPER_PORT)]
Host = Annotated[str, Field(min_length=1), AfterValidator(_host)]
CharacterSet = Annotated[str, AfterValidator(_character_set)]
WebURL = Annotated[str, AfterValidator(_web_url)]
NamingScheme = Annotated[Literal["uid_hierarchical", "uid_flat", "date_based"], BeforeValidator(_naming_scheme)]
TLSVersion = Annotated[Literal["1.2", "1.3"], BeforeValidator(_tls_version)]
RoleName = Literal["viewer", "technologist", "administrator", "none"]
AddressBlock = Annotated[str, AfterValidator(_address_block)]
Pattern = Annotated[str, Field(min_length=1)]
ProviderURL = Annotated[str | None, AfterValidator(_provider_url)]
PublicURL = Annotated[str, AfterValidator(_public_url)]
EventName = Annotated[str, AfterValidator(_event_name), Field(json_schema_extra={"enum": list(EVENT_NAMES)})]
PasswordHash = Annotated[SecretStr, AfterValidator(_password_hash)]
