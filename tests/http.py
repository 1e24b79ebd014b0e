"""
An HTTP client for tests: urllib, with the administrator's token of the server's first start.
"""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.server import Server

HTTP = {"rest_api": {"enabled": True}}


@dataclass(frozen=True)
class Reply:
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of an error."""
        return str(self.json["error"]["code"])


def admin_token(server: Server) -> str:
    """Give the token of the first administrator."""
    return (server.root / "admin.token").read_text().strip()


def fetch(
    server: Server,
    path: str,
    *,
    method: str = "GET",
    token: str | None = "",
    json_body: Any = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """
    Ask a server.

    Args:
        token: of the caller; the administrator's when it is empty, none when it is None.
    """
    request = urllib.request.Request(f"http://127.0.0.1:{server.http_port}{path}", method=method)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token or admin_token(server)}")
    if json_body is not None:
        body = json.dumps(json_body).encode()
        request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, data=body, timeout=30) as reply:
            return _reply(reply.status, reply.headers, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error.headers, error.read())


def _reply(status: int, headers: Any, body: bytes) -> Reply:
    found = {name.lower(): value for name, value in headers.items()}
    return Reply(status, found, gzip.decompress(body) if found.get("content-encoding") == "gzip" else body)


def metrics(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Give the samples by name and labels, as Prometheus' parser reads them."""
    text = fetch(server, "/metrics", token=None).body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def new_token(server: Server, role: str, name: str = "test") -> str:
    """Make a token."""
    reply = fetch(server, "/api/v1/tokens", method="POST", json_body={"name": name, "role": role})
    assert reply.status == 201, reply.body
    return str(reply.json["token"])
