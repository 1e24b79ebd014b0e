"""
Whether an object's pixels may be released: text that is burned in, faces, overlays within the pixel data.

Unknown is not NO where text is common: for secondary captures, ultrasound and the like an absent Burned In Annotation
counts as text.
"""

from __future__ import annotations

from typing import Final

from pacs.deidentification.original import Original
from pacs.deidentification.profiles import Policy
from pacs.deidentification.tables import Profile

_SOP_CLASS: Final = 0x00080016
_IMAGE_TYPE: Final = 0x00080008
_MODALITY: Final = 0x00080060
_CONVERSION: Final = 0x00080064
_BODY_PART: Final = 0x00180015
_BURNED_IN: Final = 0x00280301
_FACES: Final = 0x00280302
_PIXELS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)

_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_ULTRASOUND: Final = ("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6.2")
_RETIRED_ULTRASOUND: Final = ("1.2.840.10008.5.1.4.1.1.3", "1.2.840.10008.5.1.4.1.1.6")
_PHOTOGRAPHS: Final = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.77.1.4",  # VL Photographic Image
        "1.2.840.10008.5.1.4.1.1.77.1.4.1",  # Video Photographic Image
        "1.2.840.10008.5.1.4.1.1.77.1.7",  # Dermoscopic Photography Image
    )
)
_WITH_TEXT: Final = frozenset(("US", "IVUS", "SC", "ES", "XC", "GM", "OT", "SM-LABEL", "DOC"))
_CAPTURES: Final = frozenset(("SCREEN SAVE", "SCREENSHOT", "SCREEN", "CAPTURE"))
_HEADS: Final = frozenset(("HEAD", "BRAIN", "FACE", "SKULL", "HEADNECK", "ORBIT", "SINUS", "EAR", "JAW", "NECK"))


def burned_in_reason(original: Original) -> str | None:
    """Give why the pixels may bear text, or None."""
    if not any(tag in original.top for tag in _PIXELS):
        return None
    stated = original.text(_BURNED_IN).upper()
    if stated == "YES":
        return "Burned In Annotation is YES"
    sop_class = original.text(_SOP_CLASS)
    if stated == "NO":
        return None
    if sop_class == _SECONDARY_CAPTURE or sop_class.startswith(_SECONDARY_CAPTURE + "."):
        return "a secondary capture that does not say that it bears no text"
    if sop_class in _ULTRASOUND or sop_class in _RETIRED_ULTRASOUND:
        return "an ultrasound image that does not say that it bears no text"
    if original.text(_MODALITY).upper() in _WITH_TEXT:
        return "an image of its modality that does not say that it bears no text"
    if original.text(_CONVERSION):
        return "a converted image that does not say that it bears no text"
    if _CAPTURES & {value.strip().upper() for value in original.text(_IMAGE_TYPE).split("\\")}:
        return "a screen that was captured"
    return None


def hidden_plane_reason(original: Original) -> str | None:
    """Give why bits of the pixel data may hold an overlay, or None (retired, PS3.3 C.9.2)."""
    for tag in original.top:
        if 0x6000 <= tag >> 16 <= 0x601E and not tag >> 16 & 1 and tag & 0xFFFF == 0x0102:
            data, allocated = (tag & 0xFFFF0000) | 0x3000, (tag & 0xFFFF0000) | 0x0100
            is_within = original.value(tag).strip(b"\0") or original.value(allocated).strip(b"\0") not in (b"", b"\1")
            if data not in original.top and is_within:
                return "an overlay in the bits of the pixel data"
    return None


def face_reason(original: Original, policy: Policy) -> str | None:
    """Give why the pixels may show a face where the profile forbids it (45 CFR 164.514(b)(2)(i)(Q)), or None."""
    if policy.profile is not Profile.HIPAA_SAFE_HARBOR or not any(tag in original.top for tag in _PIXELS):
        return None
    stated = original.text(_FACES).upper()
    if stated == "YES":
        return "Recognizable Visual Features is YES"
    if stated == "NO":
        return None
    if original.text(_SOP_CLASS) in _PHOTOGRAPHS:
        return "a photograph that does not say that it shows no face"
    if original.text(_MODALITY).upper() in ("CT", "MR") and original.text(_BODY_PART).upper() in _HEADS:
        return "a head whose surface shows a face"
    return None
