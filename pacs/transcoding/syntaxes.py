"""
Which transfer syntaxes can be made of which: every encoding that is read gives every uncompressed one.
"""

from __future__ import annotations

from typing import Final

from pacs.dataset.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
PAPYRUS_IMPLICIT: Final = "1.2.840.10008.1.20"
GE_PRIVATE: Final = "1.2.840.113619.5.2"
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1: Final = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS: Final = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS: Final = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS: Final = "1.2.840.10008.1.2.4.90"
JPEG_2000: Final = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS: Final = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL: Final = "1.2.840.10008.1.2.4.202"
HTJ2K: Final = "1.2.840.10008.1.2.4.203"
RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"

TARGETS: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
"""In the order of preference: what keeps the VRs first, what few read last."""

COMPRESSED: Final = frozenset(
    (
        JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS_LOSSLESS, JPEG_LS_NEAR_LOSSLESS,
        JPEG_2000_LOSSLESS, JPEG_2000, HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, HTJ2K, RLE_LOSSLESS,
    )
)  # fmt: skip
"""Transfer syntaxes whose frames are decoded."""

SOURCES: Final = frozenset((*TARGETS, *COMPRESSED, ENCAPSULATED_UNCOMPRESSED, PAPYRUS_IMPLICIT, GE_PRIVATE))


def targets(source_ts: str) -> tuple[str, ...]:
    """Give what can be made of a transfer syntax, the best first, without itself; nothing when it can't be read."""
    return tuple(uid for uid in TARGETS if uid != source_ts) if source_ts in SOURCES else ()
