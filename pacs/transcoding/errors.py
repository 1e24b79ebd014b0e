"""
The failure of giving a data set in another transfer syntax.
"""

from __future__ import annotations


class TranscodingError(Exception):
    """The data set can't be given in the transfer syntax; the text is short, without patient data, for a peer."""
