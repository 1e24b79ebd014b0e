"""OpenID Connect: tokens of an identity provider, its keys, and the role that a token gives."""
