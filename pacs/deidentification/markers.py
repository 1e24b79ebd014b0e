"""
What the output says of itself: the method's code items (PS3.15 E.1.1, PS3.16 CID 7050).
"""

from __future__ import annotations

from functools import lru_cache

from pacs.deidentification.codec import ITEM, Encoding
from pacs.deidentification.profiles import Policy
from pacs.deidentification.tables import method_codes


def own_codes(policy: Policy, *, pixels_cleaned: bool) -> tuple[str, ...]:
    """Give the codes of what was done."""
    return policy.codes(pixels_cleaned=pixels_cleaned)


@lru_cache(maxsize=64)
def method_item(code: str, encoding: Encoding) -> bytes:
    """Give the item of one code."""
    body = (
        encoding.element(0x00080100, "SH", code.encode())
        + encoding.element(0x00080102, "SH", b"DCM")
        + encoding.element(0x00080104, "LO", method_codes()[code].encode())
    )
    return encoding.header(ITEM, "", len(body)) + body
