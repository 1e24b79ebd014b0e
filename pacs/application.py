"""
The assembly: every object is built here and given its collaborators; start-up in order, shutdown in reverse.

Only this module knows everyone. Nothing else reads the configuration.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Final

from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from pacs.archive.archive import Archive
from pacs.archive.errors import IndexTooNew
from pacs.archive.reindex import reconcile
from pacs.assembly.access import PasswordService, make_admission, password_verifier, token_verifier
from pacs.assembly.archive import ArchiveService, FeedService, archive_settings, make_feed
from pacs.assembly.audit import NetworkEntryService, audit_commands, make_audit_service
from pacs.assembly.certificates import CertificateWatch
from pacs.assembly.deidentification import DeidentificationService, make_deidentifier
from pacs.assembly.health import HealthService
from pacs.assembly.https import HTTPSContext
from pacs.assembly.importing import import_commands
from pacs.assembly.pseudonyms import vault_commands
from pacs.assembly.subscribers import subscribe_plugins
from pacs.assembly.tasks import TaskQueueService, make_task_queue
from pacs.assembly.tls import Contexts, TLSService, endpoint_for, listeners
from pacs.assembly.transcoding import WorkersService, make_frame_extractor, transcoding_settings
from pacs.assembly.workflow import make_workflow
from pacs.config import Configuration
from pacs.control.lock import RootPathLock, RootPathLocked
from pacs.control.server import ControlCommand, ControlServer, Progress
from pacs.events import EventBus
from pacs.monitoring.denials import Denials
from pacs.monitoring.health import HealthRegister, LatenessWatchdog
from pacs.monitoring.logs import make_observer
from pacs.monitoring.metrics import Metrics
from pacs.net.acceptor import AcceptorFactory
from pacs.net.admission import Admission
from pacs.net.dispatch import ServiceDispatcher
from pacs.net.listening import listen
from pacs.net.nodes import RemoteNode, RemoteNodes
from pacs.net.registry import AssociationRegistry
from pacs.net.requestor import Requestor
from pacs.net.settings import AcceptorSettings, AssociationSettings
from pacs.ordered_service import OrderedMultiService
from pacs.security.audit import AuditKeyError
from pacs.security.logins import LoginReporter
from pacs.services.authorization import Authorization
from pacs.services.query import QueryService
from pacs.services.retrieve import RetrieveService
from pacs.services.statuses import archive_failure
from pacs.services.storage import StorageService
from pacs.services.verification import VerificationService
from pacs.transcoding.transcoder import Transcoder
from pacs.ul import IMPLEMENTATION_CLASS_UID, AbstractSyntaxSupport, Implementation
from pacs.version import IMPLEMENTATION_VERSION_NAME

SWITCH_INTERVAL_S: Final = 0.0005  # the reactor and the commit thread share the interpreter; neither waits for 5 ms
GARBAGE_THRESHOLDS: Final = (5_000, 20, 20)
LISTEN_BACKLOG: Final = 256
FILES_OF_OUR_OWN: Final = 300  # half-open connections, the index, objects in threads
M_ARENA_MAX: Final = -8  # glibc, malloc.h
DROP_AFTER_S: Final = 2.0  # after the aborts, for peers that do not even take those


class WatchdogService(Service):
    """Runs the lateness watchdog."""

    def __init__(self, watchdog: LatenessWatchdog) -> None:
        self._watchdog = watchdog

    def startService(self) -> None:
        super().startService()
        self._watchdog.start()

    def stopService(self) -> None:
        super().stopService()
        self._watchdog.stop()


class AcceptorService(Service):
    """
    Listens for associations; at the end lets running requests finish.

    Args:
        listeners: port, factory and a word for the log of each way to us.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        factory: AcceptorFactory,
        listeners: Sequence[tuple[int, Any, str]],
        registry: AssociationRegistry,
        configuration: Configuration,
        reactor: Any,
    ) -> None:
        self._factory = factory
        self._listeners = listeners
        self.registry = self._registry = registry
        self._server = configuration.server
        self._reactor = reactor
        self._listening: list[IListeningPort] = []

    def startService(self) -> None:
        super().startService()
        server = self._server
        self._registry.start()
        for port, factory, how in self._listeners:
            listening = listen(port, factory, backlog=LISTEN_BACKLOG, interface=server.interface, reactor=self._reactor)
            self._listening.append(listening)
            address = listening.getHost()
            self.log.info(
                "{ae_title} is ready on {interface}:{port}{how}",
                ae_title=server.ae_title,
                interface=address.host,
                port=address.port,
                how=how,
            )

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        listening, self._listening = self._listening, []
        for port in listening:
            await maybeDeferred(port.stopListening)
        grace_s = self._server.shutdown_grace_seconds
        if len(self._registry):
            self.log.info(
                "listening no longer; {count} associations get up to {grace_s:g} s to finish",
                count=len(self._registry),
                grace_s=grace_s,
            )
        timers = (
            self._reactor.callLater(grace_s, self._factory.abort_all),
            self._reactor.callLater(grace_s + DROP_AFTER_S, self._factory.drop_all),
        )
        await self._factory.drain()
        for timer in timers:
            if timer.active():
                timer.cancel()
        self._registry.stop()


