"""
The HTTP side's part of the assembly. It is imported only where `rest_api.enabled` is set: klein costs memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from pacs.archive.archive import Archive
from pacs.archive.errors import ArchiveBusy, ArchiveClosed, ArchiveError, ObjectGone, StorageFailed, StorageFull
from pacs.archive.feed import ChangeFeed
from pacs.assembly.access import access_policy
from pacs.assembly.https import HTTPSContext
from pacs.config import Configuration
from pacs.control.server import ControlCommand, Progress
from pacs.events import EventBus
from pacs.monitoring.denials import Denials
from pacs.monitoring.health import HealthRegister
from pacs.monitoring.metrics import Metrics
from pacs.net.nodes import RemoteNodes
from pacs.net.privileged import Bound, bind_if_privileged
from pacs.net.registry import AssociationRegistry
from pacs.security.access import Role
from pacs.security.audit import AuditLog
from pacs.security.credentials import PasswordVerifier
from pacs.security.logins import LoginReporter
from pacs.security.policy import parse_network
from pacs.security.throttle import FailureThrottle
from pacs.security.tokens import check_name, parse_expiry
from pacs.tasks.queue import TaskQueue
from pacs.web.api.archive import ArchiveRoutes
from pacs.web.api.audit import AuditRoutes
from pacs.web.api.deletion import DeletionRoutes
from pacs.web.api.events import EventRoutes
from pacs.web.api.jobs import JobRoutes, job_error
from pacs.web.api.network import NetworkRoutes
from pacs.web.api.session import SessionRoutes
from pacs.web.api.system import SystemRoutes
from pacs.web.api.tokens import TokenRoutes
from pacs.web.api.workflow import WorkflowRoutes, workflow_error
from pacs.web.authentication import Authenticator
from pacs.web.errors import HTTPError
from pacs.web.openapi import openapi_route
from pacs.web.root import WebRoot
from pacs.web.routes import Route
from pacs.web.sessions import SessionRegistry, origin_of
from pacs.web.settings import WebSettings
from pacs.web.site import WebSite
from pacs.web.tokens import TokenRegistry
from pacs.workflow.steps import PerformedSteps
from pacs.workflow.worklist import Worklist

if TYPE_CHECKING:
    from pacs.security.oidc.tokens import TokenVerifier

COUNT_TIMEOUT_S: Final = 2.0
OPERATOR: Final = "pacsctl"
"""Who asks over the control socket."""

BACKLOG: Final = 256

STATUS_OF: Final[Mapping[type[ArchiveError], int]] = {
    ObjectGone: 404,
    StorageFull: 507,
    StorageFailed: 503,
    ArchiveBusy: 503,
    ArchiveClosed: 503,
}


@dataclass(frozen=True, slots=True)
class Collaborators:
    """The parts of the server that HTTP shows or uses."""

    archive: Archive
    audit: AuditLog
    bus: EventBus
    denials: Denials
    feed: ChangeFeed
    health: HealthRegister
    metrics: Metrics
    nodes: RemoteNodes
    associations: AssociationRegistry
    verifier: PasswordVerifier
    tokens: TokenVerifier | None
    logins: LoginReporter
    worklist: Worklist
    steps: PerformedSteps
    tasks: TaskQueue
    closed: Callable[[], str]


def web_settings(configuration: Configuration) -> WebSettings:
    """Give the HTTP side's part of the configuration."""
    rest, limits = configuration.rest_api, configuration.server.limits
    names = [*rest.allowed_hosts, rest.interface]
    if rest.public_url:
        names.append(urlsplit(rest.public_url).hostname or "")
    return WebSettings(
        root_path=Path(configuration.storage.root_path),
        is_authentication_enabled=rest.authentication.enabled,
        is_metrics_enabled=configuration.monitoring.metrics_enabled,
        is_encrypted=rest.tls.enabled,
        hosts=frozenset(name.lower() for name in names if name),
        cors_origins=rest.cors_origins if rest.cors_enabled else None,
        trusted_proxies=tuple(map(parse_network, rest.trusted_proxies)),
        public_url=(rest.public_url or "").rstrip("/"),
        header_bytes=limits.http_header_bytes,
        json_bytes=limits.http_json_bytes,
        connections=limits.http_connections,
        unread_timeout_s=limits.unread_response_seconds,
        grace_s=configuration.server.shutdown_grace_seconds,
    )


def archive_error(error: Exception) -> HTTPError | None:
    """Give the answer that an error of the archive means."""
    if not isinstance(error, ArchiveError):
        return None
    status = STATUS_OF.get(type(error), 500)
    return HTTPError(status, error.comment, headers={"Retry-After": "30"} if status in (503, 507) else {})


