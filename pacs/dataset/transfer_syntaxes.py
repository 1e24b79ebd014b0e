"""
The transfer syntaxes of PS3.5 and PS3.6 table A-1, retired ones included, and how each encodes a data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """
    A transfer syntax.

    Attributes:
        is_encapsulated: pixel data come as fragments (PS3.5 A.4).
        is_deflated: the data set is compressed as a whole (PS3.5 A.5).
        keeps_pixels: the pixel data are in the object, not behind a reference or in another form.
    """

    uid: str
    name: str
    is_implicit_vr: bool = False
    is_little_endian: bool = True
    is_encapsulated: bool = False
    is_deflated: bool = False
    keeps_pixels: bool = True


_TABLE: Final = (
    TransferSyntax("1.2.840.10008.1.2", "Implicit VR Little Endian", is_implicit_vr=True),
    TransferSyntax("1.2.840.10008.1.2.1", "Explicit VR Little Endian"),
    TransferSyntax(
        "1.2.840.10008.1.2.1.98",
        "Encapsulated Uncompressed Explicit VR Little Endian",
        is_encapsulated=True,
    ),
    TransferSyntax("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", is_deflated=True),
    TransferSyntax("1.2.840.10008.1.2.2", "Explicit VR Big Endian", is_little_endian=False),
    TransferSyntax("1.2.840.10008.1.2.4.50", "JPEG Baseline (Process 1)", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.51", "JPEG Extended (Process 2 and 4)", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.52", "JPEG Extended (Process 3 and 5)", is_encapsulated=True),
    TransferSyntax(
        "1.2.840.10008.1.2.4.53",
        "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.54",
        "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.55",
        "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.56",
        "JPEG Full Progression, Non-Hierarchical (Process 11 and 13)",
        is_encapsulated=True,
    ),
    TransferSyntax("1.2.840.10008.1.2.4.57", "JPEG Lossless, Non-Hierarchical (Process 14)", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.58", "JPEG Lossless, Non-Hierarchical (Process 15)", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.59", "JPEG Extended, Hierarchical (Process 16 and 18)", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.60", "JPEG Extended, Hierarchical (Process 17 and 19)", is_encapsulated=True),
    TransferSyntax(
        "1.2.840.10008.1.2.4.61",
        "JPEG Spectral Selection, Hierarchical (Process 20 and 22)",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.62",
        "JPEG Spectral Selection, Hierarchical (Process 21 and 23)",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.63",
        "JPEG Full Progression, Hierarchical (Process 24 and 26)",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.64",
        "JPEG Full Progression, Hierarchical (Process 25 and 27)",
        is_encapsulated=True,
    ),
    TransferSyntax("1.2.840.10008.1.2.4.65", "JPEG Lossless, Hierarchical (Process 28)", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.66", "JPEG Lossless, Hierarchical (Process 29)", is_encapsulated=True),
    TransferSyntax(
        "1.2.840.10008.1.2.4.70",
        "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        is_encapsulated=True,
    ),
    TransferSyntax("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless Image Compression", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.81", "JPEG-LS Lossy (Near-Lossless) Image Compression", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.90", "JPEG 2000 Image Compression (Lossless Only)", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.91", "JPEG 2000 Image Compression", is_encapsulated=True),
    TransferSyntax(
        "1.2.840.10008.1.2.4.92",
        "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.93",
        "JPEG 2000 Part 2 Multi-component Image Compression",
        is_encapsulated=True,
    ),
    TransferSyntax("1.2.840.10008.1.2.4.94", "JPIP Referenced", keeps_pixels=False),
    TransferSyntax("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate", is_deflated=True, keeps_pixels=False),
    TransferSyntax("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.100.1", "Fragmentable MPEG2 Main Profile / Main Level", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.101", "MPEG2 Main Profile / High Level", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.101.1", "Fragmentable MPEG2 Main Profile / High Level", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1", is_encapsulated=True),
    TransferSyntax(
        "1.2.840.10008.1.2.4.102.1",
        "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.103",
        "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.103.1",
        "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.104",
        "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.104.1",
        "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.105",
        "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.105.1",
        "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
        is_encapsulated=True,
    ),
    TransferSyntax("1.2.840.10008.1.2.4.106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", is_encapsulated=True),
    TransferSyntax(
        "1.2.840.10008.1.2.4.106.1",
        "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
        is_encapsulated=True,
    ),
    TransferSyntax("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile / Level 5.1", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile / Level 5.1", is_encapsulated=True),
    TransferSyntax(
        "1.2.840.10008.1.2.4.201",
        "High-Throughput JPEG 2000 Image Compression (Lossless Only)",
        is_encapsulated=True,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.4.202",
        "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)",
        is_encapsulated=True,
    ),
    TransferSyntax("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000 Image Compression", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced", keeps_pixels=False),
    TransferSyntax("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate", is_deflated=True, keeps_pixels=False),
    TransferSyntax("1.2.840.10008.1.2.5", "RLE Lossless", is_encapsulated=True),
    TransferSyntax("1.2.840.10008.1.2.6.1", "RFC 2557 MIME encapsulation", keeps_pixels=False),
    TransferSyntax("1.2.840.10008.1.2.6.2", "XML Encoding", keeps_pixels=False),
    TransferSyntax(
        "1.2.840.10008.1.2.7.1",
        "SMPTE ST 2110-20 Uncompressed Progressive Active Video",
        keeps_pixels=False,
    ),
    TransferSyntax(
        "1.2.840.10008.1.2.7.2",
        "SMPTE ST 2110-20 Uncompressed Interlaced Active Video",
        keeps_pixels=False,
    ),
    TransferSyntax("1.2.840.10008.1.2.7.3", "SMPTE ST 2110-30 PCM Digital Audio", keeps_pixels=False),
    TransferSyntax("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian", is_implicit_vr=True),
    TransferSyntax("1.2.840.113619.5.2", "GE Private Implicit VR with Big Endian pixels", is_implicit_vr=True),
)

TRANSFER_SYNTAXES: Final = {syntax.uid: syntax for syntax in _TABLE}


def keeps_pixels(uid: str) -> bool:
    """Whether objects in this transfer syntax can be stored as sent; an unknown one can't be read, so it is not."""
    syntax = TRANSFER_SYNTAXES.get(uid)
    return syntax is not None and syntax.keeps_pixels


def is_for_messages(uid: str) -> bool:
    """Whether identifiers and the data sets of normalized services can be in a transfer syntax."""
    syntax = TRANSFER_SYNTAXES.get(uid)
    return syntax is not None and syntax.keeps_pixels and not syntax.is_encapsulated and not syntax.is_deflated


def is_deflated(uid: str) -> bool:
    """Whether data sets in this transfer syntax are compressed as a whole (PS3.5 A.5)."""
    syntax = TRANSFER_SYNTAXES.get(uid)
    return syntax is not None and syntax.is_deflated
