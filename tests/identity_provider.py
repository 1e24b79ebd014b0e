"""
A real OpenID provider for tests: Authlib's authorization server on Flask, with metadata, keys and a token endpoint.

Its clients get tokens by the client credentials grant (RFC 6749 4.4), in the form of RFC 9068.
"""

from __future__ import annotations

import json
import threading
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from flask import Flask, Response, jsonify
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import make_server

AUDIENCE = "pacs"
SECRET = "provider-secret"


@dataclass
class Caller(ClientMixin):  # type: ignore[misc]
    """One who may ask for tokens, and the roles that are put into them."""

    client_id: str
    roles: list[str] = field(default_factory=list)

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return ""

    def get_allowed_scope(self, scope: str) -> str:
        return ""

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return True

    def check_response_type(self, response_type: str) -> bool:
        return False

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class IdentityProvider:
    """
    The provider.

    Attributes:
        issuer: its URL.
        key_requests: how often the keys were asked for.
        expires_in: of the tokens, in seconds.
    """

    def __init__(self, *callers: Caller) -> None:
        self.callers = {caller.client_id: caller for caller in callers}
        self.key_requests = 0
        self.expires_in = 300
        self.audience = AUDIENCE
        self.keys: list[Any] = []
        self.rotate()
        self._app = Flask("provider")
        self._app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": 300}
        self.server = make_server("127.0.0.1", 0, self._app, threaded=True)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}/realm"
        self._add_routes(AuthorizationServer(self._app, self.callers.get, lambda token, request: None))

    def rotate(self) -> None:
        """Sign with a new key; the old ones are forgotten."""
        self.keys = [RSAKey.generate_key(2048, auto_kid=True)]

    def token(self, caller: str) -> str:
        """Get a token as a program would."""
        request = urllib.request.Request(f"{self.issuer}/token", method="POST")
        request.add_header("Authorization", "Basic " + b64encode(f"{caller}:{SECRET}".encode()).decode())
        body = urllib.parse.urlencode({"grant_type": "client_credentials"}).encode()
        with urllib.request.urlopen(request, data=body, timeout=30) as answer:
            return str(json.load(answer)["access_token"])

    def _add_routes(self, authorization: AuthorizationServer) -> None:
        provider = self

        class Generator(JWTBearerTokenGenerator):  # type: ignore[misc]
            def get_jwks(self) -> dict[str, Any]:
                return dict(KeySet(provider.keys).as_dict(private=True))

            def get_audiences(self, client: Caller, user: object, scope: str) -> list[str]:
                return [provider.audience]

            def get_extra_claims(self, client: Caller, grant_type: str, user: object, scope: str) -> dict[str, Any]:
                return {"realm_access": {"roles": client.roles}, "preferred_username": client.client_id}

            def _get_expires_in(self, client: Caller, grant_type: str) -> int:
                return provider.expires_in

        authorization.register_grant(grants.ClientCredentialsGrant)
        authorization.register_token_generator("client_credentials", Generator(issuer=self.issuer))

        @self._app.get("/realm/.well-known/openid-configuration")
        def metadata() -> Response:
            return jsonify(issuer=self.issuer, jwks_uri=f"{self.issuer}/jwks", token_endpoint=f"{self.issuer}/token")

        @self._app.get("/realm/jwks")
        def jwks() -> Response:
            self.key_requests += 1
            return jsonify(KeySet(self.keys).as_dict(private=False))

        @self._app.post("/realm/token")
        def token() -> Any:
            return authorization.create_token_response()


@contextmanager
def running(*callers: Caller) -> Iterator[IdentityProvider]:
    """Run a provider."""
    provider = IdentityProvider(*callers)
    thread = threading.Thread(target=provider.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        thread.join()
        provider.server.server_close()
