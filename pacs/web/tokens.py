"""
The tokens of a running server: all are in memory, so that a request costs no look into the index; changes are durable
before they are answered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from pacs.archive.archive import Archive
from pacs.archive.index.tokens import all_tokens, delete_token, insert_token, note_use
from pacs.events import EventBus, TokenChanged
from pacs.security.access import Role
from pacs.security.tokens import Token, make_token, token_id_of

ADMIN_TOKEN: Final = "admin.token"
FIRST_NAME: Final = "first administrator"
BY_ITSELF: Final = "productionpacs"
USE_NOTED_EVERY_S: Final = 60.0


class TokenRegistry:
    """
    Knows all tokens.

    Args:
        bus: told who makes and revokes tokens.
        now_s: seconds since 1970.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, *, archive: Archive, bus: EventBus, root_path: Path, now_s: Callable[[], float]) -> None:
        self._archive = archive
        self._bus = bus
        self._path = root_path / ADMIN_TOKEN
        self._now_s = now_s
        self._tokens: dict[str, Token] = {}
        self._used: dict[str, float] = {}

    async def start(self) -> None:
        """Read the tokens; make the first one when there is none."""
        tokens = await self._archive.run(lambda connection: all_tokens(connection.execute))
        self._tokens = {token.id: token for token in tokens}
        if not self._tokens:
            token, secret = await self.create(FIRST_NAME, Role.ADMINISTRATOR, by=BY_ITSELF)
            await deferToThread(_write_in_thread, self._path, secret)
            self.log.info(
                "the first administrator's token {token_id} is in {path}", token_id=token.id, path=str(self._path)
            )

    def find(self, secret: str) -> Token | None:
        """Give the token whose secret this is, if it may be used."""
        token_id = token_id_of(secret)
        token = self._tokens.get(token_id) if token_id is not None else None
        if token is None or not token.matches(secret, self._now_s()):
            return None
        return token if self.may_use(token) else None

    def may_use(self, token: Token) -> bool:
        """Whether a token that was found may be used once more; that it is used is noted."""
        now_s = self._now_s()
        if self._tokens.get(token.id) is not token or token.has_expired(now_s):
            return False
        if now_s - self._used.get(token.id, 0.0) > USE_NOTED_EVERY_S:
            self._note_use(token, now_s)
        return True

    def is_valid(self, token: Token) -> bool:
        """Whether a token that was found may still be used."""
        return token.id in self._tokens and not token.has_expired(self._now_s())

    async def all(self) -> list[Token]:
        """Give all tokens, oldest first."""
        return await self._archive.run(lambda connection: all_tokens(connection.execute))

    async def create(
        self, name: str, role: Role, expires_at: int | None = None, *, by: str, peer_address: str = ""
    ) -> tuple[Token, str]:
        """Make a token; give its record and the token itself."""
        token, secret = make_token(name, role, now_s=self._now_s(), expires_at=expires_at)
        await self._archive.change(lambda writer: insert_token(writer.execute, token))
        self._tokens[token.id] = token
        self._changed(token.id, f"made, {role.value}", by, peer_address)
        return token, secret

    async def revoke(self, token_id: str, *, by: str, peer_address: str = "") -> bool:
        """Have a token no longer accepted, from now on; give whether there was one."""
        self._tokens.pop(token_id, None)
        is_gone = await self._archive.change(lambda writer: delete_token(writer.execute, token_id))
        if is_gone:
            self._changed(token_id, "revoked", by, peer_address)
        return is_gone

    # -- within

    def _changed(self, token_id: str, change: str, by: str, peer_address: str) -> None:
        self._bus.publish(TokenChanged(token_id=token_id, change=change, user=by, peer_address=peer_address))

    def _note_use(self, token: Token, now_s: float) -> None:
        self._used[token.id] = now_s
        noted: Any = self._archive.write_index(lambda writer: note_use(writer.execute, token.id, int(now_s)))
        noted.addErrback(lambda failure: self.log.failure("the use of a token could not be noted", failure))


def _write_in_thread(path: Path, secret: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(descriptor)
