"""
The vault: the site key, and one random secret for each patient, in a database of its own with mode 0600.

It is made once, together with the archive's note of its fingerprint. A vault that is missing, unreadable or another
one's afterwards is an error, and never replaced: pseudonyms would silently change.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pacs.deidentification.errors import VaultError
from pacs.deidentification.keys import KEY_BYTES, derive_key, keyed_hash
from pacs.deidentification.pseudonyms import Identity, PatientPseudonyms, UIDMap, pseudonym_of

MODE: Final = 0o600
BUSY_TIMEOUT_S: Final = 10.0
CACHED_PATIENTS: Final = 4096
FINGERPRINT_FILE: Final = "vault.fingerprint"

_NONCE_BYTES: Final = 12
_OPENED_AT_ONCE: Final = 1000
_SCHEMA: Final = """
CREATE TABLE site (only INTEGER PRIMARY KEY CHECK (only = 1), version INTEGER NOT NULL, key BLOB NOT NULL);
CREATE TABLE patient (
    identity BLOB PRIMARY KEY, secret BLOB NOT NULL, pseudonym TEXT NOT NULL UNIQUE, sealed BLOB NOT NULL,
    made_at INTEGER NOT NULL
) WITHOUT ROWID;
"""
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class KnownPatient:
    """A row of the vault without its secrets: the pseudonym and when it was made, seconds since 1970."""

    pseudonym: str
    made_at: int


class Vault:
    """
    An open vault; one for each process and thread that uses it.

    Attributes:
        name_key: for names of files, which may tell of patients.

    Raises:
        VaultError: from every method, when it can't be read or written.
    """

    def __init__(self, path: Path, *, fingerprint_path: Path) -> None:
        """
        Open it, or make it where neither it nor a note of its fingerprint is.

        Args:
            fingerprint_path: of the archive's note; written when the vault is used for the first time.
        """
        self._path = path
        self._patients: dict[bytes, PatientPseudonyms] = {}
        self._data_version = 0
        if not _exists(path):
            if _exists(fingerprint_path):
                raise VaultError("the vault is missing; give its path or restore it, no new one is made")
            _make(path)
        try:
            self._file = _file_of(path)
            self._connection = sqlite3.connect(
                f"file:{path}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")
            row = self._connection.execute("SELECT version, key FROM site").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise VaultError("the vault can't be read") from error
        if row is None or row[0] != _VERSION or not isinstance(row[1], bytes) or len(row[1]) != KEY_BYTES:
            self._connection.close()
            raise VaultError("the vault has no usable key")
        self._patient_key = derive_key(row[1], b"patient")
        self.uid_map: Final = UIDMap(derive_key(row[1], b"uid"))
        self.name_key: Final = derive_key(row[1], b"name")
        self.fingerprint: Final = derive_key(row[1], b"fingerprint").hex()
        try:
            _check_fingerprint(fingerprint_path, self.fingerprint)
        except VaultError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def pseudonyms(self, identity: Identity) -> PatientPseudonyms:
        """Give a patient's pseudonyms; a patient seen for the first time gets a secret, in one transaction."""
        key = keyed_hash(self._patient_key, identity.encoded())
        with _faults():
            if _file_of(self._path) != self._file:  # what SQLite has open is the vault no longer
                raise VaultError("the vault's file is another one now")
            (data_version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if data_version != self._data_version:  # somebody else wrote: maybe a patient was forgotten
                self._patients.clear()
                self._data_version = data_version
            found = self._patients.get(key)
            if found is None:
                found = PatientPseudonyms(self._secret(key, identity))
                if len(self._patients) >= CACHED_PATIENTS:
                    self._patients.clear()
                self._patients[key] = found
        return found

    def find_all(self, patient_id: str, issuer: str) -> list[KnownPatient]:
        """
        Look for a Patient ID and its issuer, whatever qualifies the issuer: each is a patient of its own.

        Identities are sealed, so all are opened, some at a time: whoever wants to write waits for a moment at most.
        """
        wanted = (patient_id.strip("\0 "), issuer.strip("\0 "))
        query = (
            "SELECT identity, secret, pseudonym, sealed, made_at FROM patient WHERE identity > ?"
            f" ORDER BY identity LIMIT {_OPENED_AT_ONCE}"
        )
        found: list[KnownPatient] = []
        last = b""
        while True:
            with _faults():
                rows = self._connection.execute(query, (last,)).fetchall()
            for _, secret, pseudonym, sealed, made_at in rows:
                if _opened(secret, sealed, pseudonym).parts[:2] == wanted:
                    found.append(KnownPatient(pseudonym, made_at))
            if len(rows) < _OPENED_AT_ONCE:
                return found
            last = rows[-1][0]

    def find_pseudonym(self, pseudonym: str) -> KnownPatient | None:
        """Look for a pseudonym."""
        return self._known("pseudonym = ?", pseudonym)

    def reidentify(self, pseudonym: str) -> Identity | None:
        """Give who stands behind a pseudonym, or None: it was never made, or was forgotten."""
        with _faults():
            row = self._connection.execute(
                "SELECT secret, sealed FROM patient WHERE pseudonym = ?", (pseudonym,)
            ).fetchone()
        if row is None:
            return None
        secret, sealed = row
        return _opened(secret, sealed, pseudonym)

    def forget(self, pseudonym: str) -> bool:
        """Destroy a patient's secret and sealed identity; False: there is none."""
        with _faults():
            deleted = self._connection.execute("DELETE FROM patient WHERE pseudonym = ?", (pseudonym,)).rowcount
        self._patients.clear()
        return deleted == 1

    def _known(self, where: str, value: bytes | str) -> KnownPatient | None:
        with _faults():
            row = self._connection.execute(f"SELECT pseudonym, made_at FROM patient WHERE {where}", (value,)).fetchone()
        return None if row is None else KnownPatient(*row)

    def _secret(self, key: bytes, identity: Identity) -> bytes:
        connection = self._connection
        query = "SELECT secret FROM patient WHERE identity = ?"
        row = connection.execute(query, (key,)).fetchone()
        while row is None:
            secret = secrets.token_bytes(KEY_BYTES)
            pseudonym = pseudonym_of(secret)
            nonce = secrets.token_bytes(_NONCE_BYTES)
            plain = json.dumps(identity.parts).encode()
            sealed = nonce + _cipher(secret).encrypt(nonce, plain, pseudonym.encode())
            connection.execute(  # another process may be first, or the pseudonym may be taken: then once more
                "INSERT OR IGNORE INTO patient VALUES (?, ?, ?, ?, ?)",
                (key, secret, pseudonym, sealed, int(time.time())),
            )
            row = connection.execute(query, (key,)).fetchone()
        found: bytes = row[0]
        return found


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise VaultError("the vault is missing; restore it") from error
    except (sqlite3.Error, OSError) as error:
        raise VaultError("the vault can't be used") from error


def _file_of(path: Path) -> tuple[int, int]:
    """Tell which file has a name."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _cipher(secret: bytes) -> AESGCM:
    return AESGCM(derive_key(secret, b"seal"))


def _opened(secret: bytes, sealed: bytes, pseudonym: str) -> Identity:
    try:
        opened = _cipher(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], pseudonym.encode())
    except InvalidTag:
        raise VaultError("a sealed identity was changed") from None
    return Identity(tuple(json.loads(opened)))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # whoever may not look into a directory does not know
        raise VaultError(f"the vault can't be looked for: {error.strerror}") from error


def _make(path: Path) -> None:
    """Make a vault beside its place and move it there, so that it is whole or absent; the first of two stays."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, MODE))
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.executescript(_SCHEMA)
            connection.execute("INSERT INTO site VALUES (1, ?, ?)", (_VERSION, secrets.token_bytes(KEY_BYTES)))
        finally:
            connection.close()
        _synchronize(temporary)
        with suppress(FileExistsError):
            os.link(temporary, path)
        _synchronize(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise VaultError("the vault can't be made") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _synchronize(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_fingerprint(path: Path, fingerprint: str) -> None:
    """Compare with the archive's note; the first vault that an archive uses is its own from then on."""
    try:
        if path.exists():
            if path.read_text().strip() != fingerprint:
                raise VaultError("the vault is another archive's: its fingerprint differs")
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        temporary.write_text(fingerprint + "\n")
        temporary.chmod(MODE)
        _synchronize(temporary)
        temporary.rename(path)
        _synchronize(path.parent)
    except OSError as error:
        raise VaultError("the vault's fingerprint can't be read or written") from error