class Server(OrderedMultiService):
    """
    The whole server: takes the lock, starts everything in order, and ends the process cleanly.

    Attributes:
        observer: logs as the configuration says.
        support: tells how an abstract syntax is supported.

    Args:
        configuration: of the file, the environment and the defaults.
        reload: called on SIGHUP.
    """

    def __init__(
        self,
        *,
        configuration: Configuration,
        support: Callable[[str], AbstractSyntaxSupport | None],
        lock: RootPathLock,
        reload: Callable[[], None],
        reactor: Any,
    ) -> None:
        super().__init__()
        self.support = support
        self.observer = make_observer(
            level=configuration.logging.level, log_format=configuration.logging.format, out=sys.stdout
        )
        self._configuration = configuration
        self._lock = lock
        self._reload = reload
        self._reactor = reactor
        self._is_stopping = False
        self._exit_status = 0

    def setServiceParent(self, parent: Any) -> None:
        """Join the application; it logs as the configuration says."""
        super().setServiceParent(parent)
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)

    def startService(self) -> None:
        _harden(self._configuration.server.max_associations)
        try:
            self._lock.acquire()
        except (RootPathLocked, OSError) as error:
            print(f"productionpacs: {error}", file=sys.__stderr__)  # the log has taken sys.stderr
            raise SystemExit(1) from None
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._reactor.callWhenRunning(self._install_signal_handlers)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._exit)
        self.when_started.addCallbacks(_settle, self._could_not_start)
        super().startService()

    async def _stop_children(self) -> None:
        await super()._stop_children()
        self._lock.release()
        self.log.info("stopped")

    def _install_signal_handlers(self) -> None:
        """Our own: twistd's leave the signal's number as exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signaled)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))

    def _signaled(self, number: int, frame: FrameType | None) -> None:
        if self._is_stopping:
            os._exit(1)  # the second one: at once; what was acknowledged is on disk
        self._is_stopping = True
        self._reactor.callFromThread(self._reactor.stop)

    def _could_not_start(self, failure: Failure) -> None:
        if self._is_stopping and failure.check(CancelledError):
            return
        self._exit_status = 1
        if failure.check(CannotListenError, IndexTooNew, AuditKeyError, OSError):
            self.log.critical("the server can't start: {reason}", reason=failure.getErrorMessage())
        else:
            self.log.failure("the server can't start", failure)
        self._reactor.callLater(0, self._reactor.stop)

    def _exit(self) -> None:
        """Leave a failed start's status: twistd itself would exit with 0."""
        if self._exit_status:
            sys.stdout.flush()
            os._exit(self._exit_status)


def _settle(_: object) -> None:
    """Take what the start made out of the garbage collector's sight: it stays, and looking through it costs 20 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _call_all(functions: Sequence[Callable[[], object]]) -> None:
    for function in functions:
        function()


def _share_one_heap() -> None:
    """Have all threads allocate from one heap: the interpreter lets one run at a time, and several cost 3 MB."""
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    except (OSError, AttributeError):
        return  # another C library


def _harden(max_associations: int) -> None:
    """Keep what is written to ourselves, leave no patient data in core dumps, allow as many files as are needed."""
    os.umask(0o077)
    _share_one_heap()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = FILES_OF_OUR_OWN + 2 * max_associations
    if hard != resource.RLIM_INFINITY and hard < needed:
        Server.log.warn(
            "the limit of open files is {limit}, {needed} are needed for server.max_associations; raise 'ulimit -n'",
            limit=hard,
            needed=needed,
        )


def association_settings(configuration: Configuration) -> AssociationSettings:
    """Give the associations' part of the configuration."""
    server = configuration.server
    return AssociationSettings(
        artim_timeout_s=server.artim_timeout_seconds,
        association_timeout_s=server.limits.association_timeout_seconds,
        idle_timeout_s=server.idle_timeout_seconds,
        fragment_timeout_s=server.limits.fragment_timeout_seconds,
        unread_timeout_s=server.limits.unread_response_seconds,
        command_set_bytes=server.limits.command_set_bytes,
        max_pdu_length=server.max_pdu_length,
        associate_pdu_bytes=server.limits.associate_pdu_bytes,
    )


