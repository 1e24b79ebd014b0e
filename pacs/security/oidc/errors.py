"""
What goes wrong with tokens of the identity provider.
"""

from __future__ import annotations


class BadToken(Exception):
    """A token is not accepted; the text says why, and nothing of what stands in it."""


class KeysUnavailable(Exception):
    """The provider's keys can't be had at present."""


class FetchFailed(Exception):
    """A document of the provider could not be had; the text says why."""
