"""
`pacsctl token`: API tokens, made and revoked through the running server, or in the index when none runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from pacs.archive.index.database import connect_writer, migrate
from pacs.archive.index.tokens import Execute, all_tokens, delete_token, insert_token
from pacs.assembly.archive import archive_settings
from pacs.command import Call
from pacs.control.client import CommandFailed, NoServer, command_server
from pacs.control.lock import RootPathLock, RootPathLocked
from pacs.security.access import Role
from pacs.security.tokens import check_name, make_token, parse_expiry


@click.group("token")
def command() -> None:
    """Make, list and revoke API tokens."""


@command.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it may do.")
@click.option("--expires-at", help="ISO 8601; without it the token does not expire.")
def create(name: str, role: str, expires_at: str | None, config: Path | None, wants_json: bool) -> None:
    """Make a token and print it, this once."""
    call = Call(config, wants_json)
    try:
        check_name(name)
        expiry = parse_expiry(expires_at, time.time())
    except ValueError as error:
        call.fail(f"token create: {error}")

    def offline(execute: Execute) -> dict[str, Any]:
        token, secret = make_token(name, Role(role), now_s=time.time(), expires_at=expiry)
        insert_token(execute, token)
        return {**token.shown(), "token": secret}

    result = _run(call, "token-create", {"name": name, "role": role, "expires_at": expires_at}, offline)
    call.tell(str(result["token"]), **result)


@command.command("list")
def list_tokens(config: Path | None, wants_json: bool) -> None:
    """List the tokens, without their secrets."""
    call = Call(config, wants_json)
    result = _run(call, "token-list", {}, lambda execute: {"tokens": [token.shown() for token in all_tokens(execute)]})
    lines = [
        f"{token['id']}  {token['role']:<13}  {token['name']}"
        + (f"  expires {token['expires_at']}" if token["expires_at"] else "")
        for token in result["tokens"]
    ]
    call.tell("\n".join(lines) or "no tokens", **result)


@command.command("revoke")
@click.argument("token_id")
def revoke(token_id: str, config: Path | None, wants_json: bool) -> None:
    """Revoke a token by its id."""
    call = Call(config, wants_json)
    result = _run(call, "token-revoke", {"id": token_id}, lambda execute: {"revoked": delete_token(execute, token_id)})
    if not result["revoked"]:
        call.fail(f"token revoke: there is no token {token_id}")
    call.tell(f"token {token_id} is revoked", id=token_id)


def _run(
    call: Call, name: str, arguments: dict[str, Any], offline: Callable[[Execute], dict[str, Any]]
) -> dict[str, Any]:
    """Have the server do it, or do it in the index."""
    settings = archive_settings(call.configuration())
    try:
        try:
            return command_server(settings.root_path, name, arguments, lambda _: None)
        except NoServer:
            return _offline(settings.root_path, settings.index_path, offline)
    except (CommandFailed, RootPathLocked, OSError) as error:
        call.fail(f"{name.replace('-', ' ')}: {error}")


def _offline(root_path: Path, index_path: Path, function: Callable[[Execute], dict[str, Any]]) -> dict[str, Any]:
    lock = RootPathLock(root_path)
    lock.acquire()
    try:
        index_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        migrate(index_path)
        with closing(connect_writer(index_path)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            return function(lambda text, parameters: connection.execute(text, parameters).fetchall())
    finally:
        lock.release()
