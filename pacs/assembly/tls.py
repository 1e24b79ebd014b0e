"""
TLS's part of the assembly: the contexts of the configuration, and their reload.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.assembly.certificates import CertificateWatch
from pacs.config import Configuration
from pacs.net.acceptor import AcceptorFactory
from pacs.net.nodes import RemoteNode
from pacs.net.tls import ClientConnections, ServerConnections, TLSAcceptorFactory
from pacs.security.tls import (
    Identity,
    TLSFault,
    TLSSettings,
    load_identity,
    make_client_context,
    make_server_context,
)


def tls_settings(configuration: Configuration) -> TLSSettings:
    """Give the part of the configuration that contexts are made of."""
    tls = configuration.server.tls
    password = tls.private_key_password_file
    return TLSSettings(
        certificate=Path(tls.certificate),
        private_key=Path(tls.private_key),
        ca_certificate=Path(tls.ca_certificate),
        private_key_password_file=None if password is None else Path(password),
        requires_client_certificate=tls.require_client_cert,
        crl=None if tls.crl is None else Path(tls.crl),
        min_version=tls.min_version,
        profile=tls.profile,
    )


class Contexts:
    """
    The contexts in use, for both directions, and how to make them anew.

    Raises:
        TLSFault: from the constructor; a file can't be used.

    Attributes:
        identity: our certificate; None when we listen without TLS and no certificate is configured.
        server: makes the connections that peers open; None when we listen without TLS.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, configuration: Configuration) -> None:
        self._settings = tls_settings(configuration)
        tls = configuration.server.tls
        self._listens = tls.enabled
        self._shows_certificate = tls.enabled or "certificate" in tls.model_fields_set
        self._connects = any(node.tls for node in configuration.server.remote_nodes)
        self._client: SSL.Context | None = None
        self.identity: Identity | None = None
        self.server: ServerConnections | None = None
        self._use(*self._load())

    @property
    def is_used(self) -> bool:
        """Whether TLS is spoken at all."""
        return self._listens or self._connects

    def client(self) -> SSL.Context:
        """Give the context for the connections that we open."""
        assert self._client is not None
        return self._client

    def reload(self) -> Deferred[bool]:
        """
        Read all files again; connections that are open keep what they have.

        Returns:
            fires with False when a file can't be used; then everything stays as it is.
        """
        return deferToThread(self._load).addCallbacks(self._reloaded, self._not_reloaded)

    def _load(self) -> tuple[Identity | None, SSL.Context | None, SSL.Context | None]:
        """Read and parse everything; runs in a thread, too."""
        if not self.is_used:
            return None, None, None
        identity = load_identity(self._settings, self._warn) if self._shows_certificate else None
        server = make_server_context(self._settings, identity) if self._listens and identity is not None else None
        client = make_client_context(self._settings, identity) if self._connects else None
        return identity, server, client

    def _warn(self, message: str) -> None:
        self.log.warn("server.tls.{message}", message=message)

    def _use(self, identity: Identity | None, server: SSL.Context | None, client: SSL.Context | None) -> None:
        self.identity = identity
        self._client = client
        if server is not None:
            if self.server is None:
                self.server = ServerConnections(server)
            self.server.context = server

    def _reloaded(self, loaded: tuple[Identity | None, SSL.Context | None, SSL.Context | None]) -> bool:
        self._use(*loaded)
        self.log.info("TLS certificate, key, authorities and revocation list are read again")
        return True

    def _not_reloaded(self, failure: Failure) -> bool:
        error = failure.value
        if isinstance(error, TLSFault):
            self.log.error("TLS stays as it was: server.tls.{key}: {reason}", key=error.key, reason=str(error))
        else:
            self.log.failure("TLS stays as it was", failure)
        return False


class TLSService(Service):
    """Says which certificate we show, and reads the files again when it is told to."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, contexts: Contexts, *, watch: CertificateWatch) -> None:
        self._contexts = contexts
        self._watch = watch
        watch.add("TLS", lambda: contexts.identity)

    def startService(self) -> None:
        super().startService()
        identity = self._contexts.identity
        if identity is not None:
            self.log.info(
                "TLS certificate {subject} is valid until {not_after}",
                subject=identity.certificate.subject.rfc4514_string(),
                not_after=f"{identity.not_after:%Y-%m-%d}",
            )

    def reload(self) -> None:
        """Read certificate, key, authorities and revocation list again."""
        if self._contexts.is_used:
            self._contexts.reload().addCallback(lambda _: self._watch.look())


def listeners(
    configuration: Configuration, contexts: Contexts, acceptor: AcceptorFactory, *, reactor: Any
) -> list[tuple[int, Any, str]]:
    """Give port, factory and a word for the log of everything that takes associations."""
    server = configuration.server
    if contexts.server is None:
        return [(server.port, acceptor, "")]
    over_tls = TLSAcceptorFactory(
        connections=contexts.server,
        acceptor=acceptor,
        refused=acceptor.handshake_refused,
        timeout_s=server.limits.tls_handshake_seconds,
        clock=reactor,
    )
    if server.tls.port is None:
        return [(server.port, over_tls, " over TLS")]
    return [(server.port, acceptor, ""), (server.tls.port, over_tls, " over TLS")]


def endpoint_for(node: RemoteNode, contexts: Contexts, *, timeout_s: float, reactor: Any) -> IStreamClientEndpoint:
    """Give where and how to connect to a remote node."""
    endpoint = HostnameEndpoint(reactor, node.host, node.port, timeout=timeout_s)
    if not node.tls:
        return endpoint
    wrapped: IStreamClientEndpoint = wrapClientTLS(ClientConnections(node.host, contexts.client), endpoint)
    return wrapped
