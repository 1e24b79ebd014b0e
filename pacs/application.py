"""
The assembly: every object is built here and given its collaborators, in the order in which the server starts.

Only this module knows everyone. Nothing else reads the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.application.service import IService

from pacs.archive.archive import Archive
from pacs.archive.errors import ArchiveError
from pacs.archive.reindex import reconcile
from pacs.assembly.access import PasswordService, make_admission, password_verifier, token_verifier
from pacs.assembly.archive import ArchiveService, FeedService, archive_settings, make_feed
from pacs.assembly.audit import NetworkEntryService, audit_commands, make_audit_service
from pacs.assembly.certificates import CertificateWatch
from pacs.assembly.deidentification import DeidentificationService, make_deidentifier
from pacs.assembly.health import HealthService, WatchdogService
from pacs.assembly.https import HTTPSContext
from pacs.assembly.importing import import_commands
from pacs.assembly.network import make_acceptor, make_remote_nodes
from pacs.assembly.process import Server
from pacs.assembly.pseudonyms import vault_commands
from pacs.assembly.subscribers import subscribe_plugins
from pacs.assembly.tasks import TaskQueueService, make_task_queue
from pacs.assembly.tls import Contexts, TLSService
from pacs.assembly.transcoding import WorkersService, make_frame_extractor, transcoding_settings
from pacs.assembly.workflow import make_workflow
from pacs.config import Configuration
from pacs.control.lock import RootPathLock
from pacs.control.server import ControlCommand, ControlServer, Progress
from pacs.deidentification.errors import VaultError
from pacs.events import EventBus
from pacs.monitoring.denials import Denials
from pacs.monitoring.health import HealthRegister, LatenessWatchdog
from pacs.monitoring.metrics import Metrics
from pacs.net.dispatch import ServiceDispatcher
from pacs.net.registry import AssociationRegistry
from pacs.ordered_service import Doors
from pacs.security.logins import LoginReporter
from pacs.services.authorization import Authorization
from pacs.services.query import QueryService
from pacs.services.retrieve import RetrieveService
from pacs.services.statuses import archive_failure
from pacs.services.storage import StorageService
from pacs.services.verification import VerificationService
from pacs.transcoding.transcoder import Transcoder
from pacs.workflow.errors import WorkflowError

REFUSALS: Final = (ArchiveError, VaultError, WorkflowError)
"""What an operator asks for and can't have; the server has no fault by it."""


def _call_all(functions: Sequence[Callable[[], object]]) -> None:
    for function in functions:
        function()


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
    deidentifier = make_deidentifier(configuration, health=health, reactor=reactor)
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
    nodes = make_remote_nodes(configuration, contexts=contexts, reactor=reactor)
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
    acceptor = make_acceptor(
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
    doors = Doors()
    for door in (*web, acceptor):
        door.setServiceParent(doors)
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
        DeidentificationService(deidentifier, interval_s=interval_s, clock=reactor),
        ControlServer(root_path=root_path, commands=commands, refusals=REFUSALS, reactor=reactor),
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
        doors,
        NetworkEntryService(auditing.audit),
    ):
        child.setServiceParent(whole)
    return whole
