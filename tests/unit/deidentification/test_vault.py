"""
The vault: the same patient for years, two patients never one, and nothing silently anew.
"""

from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.deidentification.errors import VaultError
from pacs.deidentification.keys import derive_key
from pacs.deidentification.pseudonyms import Identity
from pacs.deidentification.vault import Vault
from tests.deidentification import make_vault

ERIKA = Identity(("PAT-4711", "HOSPITAL"))


def test_a_patient_has_the_same_pseudonyms_after_a_restart(tmp_path: Path) -> None:
    first = make_vault(tmp_path)
    before = first.pseudonyms(ERIKA)
    first.close()
    after = make_vault(tmp_path).pseudonyms(ERIKA)
    assert (after.pseudonym, after.shift_days) == (before.pseudonym, before.shift_days)
    assert after.number(0x00080050, b"A1") == before.number(0x00080050, b"A1")
    assert 1 <= after.shift_days <= 3650


def test_the_vault_is_its_owners_alone(tmp_path: Path) -> None:
    make_vault(tmp_path)
    assert stat.S_IMODE((tmp_path / "vault.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "vault.fingerprint").stat().st_mode) == 0o600


@given(
    st.lists(st.text(max_size=6), min_size=1, max_size=4),
    st.lists(st.text(max_size=6), min_size=1, max_size=4),
)
def test_different_identities_are_different_bytes(one: list[str], other: list[str]) -> None:
    assert (one == other) == (Identity(tuple(one)).encoded() == Identity(tuple(other)).encoded())


def test_a_missing_vault_is_not_made_anew(tmp_path: Path) -> None:
    make_vault(tmp_path).close()
    (tmp_path / "vault.db").unlink()
    with pytest.raises(VaultError, match="missing"):
        make_vault(tmp_path)
    assert not (tmp_path / "vault.db").exists()


def test_a_vault_whose_directory_can_not_be_used_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(VaultError, match="made"):
        Vault(tmp_path / "file" / "vault.db", fingerprint_path=tmp_path / "vault.fingerprint")

    def refused(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(VaultError, match="Permission denied"):
        make_vault(tmp_path)


def test_another_archives_vault_is_refused(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        make_vault(tmp_path / name).close()
    (tmp_path / "theirs" / "vault.db").rename(tmp_path / "ours" / "vault.db")
    with pytest.raises(VaultError, match="another"):
        make_vault(tmp_path / "ours")


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0" + bytes(100)])
def test_an_unreadable_vault_is_an_error(tmp_path: Path, content: bytes) -> None:
    make_vault(tmp_path).close()
    (tmp_path / "vault.db").write_bytes(content)
    with pytest.raises(VaultError):
        make_vault(tmp_path)


def test_what_is_forgotten_has_no_way_back(tmp_path: Path) -> None:
    vault, other = make_vault(tmp_path), make_vault(tmp_path)
    pseudonym = vault.pseudonyms(ERIKA).pseudonym
    assert other.pseudonyms(ERIKA).pseudonym == pseudonym
    assert vault.reidentify(pseudonym) == ERIKA
    assert vault.forget(pseudonym)
    assert vault.reidentify(pseudonym) is None
    assert not vault.forget(pseudonym)
    assert other.pseudonyms(ERIKA).pseudonym != pseudonym, "another process goes on with what it has in memory"


def test_a_patient_is_found_whatever_qualifies_the_issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacs.deidentification.vault._OPENED_AT_ONCE", 2)
    vault = make_vault(tmp_path)
    plain = vault.pseudonyms(ERIKA).pseudonym
    qualified = vault.pseudonyms(Identity((*ERIKA.parts, "1.2.3", "ISO"))).pseudonym
    for parts in (("PAT-4711", ""), ("PAT-471", "1HOSPITAL"), ("PAT-4711",), ("PAT-4712", "HOSPITAL")):
        vault.pseudonyms(Identity(parts))
    assert {patient.pseudonym for patient in vault.find_all("PAT-4711 ", "HOSPITAL")} == {plain, qualified}
    assert vault.find_all("PAT-4711", "CLINIC") == []


def test_a_forgotten_secret_is_overwritten(tmp_path: Path) -> None:
    vault = make_vault(tmp_path)
    pseudonym = vault.pseudonyms(ERIKA).pseudonym
    secret = sqlite3.connect(tmp_path / "vault.db").execute("SELECT secret FROM patient").fetchone()[0]
    assert secret in (tmp_path / "vault.db").read_bytes()
    vault.forget(pseudonym)
    assert secret not in (tmp_path / "vault.db").read_bytes()


def test_many_who_see_a_patient_first_agree(tmp_path: Path) -> None:
    vaults = [make_vault(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda vault: vault.pseudonyms(ERIKA).pseudonym, vaults))
    assert len(seen) == 1


def test_identities_are_sealed(tmp_path: Path) -> None:
    make_vault(tmp_path).pseudonyms(ERIKA)
    content = (tmp_path / "vault.db").read_bytes()
    assert b"4711" not in content
    assert b"HOSPITAL" not in content


def test_keys_are_derived_as_rfc_5869_says() -> None:
    """Against the library's own HKDF."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    expected = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"patient").derive(b"s" * 32)
    assert derive_key(b"s" * 32, b"patient") == expected
