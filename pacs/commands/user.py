"""
`pacsctl user`: the users of `security.access_control.users`, for user identity negotiation and HTTP Basic.

`add` changes no file: it prints the line for the configuration, so that what is in force stands in one place.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pacs.command import Call
from pacs.security.access import Role
from pacs.security.passwords import LONGEST_PASSWORD_BYTES, hash_password

SHORTEST_PASSWORD: int = 8


@click.group("user")
def command() -> None:
    """Make and list users."""


@command.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What the user may do.")
def add(name: str, role: str, config: Path | None, wants_json: bool) -> None:
    """Print the configuration's line for a user; the password comes from the terminal or standard input."""
    call = Call(config, wants_json)
    if not name or len(name) > 64 or not name.isprintable():
        call.fail("user add: a name has 1 to 64 printable characters")
    users = call.configuration().security.access_control.users if config is not None else ()
    if any(user.name == name for user in users):
        call.fail(f"user add: {name} is in the configuration already")
    password = _read_password(call)
    line = {"name": name, "role": role, "password_hash": hash_password(password)}
    text = ", ".join(f"{key}: {json.dumps(value)}" for key, value in line.items())
    call.tell(f"- {{{text}}}", **line)
    if not wants_json:
        click.echo("put the line under security.access_control.users, and restart the server", err=True)


@command.command("list")
def list_users(config: Path | None, wants_json: bool) -> None:
    """List the configured users and their roles."""
    call = Call(config, wants_json)
    users = [{"name": user.name, "role": user.role} for user in call.configuration().security.access_control.users]
    call.tell("\n".join(f"{user['name']}  {user['role']}" for user in users) or "no users", users=users)


def _read_password(call: Call) -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < SHORTEST_PASSWORD:
        call.fail(f"user add: a password has at least {SHORTEST_PASSWORD} characters")
    if len(password.encode()) > LONGEST_PASSWORD_BYTES:
        call.fail(f"user add: a password has at most {LONGEST_PASSWORD_BYTES} bytes")
    return password
