"""
Tokens of an OpenID provider, over HTTP and as user identity of an association, against Authlib's server.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pacs.ul import UserIdentity
from tests.audit import wait_for_record
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, Rejected, ct_data_set
from tests.http import HTTP, fetch
from tests.identity_provider import AUDIENCE, Caller, IdentityProvider, running
from tests.server import Server, merged

pytestmark = pytest.mark.filterwarnings("ignore::authlib.deprecate.AuthlibDeprecationWarning")
CT = (CT_IMAGE_STORAGE, EXPLICIT)


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running(
        Caller("chief", ["offline_access", "administrator", "viewer"]),
        Caller("reader", ["viewer"]),
        Caller("scanner", ["technologist"]),
        Caller("stranger", ["gardener"]),
    ) as provider:
        yield provider


@pytest.fixture(scope="module")
def server(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that trusts the provider."""
    oidc = {"issuer": provider.issuer, "audience": AUDIENCE, "roles_claim": "realm_access.roles"}
    security = {"access_control": {"default_role": "viewer", "passcodes_in_clear": True, "grants": []}}
    configuration = merged(HTTP, {"rest_api": {"authentication": {"oidc": oidc}}, "security": security})
    server = Server(tmp_path_factory.mktemp("oidc"), configuration)
    server.start()
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("caller", "path", "status"),
    [
        ("chief", "/api/v1/tokens", 200),
        ("reader", "/api/v1/studies", 200),
        ("reader", "/api/v1/tokens", 403),
        ("stranger", "/api/v1/studies", 403),
    ],
)
def test_the_role_in_a_token_decides(
    server: Server, provider: IdentityProvider, caller: str, path: str, status: int
) -> None:
    assert fetch(server, path, token=provider.token(caller)).status == status


def test_a_token_for_somebody_else_and_one_that_has_expired_are_refused(
    server: Server, provider: IdentityProvider
) -> None:
    provider.audience = "another service"
    stolen = provider.token("chief")
    provider.audience, provider.expires_in = AUDIENCE, -60
    old = provider.token("chief")
    provider.expires_in = 300
    for token, claim in ((stolen, "aud"), (old, "expired")):
        reply = fetch(server, "/api/v1/tokens", token=token)
        assert (reply.status, reply.error) == (401, "UNAUTHENTICATED")
        assert claim in reply.json["error"]["message"]
        assert token not in server.log()
    wait_for_record(server, "HTTP JSON Web Token")


def test_a_modality_identifies_itself_by_a_token(server: Server, provider: IdentityProvider) -> None:
    uid = "1.2.840.99.1"
    token = UserIdentity(type=5, is_response_requested=True, primary_field=provider.token("scanner").encode())
    with Client(server.port, CT, calling="ANY_CT", user_identity=token) as client:
        assert client.store(ct_data_set(uid), uid).status == 0
    (record,) = wait_for_record(server, "DICOM JSON Web Token")
    assert 'UserID="scanner"' in record["message"]
    assert record["outcome"] == "0"
    viewer = UserIdentity(type=5, is_response_requested=False, primary_field=provider.token("reader").encode())
    with Client(server.port, CT, calling="ANY_CT", user_identity=viewer) as client:
        assert client.store(ct_data_set(uid + ".1"), uid + ".1").status == 0x0124
    broken = UserIdentity(type=5, is_response_requested=False, primary_field=provider.token("scanner").encode()[:-8])
    with pytest.raises(Rejected):
        Client(server.port, CT, calling="ANY_CT", user_identity=broken)
    server.wait_for_log("the token's signature is wrong")
