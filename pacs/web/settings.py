"""
The settings of the HTTP side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pacs.security.policy import Network


@dataclass(frozen=True, slots=True)
class WebSettings:
    """
    What HTTP clients may ask, and who they may be.

    Attributes:
        hosts: names by which the server may be called, in lower case; addresses and localhost always may.
        cors_origins: exact origins; "*" for any; None: no cross-origin requests.
        trusted_proxies: whose X-Forwarded-For counts.
        public_url: what clients have before our paths, without a slash at its end; empty: nothing.
        headers_timeout_s: for the request line and the headers together.
        idle_timeout_s: between the requests of one connection.
        unread_timeout_s: for a client that takes nothing of an answer.
        least_body_rate: bytes a second; a slower body ends the connection.
    """

    root_path: Path
    is_authentication_enabled: bool = True
    is_metrics_enabled: bool = True
    is_encrypted: bool = False
    hosts: frozenset[str] = frozenset()
    cors_origins: tuple[str, ...] | None = ()
    trusted_proxies: tuple[Network, ...] = ()
    public_url: str = ""
    header_bytes: int = 16384
    header_count: int = 100
    uri_bytes: int = 8192
    json_bytes: int = 1 << 20
    json_depth: int = 32
    connections: int = 200
    headers_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    unread_timeout_s: float = 60.0
    least_body_rate: float = 1024.0
    grace_s: float = 30.0
