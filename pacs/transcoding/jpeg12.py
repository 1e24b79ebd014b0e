"""
JPEG Extended with 12 bits a sample (PS3.5 A.4.1, process 4), by GDCM: a plugin for pydicom, which has none that is free
of the GPL.
"""

from __future__ import annotations

from typing import Any, Final

import gdcm
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES: Final = {JPEGExtended12Bit: ("gdcm>=3.0.24",)}
_PRECISION: Final = 12


def is_available(uid: str) -> bool:
    """Whether frames of a transfer syntax can be decoded here."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: Any) -> bytes:
    """Decode one frame; `runner` is pydicom's, with the Image Pixel module's values."""
    if runner.samples_per_pixel != 1 or runner.bits_allocated != 16:
        raise NotImplementedError("only one sample of 16 bits a pixel")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    photometric = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(photometric))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, _PRECISION, _PRECISION - 1, runner.pixel_representation))
    pixels: str = image.GetBuffer()
    return pixels.encode("utf-8", "surrogateescape")
