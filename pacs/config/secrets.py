"""
Secrets of a configuration: who can read the files that hold them, and which stand in the configuration itself
(RELIABILITY P3, P4).

TLS looks at its own keys when it reads them, and again on SIGHUP; they are left out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from pacs.config.model import Configuration
from pacs.security.policy import Place, dotted
from pacs.security.secret_files import mode_fault, mode_warning

READ_BY_TLS: Final[tuple[Place, ...]] = (("server", "tls"), ("rest_api", "tls"))
HASHES: Final = ("password_hash",)
"""Secrets that may stand in the configuration, where `pacsctl user` puts them; guessing is slow."""


class SecretsLook:
    """
    What is wrong with the secrets of a configuration.

    Args:
        configuration: whose files may be there or not; a missing one is the business of who needs it.
        source: its file, or None.
        is_by_value: whether the value of a key stands in the file itself.

    Attributes:
        faults: with their keys.
        warnings: for the log.
    """

    def __init__(self, configuration: Configuration, source: Path | None, is_by_value: Callable[[Place], bool]) -> None:
        self.faults: list[tuple[Place, str]] = []
        self.warnings: list[str] = []
        self._source = source
        self._is_by_value = is_by_value
        for place, value in _leaves(configuration, ()):
            if isinstance(value, SecretStr):
                self._look_at_value(place)
            elif isinstance(value, str) and _names_secret_file(place):
                self.look_at_file(place, Path(value))

    def look_at_file(self, place: Place, path: Path) -> None:
        """Look at a file that holds a secret."""
        try:
            mode = path.stat().st_mode
        except OSError:
            return
        fault, warning = mode_fault(path, mode), mode_warning(path, mode)
        if fault:
            self.faults.append((place, fault))
        elif warning:
            self.warnings.append(f"{dotted(place)}: {warning}")

    def _look_at_value(self, place: Place) -> None:
        if self._source is None or not self._is_by_value(place):
            return
        if place[-1] not in HASHES:
            self.warnings.append(f"{dotted(place)} stands in the configuration; put it into a file: {place[-1]}_file")
            self.look_at_file(place, self._source)
        elif fault := mode_fault(self._source, self._source.stat().st_mode):
            warning = f"{dotted(place[:-2])} has password hashes: {fault}"
            if warning not in self.warnings:
                self.warnings.append(warning)


def _names_secret_file(place: Place) -> bool:
    name = str(place[-1])
    return (name.endswith("_file") or name == "private_key") and place[:-1] not in READ_BY_TLS


def _leaves(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Give every value of a configuration with its key."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name), (*place, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, index))
    else:
        yield place, value