def _acceptor(
    configuration: Configuration,
    *,
    dispatcher: ServiceDispatcher,
    admission: Admission,
    contexts: Contexts,
    registry: AssociationRegistry,
    bus: EventBus,
    metrics: Metrics,
    reactor: Any,
) -> AcceptorService:
    server = configuration.server
    factory = AcceptorFactory(
        settings=AcceptorSettings(
            ae_title=server.ae_title,
            accepts_any_called_ae=server.accept_any_called_ae,
            max_associations=server.max_associations,
            max_associations_per_peer=server.max_associations_per_peer,
            max_associations_per_address=server.limits.associations_per_address,
            max_half_open=server.limits.half_open_connections,
            logs_associations=configuration.logging.level == "debug",
        ),
        association_settings=association_settings(configuration),
        registry=registry,
        dispatcher=dispatcher,
        admission=admission,
        implementation=Implementation(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME),
        bus=bus,
        metrics=metrics,
        clock=reactor,
    )
    return AcceptorService(
        factory=factory,
        listeners=listeners(configuration, contexts, factory, reactor=reactor),
        registry=registry,
        configuration=configuration,
        reactor=reactor,
    )


def _remote_nodes(configuration: Configuration, *, contexts: Contexts, reactor: Any) -> RemoteNodes:
    server = configuration.server
    requestor = Requestor(
        calling_ae_title=server.ae_title,
        implementation=Implementation(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME),
        settings=association_settings(configuration),
        clock=reactor,
    )

    return RemoteNodes(
        nodes=[RemoteNode(node.ae_title, node.host, node.port, node.tls) for node in server.remote_nodes],
        requestor=requestor,
        endpoint_for=partial(
            endpoint_for, contexts=contexts, timeout_s=server.limits.connect_timeout_seconds, reactor=reactor
        ),
        associations_per_node=server.limits.associations_per_remote_node,
        clock=reactor,
    )


def _reload_https(https: HTTPSContext, watch: CertificateWatch) -> None:
    https.reload().addCallback(lambda _: watch.look())


