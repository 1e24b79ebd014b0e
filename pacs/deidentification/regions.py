"""
Region rules: which parts of a device's images bear text, from a YAML file, and blanking them in frames.

::

    rules:
      - manufacturer: "ACME*"        # each condition is optional; * and ? are wildcards
        model: "SONO 9"
        modality: US
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.6.1"
        rows: 480
        columns: 640
        blank: [[0, 0, 640, 40]]     # x, y, width, height; or
        keep: [[0, 40, 640, 440]]    # everything else is blanked

The first rule whose every condition holds is applied. Where none does, the regions of an ultrasound image (PS3.3
C.8.5.5) are kept and what is outside of them is blanked; where there are none, there is no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from pacs.deidentification.codec import SequencePlace
from pacs.deidentification.errors import NotDeidentifiable
from pacs.deidentification.original import Original

_NO_YAML: Final = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises, also at a text that it takes for a date or a number, and that is none."""

Region = tuple[int, int, int, int]

_CONDITIONS: Final[Mapping[str, int]] = {
    "manufacturer": 0x00080070,
    "model": 0x00081090,
    "modality": 0x00080060,
    "sop_class_uid": 0x00080016,
}
_ROWS: Final = 0x00280010
_COLUMNS: Final = 0x00280011
_SAMPLES: Final = 0x00280002
_PHOTOMETRIC: Final = 0x00280004
_PLANAR: Final = 0x00280006
_FRAMES: Final = 0x00280008
_ALLOCATED: Final = 0x00280100
_PIXELS: Final = 0x7FE00010
_ULTRASOUND_REGIONS: Final = 0x00186011
_CORNERS: Final = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)  # x0, y0, x1, y1


class RegionRulesError(ValueError):
    """The file of region rules is wrong; the text says where."""


@dataclass(frozen=True, slots=True)
class RegionRule:
    """
    One rule.

    Attributes:
        texts: wildcards by tag.
        rows, columns: of the image, or None for any.
        regions: what is blanked, or what is kept.
    """

    texts: tuple[tuple[int, str], ...]
    rows: int | None
    columns: int | None
    regions: tuple[Region, ...]
    keeps: bool

    def matches(self, original: Original) -> bool:
        """Whether every condition holds."""
        size = _number(original, _ROWS), _number(original, _COLUMNS)
        return (
            all(fnmatchcase(original.text(tag).upper(), pattern.upper()) for tag, pattern in self.texts)
            and self.rows in (None, size[0])
            and self.columns in (None, size[1])
        )


