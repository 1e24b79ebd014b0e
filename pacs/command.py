"""
`pacsctl`, the operator's command line: the group, and what its commands share.
"""

from __future__ import annotations

import errno
import getpass
import json
import os
import sqlite3
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from pacs.config import Configuration, ConfigurationError, Loaded, is_there, load_configuration
from pacs.version import __version__

COMMANDS: Final = {
    "access": "access",
    "audit": "audit",
    "backup": "backup",
    "check-config": "check_config",
    "conformance": "conformance",
    "deidentify": "deidentify",
    "forget": "forget",
    "import": "importing",
    "reidentify": "reidentify",
    "reindex": "reindex",
    "restore": "backup",
    "token": "token",
    "user": "user",
    "verify": "verify",
    "worklist": "worklist",
}
"""The commands, each with its module in `pacs.commands`: its `command`, or `<name>_command` where it has several."""


@dataclass(frozen=True, slots=True)
class Call:
    """
    What a command is called with.

    Attributes:
        wants_json: print one JSON object instead of text.
    """

    config: Path | None
    wants_json: bool

    def configuration(self) -> Configuration:
        """Give the configuration in effect, or end with its faults."""
        return self.loaded().configuration

    def loaded(self) -> Loaded:
        """
        Give the configuration with the places of its keys, or end with its faults.

        A file that is not there is one: on the built-in defaults a command would work on another archive.
        """
        if self.config is not None and not is_there(self.config):
            self.fail(f"{self.config}: no such file")
        try:
            return load_configuration(self.config, os.environ)
        except ConfigurationError as error:
            self.fail(str(error))

    def tell(self, text: str, **values: Any) -> None:
        """Print a result."""
        click.echo(json.dumps(values) if self.wants_json else text)

    def fail(self, message: str) -> NoReturn:
        """End with status 1 and the reason on standard error."""
        click.echo(message, err=True)
        raise SystemExit(1)


def operator_name() -> str:
    """Give who works with the command, for the audit log: a name, or the number of a user who has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _common(command: click.Command) -> click.Command:
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _common(inner)
        return command
    if any(parameter.name == "config" for parameter in command.params):
        return command  # it was found before
    command.params += [
        click.Option(["--config", "-c"], type=click.Path(path_type=Path), help="The server's configuration file."),
        click.Option(["--json", "wants_json"], is_flag=True, help="Print JSON."),
    ]
    return command


class Commands(click.Group):
    """The commands by their modules; only the one that is called is imported: it takes a second to import them all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def invoke(self, ctx: click.Context) -> Any:
        """Run one; what it did not foresee becomes a fault of one line, too."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt as error:
            name = f"{ctx.invoked_subcommand}: " if ctx.invoked_subcommand else ""  # none while its module is imported
            raise click.ClickException(f"{name}interrupted") from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # who reads has seen enough: click ends quietly
            raise click.ClickException(f"{ctx.invoked_subcommand}: {_reason(error)}") from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = import_module(f"pacs.commands.{COMMANDS[cmd_name]}")
            return _common(getattr(module, f"{cmd_name}_command", None) or module.command)
        return None


def _reason(error: Exception) -> str:
    line = (str(error).splitlines() or [""])[0]
    says_enough = isinstance(error, (OSError, sqlite3.Error)) or type(error).__module__.startswith("pacs.")
    return line if says_enough and line else f"{type(error).__name__}: {line}"


@click.group(cls=Commands)
@click.version_option(__version__, prog_name="pacsctl")
def group() -> None:
    """Operate a Production PACS."""


def main() -> int:
    """
    Run `pacsctl`.

    Returns:
        the exit status: 0, or 1 after a line on standard error; click's own are 2 and several lines.
    """
    try:
        status = group(standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "pacsctl"
        message = error.format_message()
        is_help = message.startswith("Usage:")  # of a group that was called without a command
        name = path.removeprefix("pacsctl ")
        click.echo(message if is_help else f"{name}: {' '.join(message.split())} '{path} --help' tells more.", err=True)
    except click.ClickException as error:
        click.echo(error.format_message(), err=True)
    except click.Abort:
        click.echo("interrupted", err=True)
    else:
        return status if isinstance(status, int) else 0
    return 1
