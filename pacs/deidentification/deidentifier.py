"""
De-identification off the reactor: by worker processes of `pacs.deidentification.worker`, for the senders it applies to.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from pacs.dataset.file import DataSetFile
from pacs.deidentification.errors import NotDeidentifiable, VaultError
from pacs.deidentification.settings import EngineSettings, Released
from pacs.workers.errors import WorkerFailed
from pacs.workers.pool import WorkerPool
from pacs.workers.process import WorkerProcess


class Deidentifier:
    """
    De-identifies what arrives from some AE titles.

    Args:
        ae_titles: wildcards * and ?.
        workers: processes at most.
        seconds: for one object.
        vault_looked_at: told each time why the vault can't be used, or "" when it can.

    Attributes:
        has_vault: it could be used when it was needed last.
    """

    def __init__(
        self,
        *,
        settings: EngineSettings,
        ae_titles: tuple[str, ...],
        workers: int,
        seconds: float,
        vault_looked_at: Callable[[str], None],
        reactor: Any,
    ) -> None:
        self.settings = settings
        self._ae_titles = ae_titles
        self._seconds = seconds
        self._vault_looked_at = vault_looked_at
        self.has_vault = False
        self._reactor = reactor
        self._pool = WorkerPool(start=self._start_worker, limit=workers, reactor=reactor)

    @property
    def profile(self) -> str:
        """The profile's name in the configuration."""
        return self.settings.policy.profile.value

    def applies_to(self, ae_title: str) -> bool:
        """Whether what this sender sends is de-identified."""
        return any(fnmatchcase(ae_title, pattern) for pattern in self._ae_titles)

    async def start(self) -> None:
        """
        Start a worker, which opens the vault, or makes it at the very first start.

        Raises:
            VaultError: it can't; nothing will be de-identified, nothing stored of whoever it applies to.
        """
        try:
            async with self._pool.worker() as worker:
                await self._open_vault(worker)
        except WorkerFailed as error:
            self._note_vault(str(error))
            raise NotDeidentifiable("process", str(error)) from error

    async def deidentify(self, data_set: DataSetFile) -> Released:
        """
        Give an object de-identified and verified; the caller closes its file.

        Raises:
            NotDeidentifiable: it is not released; the text has no patient data.
            VaultError: the vault can't be used.
        """
        request = {"offset": data_set.offset, "length": data_set.length, "syntax": data_set.transfer_syntax_uid}
        try:
            async with self._pool.worker() as worker:
                await self._open_vault(worker)
                answer, descriptor = await worker.ask(request, data_set.descriptor)
                self._check_vault(worker, answer)
        except WorkerFailed as error:
            raise NotDeidentifiable("process", str(error)) from error
        _check(answer)
        return Released(**{**answer["released"], "descriptor": descriptor})

    async def stop(self) -> None:
        """End all workers, and wait until they are gone; whoever waits fails."""
        await self._pool.stop()

    async def _open_vault(self, worker: WorkerProcess) -> None:
        """Wait until a new worker has opened the vault; it says so first of all."""
        if not worker.has_answered:
            answer, _ = await worker.answer()
            self._check_vault(worker, answer)

    def _check_vault(self, worker: WorkerProcess, answer: dict[str, Any]) -> None:
        """Raise what an answer tells of the vault; the next worker opens it anew, and so finds what was put back."""
        fault = answer.get("vault", "")
        self._note_vault(fault)
        if fault:
            worker.kill(fault)
            raise VaultError(fault)

    def _note_vault(self, fault: str) -> None:
        self.has_vault = not fault
        self._vault_looked_at(fault)

    def _start_worker(self) -> WorkerProcess:
        return WorkerProcess(
            module="pacs.deidentification.worker",
            task="de-identification",
            settings=pickle.dumps(self.settings),
            seconds=self._seconds,
            reactor=self._reactor,
        )


def _check(answer: dict[str, Any]) -> None:
    """Raise what an answer tells of an object that is not released."""
    if "rule" in answer:
        raise NotDeidentifiable(answer["rule"], answer["reason"], answer["tag"])
