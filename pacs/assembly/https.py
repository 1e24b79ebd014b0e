"""
HTTPS's part of the assembly: its certificate and key, and their reload.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from pacs.config import Configuration
from pacs.net.tls import ServerConnections
from pacs.security.tls import Identity, TLSFault, TLSSettings, load_identity, make_server_context


class HTTPSContext:
    """
    The context of HTTPS, and how to make it anew.

    Raises:
        TLSFault: from the constructor; a file can't be used.

    Attributes:
        connections: makes those that clients open.
        identity: our certificate.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, configuration: Configuration) -> None:
        tls = configuration.rest_api.tls
        for key in ("certificate", "private_key"):
            if getattr(tls, key) is None:
                raise _of_section(TLSFault(key, "is missing; give the path of a PEM file"))
        self._settings = TLSSettings(
            certificate=Path(tls.certificate or ""),
            private_key=Path(tls.private_key or ""),
            ca_certificate=Path(),  # client certificates are not asked for
            min_version=tls.min_version,
        )
        self.identity, context = self._load()
        self.connections = ServerConnections(context)

    def current_identity(self) -> Identity:
        """Give our certificate."""
        return self.identity

    def reload(self) -> Deferred[bool]:
        """
        Read the files again; connections that are open keep what they have.

        Returns:
            fires with False when a file can't be used; then everything stays as it is.
        """
        return deferToThread(self._load).addCallbacks(self._reloaded, self._not_reloaded)

    def _load(self) -> tuple[Identity, SSL.Context]:
        """Read and parse; runs in a thread, too."""
        try:
            identity = load_identity(self._settings, self._warn)
            return identity, make_server_context(self._settings, identity)
        except TLSFault as fault:
            raise _of_section(fault) from None

    def _warn(self, message: str) -> None:
        self.log.warn("rest_api.tls.{message}", message=message)

    def _reloaded(self, loaded: tuple[Identity, SSL.Context]) -> bool:
        self.identity, self.connections.context = loaded
        self.log.info("HTTPS certificate and key are read again")
        return True

    def _not_reloaded(self, failure: Failure) -> bool:
        error = failure.value
        if isinstance(error, TLSFault):
            self.log.error("HTTPS stays as it was: rest_api.tls.{key}: {reason}", key=error.key, reason=str(error))
        else:
            self.log.failure("HTTPS stays as it was", failure)
        return False


def _of_section(fault: TLSFault) -> TLSFault:
    fault.section = ("rest_api", "tls")
    return fault