def make_service(configuration: Configuration, *, bus: EventBus, reactor: Any) -> Server:
    """
    Build the server; nothing but TLS's files is opened before it is started.

    Args:
        bus: of whoever wants to know of its events, beside the plugins.

    Raises:
        TLSFault: one of them can't be used.
    """
    server = configuration.server
    root_path = Path(configuration.storage.root_path)
    subscribe_plugins(bus)
    metrics = Metrics()
    health = HealthRegister(bus=bus, metrics=metrics)
    deidentifier = make_deidentifier(configuration, reactor=reactor)
    archive = Archive(
        settings=archive_settings(configuration),
        reactor=reactor,
        bus=bus,
        metrics=metrics,
        health=health,
        deidentifier=deidentifier,
    )
    tasks = make_task_queue(archive, bus=bus, metrics=metrics, reactor=reactor)
    contexts = Contexts(configuration)
    interval_s = configuration.monitoring.health_check_interval_seconds
    watch = CertificateWatch(metrics=metrics, health=health, interval_s=interval_s, clock=reactor)
    tls = TLSService(contexts, watch=watch)
    denials = Denials(bus=bus, metrics=metrics, clock=reactor)
    authorization = Authorization(denials=denials)
    nodes = _remote_nodes(configuration, contexts=contexts, reactor=reactor)
    verifier = password_verifier(configuration, reactor)
    tokens = token_verifier(configuration, reactor)
    logins = LoginReporter(bus=bus, clock=reactor)
    admission = make_admission(configuration, verifier=verifier, tokens=tokens, logins=logins, clock=reactor)
    transcoder = Transcoder(settings=transcoding_settings(configuration), reactor=reactor)
    extractor = make_frame_extractor(configuration, reactor)
    registry = AssociationRegistry(clock=reactor)
    workflow = make_workflow(
        configuration,
        archive=archive,
        authorization=authorization,
        associations=lambda: registry,
        nodes=nodes,
        tasks=tasks,
        bus=bus,
        metrics=metrics,
        reactor=reactor,
    )
    services = (
        VerificationService(authorization=authorization),
        QueryService(
            archive=archive,
            authorization=authorization,
            bus=bus,
            metrics=metrics,
            clock=reactor,
            ae_title=server.ae_title,
            identifier_bytes=server.limits.identifier_bytes,
        ),
        StorageService(archive=archive, authorization=authorization, bus=bus),
        RetrieveService(
            archive=archive,
            nodes=nodes,
            authorization=authorization,
            transcoder=transcoder,
            extractor=extractor,
            bus=bus,
            metrics=metrics,
            clock=reactor,
            identifier_bytes=server.limits.identifier_bytes,
            response_timeout_s=server.limits.response_timeout_seconds,
        ),
        *workflow.services,
    )
    dispatcher = ServiceDispatcher(services=services, translate=archive_failure, metrics=metrics, clock=reactor)
    auditing = make_audit_service(configuration, dispatcher=dispatcher, health=health, bus=bus, reactor=reactor)

    async def reindex(_: dict[str, Any], progress: Progress) -> dict[str, Any]:
        return await reconcile(archive, progress)

    commands: dict[str, ControlCommand] = {
        "reindex": reindex,
        "worklist": workflow.command,
        **audit_commands(auditing.audit),
        **import_commands(archive, bus),
        **vault_commands(configuration, archive=archive, bus=bus, audit=auditing.audit),
    }
    acceptor = _acceptor(
        configuration,
        dispatcher=dispatcher,
        admission=admission,
        contexts=contexts,
        registry=registry,
        bus=bus,
        metrics=metrics,
        reactor=reactor,
    )
    feed = make_feed(configuration, archive, reactor=reactor)
    webhooks: list[IService] = []
    reloads: list[Callable[[], object]] = [tls.reload]
    if configuration.events.webhooks:
        from pacs.assembly.webhooks import make_webhooks  # costs memory

        hooks = make_webhooks(configuration, archive=archive, feed=feed, queue=tasks, bus=bus, reactor=reactor)
        webhooks.append(hooks)
        reloads.append(hooks.reload)
    web: list[IService] = []
    if configuration.rest_api.enabled:
        from pacs.assembly.web import Collaborators, make_web  # costs memory

        parts = Collaborators(
            archive=archive,
            audit=auditing.audit,
            bus=bus,
            denials=denials,
            feed=feed,
            health=health,
            metrics=metrics,
            nodes=nodes,
            associations=acceptor.registry,
            verifier=verifier,
            worklist=workflow.worklist,
            steps=workflow.steps,
            tokens=tokens,
            logins=logins,
            tasks=tasks,
            closed=lambda: "" if auditing.audit.is_recording else "the audit log cannot be written",
        )
        made = make_web(configuration, parts, reactor=reactor)
        web.append(made.service)
        if made.https is not None:
            watch.add("HTTPS", made.https.current_identity)
            reloads.append(partial(_reload_https, made.https, watch))
        commands.update(made.commands)
    whole = Server(
        configuration=configuration,
        support=dispatcher.support,
        lock=RootPathLock(root_path),
        reload=lambda: _call_all(reloads),
        reactor=reactor,
    )
    for child in (
        auditing,
        ArchiveService(archive),
        WorkersService(transcoder.stop),
        WorkersService(extractor.stop),
        DeidentificationService(deidentifier, health=health),
        ControlServer(root_path=root_path, commands=commands, reactor=reactor),
        HealthService(
            archive=archive,
            register=health,
            interval_s=configuration.monitoring.health_check_interval_seconds,
            clock=reactor,
        ),
        WatchdogService(LatenessWatchdog(clock=reactor, metrics=metrics, health=health)),
        PasswordService(verifier),
        tls,
        watch,
        FeedService(feed),
        *webhooks,
        TaskQueueService(tasks),
        *web,
        acceptor,
        NetworkEntryService(auditing.audit),
    ):
        child.setServiceParent(whole)
    return whole
