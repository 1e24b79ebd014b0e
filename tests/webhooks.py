"""
A subscriber for tests: an HTTP server that takes webhooks' posts, answers as it is told, and can go away.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.server import free_port

WAIT_S = 30.0
SECRET = b"a secret of our own"


@dataclass(frozen=True)
class Posted:
    """
    One request.

    Attributes:
        status: what it was answered.
    """

    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)

    @property
    def delivery(self) -> str:
        """The id that is the same on a retry."""
        return self.headers["x-pacs-delivery"]

    def check_signature(self, secret: bytes = SECRET) -> None:
        """It is signed by whoever knows the secret."""
        expected = hmac.new(secret, self.body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(self.headers["x-pacs-signature"], f"sha256={expected}")


class Subscriber:
    """
    The subscriber, over all its lives.

    Attributes:
        statuses: what the next requests are answered; 204 when it is empty.
        posted: what came, in order.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.statuses: list[int] = []
        self.posted: list[Posted] = []
        self.secret_file = directory / "webhook.secret"
        self.secret_file.write_bytes(SECRET + b"\n")
        self.secret_file.chmod(0o600)
        self._lock = threading.Lock()

    def configuration(self, *events: str, scheme: str = "http", host: str = "127.0.0.1") -> dict[str, Any]:
        """Give the server's configuration that has it as its only webhook."""
        url = f"{scheme}://{host}:{self.port}/hook?key=of-the-url"
        hook = {"url": url, "secret_file": str(self.secret_file), "events": list(events)}
        return {"events": {"webhooks": [hook]}}

    @contextmanager
    def listening(self, certificate: tuple[Path, Path] | None = None) -> Iterator[None]:
        """Take posts for a while."""
        subscriber = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = subscriber.take({name.lower(): value for name, value in self.headers.items()}, body)
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", "2")
                self.end_headers()
                if status != 204:
                    self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Keep quiet."""

        connections: list[socket.socket] = []

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                connections.append(request)
                super().process_request_thread(request, client_address)

        httpd = Server(("127.0.0.1", self.port), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            httpd.shutdown()
            thread.join()
            httpd.server_close()
            for connection in connections:  # a kept one would take the next post, although nobody listens
                with suppress(OSError):  # it is gone already
                    connection.shutdown(socket.SHUT_RDWR)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Note a post; give what it is answered."""
        with self._lock:
            status = self.statuses.pop(0) if self.statuses else 204
            self.posted.append(Posted(headers, body, status))
        return status

    def taken(self) -> list[Posted]:
        """Give what was answered with success."""
        with self._lock:
            return [posted for posted in self.posted if posted.status < 300]

    def wait_for(self, number: int) -> list[Posted]:
        """Wait until so many were taken."""
        deadline_s = time.monotonic() + WAIT_S
        while len(found := self.taken()) < number:
            assert time.monotonic() < deadline_s, f"{len(found)} of {number} came"
            time.sleep(0.05)
        return found