class WebService(Service):
    """Listens for HTTP; at the end lets running requests finish."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        site: WebSite,
        https: HTTPSContext | None,
        tokens: TokenRegistry,
        end_streams: Callable[[], None],
        configuration: Configuration,
        reactor: Any,
    ) -> None:
        self._end_streams = end_streams
        self._site = site
        self._factory: Any = site
        if https is not None:
            self._factory = TLSMemoryBIOFactory(https.connections, False, site, reactor)
            self._factory.noisy = False
        self._tokens = tokens
        self._rest = configuration.rest_api
        self._reactor = reactor
        self._bound: Bound | None = None
        self._listening: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """Take what root alone may have before twistd gives that up."""
        super().privilegedStartService()
        self._bound = bind_if_privileged(self._rest.port, self._rest.interface)

    def startService(self) -> Deferred[None]:
        super().startService()
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self._tokens.start()
        rest = self._rest
        try:
            listening = self._listen()
        except CannotListenError as error:
            self.log.critical("rest_api.port: {reason}", reason=str(error))
            raise
        self._listening = listening
        address: Any = listening.getHost()
        self.log.info(
            "{protocol} is ready on {interface}:{port}",
            protocol="HTTPS" if rest.tls.enabled else "HTTP",
            interface=address.host,
            port=address.port,
        )

    def _listen(self) -> IListeningPort:
        rest, bound = self._rest, self._bound
        self._bound = None
        if isinstance(bound, OSError):
            raise CannotListenError(rest.interface, rest.port, bound)
        if bound is None:
            found: IListeningPort = self._reactor.listenTCP(
                rest.port, self._factory, backlog=BACKLOG, interface=rest.interface
            )
            return found
        with bound:  # the reactor has a descriptor of its own
            bound.listen(BACKLOG)
            adopted: IListeningPort = self._reactor.adoptStreamPort(bound.fileno(), bound.family, self._factory)
        return adopted

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        listening, self._listening = self._listening, None
        if listening is None:
            return
        await maybeDeferred(listening.stopListening)
        self._end_streams()
        timer = self._reactor.callLater(self._site.settings.grace_s, self._site.abort_all)
        await self._site.drain()
        if timer.active():
            timer.cancel()
        self._site.stop_watching()


@dataclass(frozen=True, slots=True)
class Web:
    """
    What the assembly gets.

    Attributes:
        commands: of the control socket.
        https: None where HTTP is plain.
    """

    service: WebService
    commands: Mapping[str, ControlCommand]
    https: HTTPSContext | None


def make_web(configuration: Configuration, parts: Collaborators, *, reactor: Any) -> Web:
    """
    Build the HTTP side.

    Raises:
        TLSFault: certificate or key of HTTPS can't be used.
    """
    settings = web_settings(configuration)
    https = HTTPSContext(configuration) if settings.is_encrypted else None
    tokens = TokenRegistry(archive=parts.archive, bus=parts.bus, root_path=settings.root_path, now_s=time.time)
    events = EventRoutes(feed=parts.feed, bus=parts.bus, closed=parts.closed, clock=reactor)
    public_origin = origin_of(configuration.rest_api.public_url or "")
    sessions = SessionRegistry(
        is_encrypted=settings.is_encrypted or public_origin.startswith("https://"),
        public_origin=public_origin,
        clock=reactor,
    )
    routes = (
        *_routes(configuration, parts, tokens, settings, reactor=reactor),
        *SessionRoutes(sessions=sessions, logins=parts.logins).routes(),
        *events.routes(),
    )
    root = WebRoot(
        settings=settings,
        routes=(*routes, openapi_route(routes, public_url=settings.public_url, cookie=sessions.cookie)),
        authenticator=Authenticator(
            is_enabled=settings.is_authentication_enabled,
            tokens=tokens,
            provider=parts.tokens,
            verifier=parts.verifier,
            sessions=sessions,
            policy=access_policy(configuration),
            throttle=FailureThrottle(clock=reactor),
            logins=parts.logins,
            clock=reactor,
            now_s=time.time,
        ),
        denials=parts.denials,
        translate=lambda error: archive_error(error) or workflow_error(error) or job_error(error),
        closed=parts.closed,
    )
    site = WebSite(root=root, settings=settings, metrics=parts.metrics, clock=reactor)
    service = WebService(
        site=site,
        https=https,
        tokens=tokens,
        end_streams=events.close_all,
        configuration=configuration,
        reactor=reactor,
    )
    return Web(service, token_commands(tokens), https)


def _routes(
    configuration: Configuration, parts: Collaborators, tokens: TokenRegistry, settings: WebSettings, *, reactor: Any
) -> tuple[Route, ...]:
    started_s = reactor.seconds()

    async def refresh() -> Mapping[str, int]:
        counting: Deferred[Mapping[str, int]] = Deferred.fromCoroutine(parts.archive.count())
        counting.addTimeout(COUNT_TIMEOUT_S, reactor)
        counting.addErrback(lambda _: {})
        return await counting

    return (
        *SystemRoutes(
            health=parts.health,
            metrics=parts.metrics,
            refresh=refresh,
            configuration=configuration.masked(),
            is_metrics_enabled=settings.is_metrics_enabled,
            uptime_s=lambda: reactor.seconds() - started_s,
        ).routes(),
        *TokenRoutes(registry=tokens, now_s=time.time).routes(),
        *ArchiveRoutes(archive=parts.archive, bus=parts.bus, metrics=parts.metrics, clock=reactor).routes(),
        *DeletionRoutes(archive=parts.archive).routes(),
        *NetworkRoutes(associations=parts.associations, nodes=parts.nodes, clock=reactor).routes(),
        *AuditRoutes(audit=parts.audit).routes(),
        *JobRoutes(queue=parts.tasks).routes(),
        *WorkflowRoutes(
            worklist=parts.worklist, steps=parts.steps, bus=parts.bus, metrics=parts.metrics, clock=reactor
        ).routes(),
    )


def token_commands(tokens: TokenRegistry) -> Mapping[str, ControlCommand]:
    """Give the commands of `pacsctl token` for a running server."""

    async def create(arguments: dict[str, Any], _: Progress) -> dict[str, Any]:
        expires_at = parse_expiry(arguments.get("expires_at"), time.time())
        token, secret = await tokens.create(
            check_name(arguments["name"]), Role(arguments["role"]), expires_at, by=OPERATOR
        )
        return {**token.shown(), "token": secret}

    async def listed(_: dict[str, Any], __: Progress) -> dict[str, Any]:
        return {"tokens": [token.shown() for token in await tokens.all()]}

    async def revoke(arguments: dict[str, Any], _: Progress) -> dict[str, Any]:
        return {"revoked": await tokens.revoke(str(arguments["id"]), by=OPERATOR)}

    return {"token-create": create, "token-list": listed, "token-revoke": revoke}