def load_region_rules(path: Path) -> tuple[RegionRule, ...]:
    """
    Read the file.

    Raises:
        RegionRulesError: it can't be read, or is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RegionRulesError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RegionRulesError(f"{path}: is not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        raise RegionRulesError(f"{path}:{line}: no YAML: {error.problem or error.context}") from error
    except _NO_YAML as error:
        raise RegionRulesError(f"{path}: no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or set(content) != {"rules"} or not isinstance(content["rules"], list):
        raise RegionRulesError(f"{path}: one key, 'rules', with a list is expected")
    return tuple(_rule(path, number, entry) for number, entry in enumerate(content["rules"], 1))


def _rule(path: Path, number: int, entry: Any) -> RegionRule:
    allowed = {*_CONDITIONS, "rows", "columns", "blank", "keep"}
    if not isinstance(entry, dict) or set(entry) - allowed:
        raise RegionRulesError(f"{path}: rule {number}: the keys are {', '.join(sorted(allowed))}")
    if ("blank" in entry) == ("keep" in entry):
        raise RegionRulesError(f"{path}: rule {number}: either 'blank' or 'keep' is expected")
    regions = entry.get("blank", entry.get("keep"))
    is_right = isinstance(regions, list) and all(
        isinstance(region, list) and len(region) == 4 and all(type(n) is int and n >= 0 for n in region)
        for region in regions
    )
    if not is_right or not regions:
        raise RegionRulesError(f"{path}: rule {number}: a region is [x, y, width, height]")
    if any(type(entry.get(name, 1)) is not int or entry.get(name, 1) < 1 for name in ("rows", "columns")):
        raise RegionRulesError(f"{path}: rule {number}: rows and columns are numbers")
    return RegionRule(
        texts=tuple((tag, str(entry[name])) for name, tag in _CONDITIONS.items() if name in entry),
        rows=entry.get("rows"),
        columns=entry.get("columns"),
        regions=tuple((x, y, width, height) for x, y, width, height in regions),
        keeps="keep" in entry,
    )


def find_regions(original: Original, rules: Sequence[RegionRule]) -> tuple[tuple[Region, ...], bool] | None:
    """Give the regions for an object and whether they are kept, or None: no rule is for it."""
    for rule in rules:
        if rule.matches(original):
            return rule.regions, rule.keeps
    place = original.top.get(_ULTRASOUND_REGIONS)
    if place is None or not isinstance(place[5], SequencePlace):
        return None
    order = "little" if place[5].encoding.is_little_endian else "big"
    regions: list[Region] = []
    for places, _ in place[5].items:
        values = {
            tag: int.from_bytes(original.parsed.buffer[value_at:end], order)  # type: ignore[arg-type]
            for tag, _, _, value_at, end, _ in places
            if tag in _CORNERS and end - value_at == 4
        }
        if len(values) != len(_CORNERS):
            return None
        x0, y0, x1, y1 = (values[tag] for tag in _CORNERS)
        regions.append((x0, y0, max(0, x1 - x0 + 1), max(0, y1 - y0 + 1)))
    return (tuple(regions), True) if regions else None


def blank(buffer: Any, original: Original, regions: Sequence[Region], *, keeps: bool) -> None:
    """
    Blank regions in every frame of native pixel data.

    Args:
        buffer: writable, the bytes that `original` was parsed from.

    Raises:
        NotDeidentifiable: the pixel data have no shape that is known.
    """
    place = original.top.get(_PIXELS)
    rows, columns = _number(original, _ROWS), _number(original, _COLUMNS)
    samples, allocated = _number(original, _SAMPLES) or 1, _number(original, _ALLOCATED)
    stated = original.text(_FRAMES) or "1"
    frames = int(stated) if stated.isascii() and stated.isdigit() else 0
    if place is None or place[5] is not None or not (rows and columns and frames) or allocated not in (8, 16, 32, 64):
        raise NotDeidentifiable("burned_in", "the pixel data can't be cleaned")
    photometric = original.text(_PHOTOMETRIC)
    if photometric == "YBR_FULL_422":
        raise NotDeidentifiable("burned_in", "subsampled pixel data can't be cleaned")
    is_planar = samples > 1 and _number(original, _PLANAR) == 1
    width = allocated // 8
    planes, pixel_bytes = (samples, width) if is_planar else (1, width * samples)
    frames_end = place[3] + frames * rows * columns * width * samples
    if place[4] < frames_end:
        raise NotDeidentifiable("burned_in", "the pixel data are too short")
    if any(buffer[frames_end : place[4]]):  # frames that are not counted, maybe
        raise NotDeidentifiable("burned_in", "the pixel data are longer than their frames")
    spans = _spans(rows, columns, regions, keeps=keeps)
    if not spans:
        raise NotDeidentifiable("burned_in", "the regions leave nothing to blank")
    black = b"\0\x80\x80" if photometric == "YBR_FULL" and allocated == 8 and not is_planar else bytes(pixel_bytes)
    for plane in range(frames * planes):
        fill = b"\x80" if photometric == "YBR_FULL" and is_planar and plane % planes else black
        start = place[3] + plane * rows * columns * pixel_bytes
        for y, x, count in spans:
            at = start + (y * columns + x) * pixel_bytes
            buffer[at : at + count * pixel_bytes] = (fill * count)[: count * pixel_bytes]


def _spans(rows: int, columns: int, regions: Sequence[Region], *, keeps: bool) -> list[tuple[int, int, int]]:
    """Give what is blanked, row by row: y, x, number of pixels."""
    spans = []
    for y in range(rows):
        inside = sorted((x, min(columns, x + w)) for x, top, w, h in regions if top <= y < top + h and x < columns)
        if not keeps:
            spans += [(y, start, end - start) for start, end in inside]
            continue
        position = 0
        for start, end in inside:
            if start > position:
                spans.append((y, position, start - position))
            position = max(position, end)
        if position < columns:
            spans.append((y, position, columns - position))
    return spans


def _number(original: Original, tag: int) -> int:
    value = original.value(tag)[:2]
    return int.from_bytes(value, "little" if original.parsed.encoding.is_little_endian else "big")
