"""
The twistd plugin's options and maker.

What is wrong with the configuration is said on standard error, a line each, before anything starts.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar, NoReturn, cast

import yaml
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from pacs.assembly.region_rules import check_region_rules
from pacs.config import ConfigurationError, Loaded, is_there, load_configuration
from pacs.version import __version__


class Options(usage.Options):
    """The options of `twistd productionpacs`."""

    synopsis = "[options]"
    longdesc = "A DICOM archive: stores, finds and serves images."

    optParameters: ClassVar[list[list[Any]]] = [["config", "c", None, "Configuration file (YAML)."]]
    optFlags: ClassVar[list[list[Any]]] = [
        ["require-config", None, "Do not start on the built-in defaults."],
        ["check", None, "Check the configuration, print what is in effect, and exit."],
    ]

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"productionpacs {__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        import os

        path = Path(self["config"]) if self["config"] else None
        if self["require-config"] and (path is None or not is_there(path)):
            _refuse(f"{path}: no such file" if path is not None else "--require-config needs --config FILE")
        try:
            loaded = load_configuration(path, os.environ)
            check_region_rules(loaded)
        except ConfigurationError as error:
            _refuse(str(error))
        if self["check"]:
            print(yaml.safe_dump(loaded.configuration.masked(), sort_keys=False), end="")
            raise SystemExit(0)
        self["loaded"] = loaded


def _refuse(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(1)


def log_warnings(loaded: Loaded, path: str | None) -> None:
    """Log what an operator may not have meant."""
    log = Logger()
    if loaded.source is None:
        log.warn(
            "{why}: the server runs on the built-in defaults; give --config FILE",
            why=f"{path} does not exist" if path else "no --config",
        )
    for warning in loaded.warnings:
        log.warn("{warning}", warning=warning)


def makeService(options: Options) -> IService:
    """Build the server."""
    from twisted.internet import reactor

    from pacs.application import make_service
    from pacs.events import EventBus
    from pacs.security.tls import TLSFault

    loaded: Loaded = options["loaded"]
    bus = EventBus(reactor=cast(Any, reactor))
    log_warnings(loaded, options["config"])
    try:
        return make_service(loaded.configuration, bus=bus, reactor=reactor)
    except TLSFault as fault:
        place = loaded.place((*fault.section, fault.key))
        _refuse(f"{place}: {'.'.join(fault.section)}.{fault.key}: {fault}")
