"""
The de-identifier's part of the assembly: it is made when `security.anonymization.auto_anonymize` says so.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pacs.config import Configuration
from pacs.dataset.scanner import ScanLimits
from pacs.deidentification.deidentifier import Deidentifier
from pacs.deidentification.errors import NotDeidentifiable, VaultError
from pacs.deidentification.profiles import Policy
from pacs.deidentification.settings import EngineSettings, Implementation
from pacs.deidentification.tables import Profile
from pacs.deidentification.vault import FINGERPRINT_FILE
from pacs.monitoring.health import ComponentHealth, Health, HealthRegister
from pacs.ul import IMPLEMENTATION_CLASS_UID
from pacs.version import IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from pacs.deidentification.regions import RegionRule


def vault_path(configuration: Configuration) -> Path:
    """Give the vault's path."""
    given = configuration.security.anonymization.vault_path
    return Path(given) if given is not None else Path(configuration.storage.root_path) / "vault.db"


def fingerprint_path(configuration: Configuration) -> Path:
    """Give the path of the archive's note of its vault's fingerprint."""
    return Path(configuration.storage.root_path) / FINGERPRINT_FILE


def engine_settings(configuration: Configuration, *, profile: str | None = None) -> EngineSettings:
    """
    Give the settings of an engine.

    Args:
        profile: instead of the configured one.

    Raises:
        RegionRulesError: the file of region rules is wrong.
    """
    anonymization, limits = configuration.security.anonymization, configuration.server.limits
    return EngineSettings(
        policy=Policy(
            Profile(profile or anonymization.profile), uids=anonymization.uids, burned_in=anonymization.burned_in
        ),
        vault_path=vault_path(configuration).absolute(),
        fingerprint_path=fingerprint_path(configuration).absolute(),
        directory=Path(configuration.storage.root_path).absolute(),
        implementation=Implementation(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME),
        region_rules=_region_rules(anonymization.region_rules),
        default_character_set=configuration.server.default_character_set,
        limits=ScanLimits(
            sequence_depth=limits.sequence_depth,
            sequence_items=limits.sequence_items,
            inflate_ratio=limits.inflate_ratio,
            inflate_bytes=limits.object_bytes,
        ),
        memory_bytes=limits.transcoding_memory_bytes,
        output_bytes=limits.object_bytes,
    )


def _region_rules(path: str | None) -> tuple[RegionRule, ...]:
    if path is None:
        return ()
    from pacs.deidentification.regions import load_region_rules  # with the transformer's codec

    return load_region_rules(Path(path))


def make_deidentifier(configuration: Configuration, *, health: HealthRegister, reactor: Any) -> Deidentifier | None:
    """Give the de-identifier of what arrives, or None: nothing is de-identified."""
    anonymization = configuration.security.anonymization
    if not anonymization.auto_anonymize:
        return None
    component = ComponentHealth(health, "deidentification")
    return Deidentifier(
        settings=engine_settings(configuration),
        ae_titles=anonymization.ae_titles,
        workers=os.cpu_count() or 1,
        seconds=configuration.server.limits.transcoding_seconds,
        vault_looked_at=lambda fault: component.report(
            "vault", Health.UNHEALTHY if fault else Health.HEALTHY, fault or "the vault can be used"
        ),
        reactor=reactor,
    )


class DeidentificationService(Service):
    """
    Opens the vault before the ports, and says so when it can't; ends the processes after the last request.

    Args:
        interval_s: between two looks for a vault that could not be opened.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, deidentifier: Deidentifier | None, *, interval_s: float, clock: IReactorTime) -> None:
        self._deidentifier = deidentifier
        self._interval_s = interval_s
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def startService(self) -> Deferred[None]:
        super().startService()
        return Deferred.fromCoroutine(self._start())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        deidentifier = self._deidentifier
        if deidentifier is None:
            return
        warning = deidentifier.settings.policy.warning
        if warning is not None:
            self.log.warn("security.anonymization: {warning}", warning=warning)
        try:
            await deidentifier.start()
        except (VaultError, NotDeidentifiable) as error:
            self.log.error("nothing is de-identified, and nothing stored that is to be: {reason}", reason=str(error))
        if self.running:
            self._loop.start(self._interval_s, now=False)

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look_again())

    async def _look_again(self) -> None:
        """Try the vault again when it could not be used, so that its return shows before the next object does."""
        if self._deidentifier is not None and not self._deidentifier.has_vault:
            with suppress(VaultError, NotDeidentifiable):  # which is told already
                await self._deidentifier.start()

    async def _stop(self) -> None:
        if self._loop.running:
            self._loop.stop()
        if self._deidentifier is not None:
            await self._deidentifier.stop()
