"""
Which attributes speak of single frames, or of the object as a whole, and what becomes of them (PS3.4 Y.3.3, PS3.17 MM).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FRAME_EXTRACTION_SEQUENCE: Final = 0x00081164
MULTI_FRAME_SOURCE_SOP_INSTANCE_UID: Final = 0x00081167
CONTRIBUTING_EQUIPMENT_SEQUENCE: Final = 0x0018A001
SOP_INSTANCE_UID: Final = 0x00080018
NUMBER_OF_FRAMES: Final = 0x00280008

ALWAYS_LEFT_OUT: Final[Mapping[int, str]] = {
    0x00080012: "Instance Creation Date",
    0x00080013: "Instance Creation Time",
    0x00080014: "Instance Creator UID",
    0x00080015: "Instance Coercion DateTime",
    0x00200242: "SOP Instance UID of Concatenation Source",
    0x00209161: "Concatenation UID",
    0x00209162: "In-concatenation Number",
    0x00209163: "In-concatenation Total Number",
    0x00209228: "Concatenation Frame Offset Number",
    0x00287FE0: "Pixel Data Provider URL",
    0x4FFE0001: "MAC Parameters Sequence",
    0xFFFAFFFA: "Digital Signatures Sequence",
    0xFFFCFFFC: "Data Set Trailing Padding",
}
"""They speak of the source itself: when it was made, what it was part of, its signatures."""

LEFT_OUT_WHEN_CUT: Final[Mapping[int, str]] = {
    0x00082142: "Start Trim",
    0x00082143: "Stop Trim",
    0x00089458: "Frame Display Sequence",
    0x00180072: "Effective Duration",
    0x00183103: "IVUS Pullback Start Frame Number",
    0x00183104: "IVUS Pullback Stop Frame Number",
    0x00186070: "R Wave Time Vector",
    0x00281401: "Data Frame Assignment Sequence",
    0x00286030: "Mask Pointer(s)",
    0x00286100: "Mask Subtraction Sequence",
    0x00289505: "Multi-frame Presentation Sequence",
    0x00880200: "Icon Image Sequence",
}
"""Optional ones that name frames, or ranges of frames, in a way that need not hold for some of them."""

ONE_VALUE_A_FRAME: Final[Mapping[int, str]] = {
    0x00181135: "Table Vertical Increment",
    0x00181136: "Table Lateral Increment",
    0x00181137: "Table Longitudinal Increment",
    0x00181520: "Positioner Primary Angle Increment",
    0x00181521: "Positioner Secondary Angle Increment",
    0x00182001: "Page Number Vector",
    0x00182002: "Frame Label Vector",
    0x00182003: "Frame Primary Angle Vector",
    0x00182004: "Frame Secondary Angle Vector",
    0x00182005: "Slice Location Vector",
    0x00182006: "Display Window Label Vector",
    0x00540010: "Energy Window Vector",
    0x00540020: "Detector Vector",
    0x00540030: "Phase Vector",
    0x00540050: "Rotation Vector",
    0x00540060: "R-R Interval Vector",
    0x00540070: "Time Slot Vector",
    0x00540080: "Slice Vector",
    0x00540090: "Angular View Vector",
    0x00540100: "Time Slice Vector",
    0x3004000C: "Grid Frame Offset Vector",
}
"""Cut where they have as many values as there are frames; so is whatever Frame Increment Pointer names."""

REPRESENTATIVE_FRAME_NUMBER: Final = 0x00286010
FRAME_NUMBERS_OF_INTEREST: Final = 0x00286020
R_WAVE_POINTER: Final = 0x00286040
FRAME_NUMBERS: Final[Mapping[int, tuple[int, ...]]] = {
    REPRESENTATIVE_FRAME_NUMBER: (),
    FRAME_NUMBERS_OF_INTEREST: (0x00286022, 0x00286023),
    R_WAVE_POINTER: (),
}
"""Numbers of frames: they become the new ones, and those of other frames go, with what stands beside them."""

RECOMMENDED_VIEWING_MODE: Final = 0x00281090
DIMENSION_ORGANIZATION_TYPE: Final = 0x00209311
TILED_FULL: Final = "TILED_FULL"
