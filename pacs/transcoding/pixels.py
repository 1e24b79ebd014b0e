"""
Encapsulated pixel data, decoded frame by frame (PS3.5 A.4, 8.2).

The codecs are pydicom's plugins. What is decoded is color-by-pixel; where lossy JPEG had made YBR of RGB it becomes RGB
again, as the peers that lack the transfer syntax expect it, and any other photometric interpretation stays.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from pacs.dataset.errors import DataSetError
from pacs.dataset.facts import (
    BITS_ALLOCATED,
    BITS_STORED,
    COLUMNS,
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    PHOTOMETRIC_INTERPRETATION,
    PIXEL_REPRESENTATION,
    PLANAR_CONFIGURATION,
    ROWS,
    SAMPLES_PER_PIXEL,
    Facts,
)
from pacs.dataset.frames import EncapsulatedFrames, number_of_frames
from pacs.dataset.reencode import DecodedPixels
from pacs.dataset.walk import PIXEL_DATA, Token
from pacs.dataset.window import Window
from pacs.transcoding import jpeg12
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.syntaxes import (
    COMPRESSED,
    ENCAPSULATED_UNCOMPRESSED,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    RLE_LOSSLESS,
)

_PLUGINS: Final[Mapping[str, tuple[str, ...]]] = {
    JPEG_BASELINE: ("gdcm", "pillow"),
    JPEG_EXTENDED: ("gdcm", "pillow", "jpeg12"),
    JPEG_LOSSLESS: ("gdcm",),
    JPEG_LOSSLESS_SV1: ("gdcm",),
    JPEG_LS_LOSSLESS: ("pyjpegls", "gdcm"),
    JPEG_LS_NEAR_LOSSLESS: ("pyjpegls", "gdcm"),
    JPEG_2000_LOSSLESS: ("pylibjpeg", "gdcm"),
    JPEG_2000: ("pylibjpeg", "gdcm"),
    HTJ2K_LOSSLESS: ("pylibjpeg",),
    HTJ2K_LOSSLESS_RPCL: ("pylibjpeg",),
    HTJ2K: ("pylibjpeg",),
    RLE_LOSSLESS: ("pylibjpeg", "pydicom"),
}
"""The decoders of each transfer syntax, in the order in which they are tried on its first frame."""

_JPEG: Final = frozenset((JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1))
_BECOMES_RGB: Final = frozenset((JPEG_BASELINE, JPEG_EXTENDED))
_COPIES_OF_A_FRAME: Final = 6  # that decoding holds at once, at most

get_decoder(JPEG_EXTENDED).add_plugin("jpeg12", (jpeg12.__name__, jpeg12.decode_frame.__name__))


class FrameDecoder:
    """
    Decodes the encapsulated pixel data of a data set's main level and of its items, icon images for example.

    Args:
        memory_bytes: what the process may use; frames that can't fit are refused before they are decoded.
    """

    def __init__(self, window: Window, transfer_syntax_uid: str, *, memory_bytes: int) -> None:
        self._window = window
        self._transfer_syntax_uid = transfer_syntax_uid
        self._memory_bytes = memory_bytes

    def __call__(self, facts: Facts) -> DecodedPixels:
        """
        Decode the first frame, to know what the data set has to say about the pixels; the others follow one by one.

        Raises:
            TranscodingError: the frames can't be decoded.
        """
        options = _options(facts)
        pixels = options["rows"] * options["columns"] * options["samples_per_pixel"]
        frame_bytes = pixels * options["bits_allocated"] // 8
        if frame_bytes * _COPIES_OF_A_FRAME > self._memory_bytes:
            raise TranscodingError(f"a frame of {frame_bytes} bytes is too large to be decoded")
        if self._transfer_syntax_uid == ENCAPSULATED_UNCOMPRESSED:
            return self._uncompressed(facts, options, frame_bytes)
        if self._transfer_syntax_uid not in COMPRESSED:
            raise TranscodingError("the pixel data are encapsulated, the transfer syntax says that they are not")
        return self._compressed(facts, options, frame_bytes)

    def _compressed(self, facts: Facts, options: dict[str, Any], frame_bytes: int) -> DecodedPixels:
        frames, first = self._first_frame(facts, options)
        array, properties = first
        count: int = options["number_of_frames"]
        cell_bytes: int = options["bits_allocated"] // 8
        array = _in_cells(array, cell_bytes)
        if array.nbytes != frame_bytes:
            raise TranscodingError(f"a frame has {array.nbytes} bytes when decoded, {frame_bytes} were expected")
        changes: dict[int, tuple[str, bytes]] = {}
        photometric = str(properties["photometric_interpretation"])
        photometric = {"YBR_FULL_422": "YBR_FULL"}.get(photometric, photometric)  # decoded, nothing is subsampled
        if photometric != facts.texts.get(PHOTOMETRIC_INTERPRETATION):
            changes[PHOTOMETRIC_INTERPRETATION] = "CS", _even(photometric)
        if options["samples_per_pixel"] > 1 and facts.numbers.get(PLANAR_CONFIGURATION) != 0:
            changes[PLANAR_CONFIGURATION] = "US", struct.pack("<H", 0)
        return DecodedPixels(
            vr="OW" if options["bits_allocated"] > 8 else "OB",
            length=frame_bytes * count,
            frames=_taken(count, chain([first], frames), cell_bytes),
            changes=changes,
        )

    def _first_frame(self, facts: Facts, options: dict[str, Any]) -> tuple[Iterator[Any], Any]:
        """Give the frames of the first decoder that can decode the first of them, and that."""
        decoder = get_decoder(UID(self._transfer_syntax_uid))
        offsets = self._extended_offsets(facts)
        if self._transfer_syntax_uid in _JPEG and options["bits_allocated"] == 8:
            options = {**options, "bits_stored": 8}  # GDCM aborts at less; the codestream says how many it has
        faults = []
        for plugin in _PLUGINS[self._transfer_syntax_uid]:
            frames = decoder.iter_array(
                self._file(facts.places[PIXEL_DATA]),
                decoding_plugin=plugin,
                as_rgb=self._transfer_syntax_uid in _BECOMES_RGB,
                extended_offsets=offsets,
                **options,
            )
            try:
                return frames, next(frames)
            except StopIteration:
                faults.append("no frame")
            except (MemoryError, DataSetError):
                raise
            except Exception as error:  # noqa: BLE001 - a decoder may raise anything; its text may have anything in it
                faults.append(f"{plugin}: {type(error).__name__}")
        raise TranscodingError(f"the first frame can't be decoded ({', '.join(faults)})")

    def _uncompressed(self, facts: Facts, options: dict[str, Any], frame_bytes: int) -> DecodedPixels:
        count: int = options["number_of_frames"]
        places = EncapsulatedFrames(self._window, facts.places[PIXEL_DATA], facts, count)
        return DecodedPixels(
            vr="OW" if options["bits_allocated"] > 8 else "OB",
            length=frame_bytes * count,
            frames=(self._frame(places, number)[:frame_bytes] for number in range(1, count + 1)),
            changes={},
        )

    def _frame(self, places: EncapsulatedFrames, number: int) -> bytes:
        return b"".join(self._window.read(at, length) for at, length in places.fragments(number))

    def _file(self, token: Token) -> io.BufferedReader:
        return io.BufferedReader(_WindowFile(self._window, token.value_at, token.length))

    def _extended_offsets(self, facts: Facts) -> tuple[bytes, bytes] | None:
        places = facts.places.get(EXTENDED_OFFSET_TABLE), facts.places.get(EXTENDED_OFFSET_TABLE_LENGTHS)
        if places[0] is None or places[1] is None:
            return None
        offsets, lengths = (self._window.read(place.value_at, place.length) for place in places if place is not None)
        return offsets, lengths


def _options(facts: Facts) -> dict[str, Any]:
    """Give what pydicom wants to know of the Image Pixel module (PS3.3 C.7.6.3)."""
    numbers = facts.numbers
    if not all(numbers.get(tag) for tag in (ROWS, COLUMNS, BITS_ALLOCATED)):
        raise TranscodingError("the pixel data can't be decoded without Rows, Columns and Bits Allocated")
    samples = numbers.get(SAMPLES_PER_PIXEL, 1)
    options: dict[str, Any] = {
        "pixel_keyword": "PixelData",
        "rows": numbers[ROWS],
        "columns": numbers[COLUMNS],
        "samples_per_pixel": samples,
        "bits_allocated": numbers[BITS_ALLOCATED],
        "bits_stored": numbers.get(BITS_STORED, numbers[BITS_ALLOCATED]),
        "pixel_representation": numbers.get(PIXEL_REPRESENTATION, 0),
        "photometric_interpretation": facts.texts.get(PHOTOMETRIC_INTERPRETATION, "MONOCHROME2"),
        "number_of_frames": number_of_frames(facts),
        "allow_excess_frames": False,
    }
    if samples > 1:
        options["planar_configuration"] = numbers.get(PLANAR_CONFIGURATION, 0)
    return options


def _even(text: str) -> bytes:
    return text.encode() + b" " * (len(text) % 2)


def _counted(count: int, frames: Iterator[Any]) -> Iterator[Any]:
    """
    Give as many frames as there should be.

    Raises:
        TranscodingError: there are fewer, or one can't be decoded.
    """
    for number in range(1, count + 1):
        try:
            frame = next(frames)
        except StopIteration:
            raise TranscodingError(f"frame {number} of {count} is missing") from None
        except (MemoryError, DataSetError, TranscodingError):
            raise
        except Exception as error:
            raise TranscodingError(f"frame {number} of {count} can't be decoded ({type(error).__name__})") from error
        yield frame


def _taken(count: int, frames: Iterator[Any], cell_bytes: int) -> Iterator[bytes]:
    for array, _ in _counted(count, frames):
        yield _in_cells(array, cell_bytes).tobytes()


def _in_cells(array: Any, cell_bytes: int) -> Any:
    """
    Give a frame in pixel cells of Bits Allocated (PS3.5 8.1.1).

    The decoders of JPEG-LS and JPEG 2000 give the fewest bytes that hold the codestream's precision.
    """
    if array.itemsize < cell_bytes and cell_bytes in (2, 4):
        return array.astype(f"{array.dtype.kind}{cell_bytes}")
    return array


class _WindowFile(io.RawIOBase):
    """A value of a data set as a file, for pydicom."""

    def __init__(self, window: Window, offset: int, length: int) -> None:
        self._window = window
        self._offset = offset
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._length - self._position))
        done = 0
        for piece in self._window.pieces(self._offset + self._position, count):
            buffer[done : done + len(piece)] = piece
            done += len(piece)
        self._position += done
        return done
