"""
The content tree of a key object selection, made anew: one item for each instance that the original pointed to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pacs.deidentification.codec import ITEM, Encoding, Place, SequencePlace
from pacs.deidentification.original import Original

KEY_OBJECTS_SOP_CLASS: Final = "1.2.840.10008.5.1.4.1.1.88.59"

_TREE: Final = 0x0040A730
_VALUE_TYPE: Final = 0x0040A040
_RELATIONSHIP: Final = 0x0040A010
_REFERENCE: Final = 0x00081199
_CLASS: Final = 0x00081150
_INSTANCE: Final = 0x00081155
_VALUE_TYPES: Final = (b"IMAGE", b"COMPOSITE", b"WAVEFORM")


def key_object_items(original: Original, encoding: Encoding, map_uid: Callable[[bytes], bytes]) -> bytes:
    """Give the items of the tree; references are mapped like everywhere else, nothing else is kept."""
    items = []
    for value_type, sop_class, instance in _references(original, original.parsed.places):
        reference = encoding.element(_CLASS, "UI", sop_class) + encoding.element(_INSTANCE, "UI", map_uid(instance))
        reference = encoding.header(ITEM, "", len(reference)) + reference
        body = (
            encoding.header(_REFERENCE, "SQ", len(reference))
            + reference
            + encoding.element(_RELATIONSHIP, "CS", b"CONTAINS")
            + encoding.element(_VALUE_TYPE, "CS", value_type)
        )
        items.append(encoding.header(ITEM, "", len(body)) + body)
    return b"".join(items)


def _references(original: Original, places: list[Place]) -> Iterator[tuple[bytes, bytes, bytes]]:
    for content in _contents(places, _TREE):
        for item, _ in content.items:
            value_type = _value(original, item, _VALUE_TYPE)
            if value_type in _VALUE_TYPES:
                for reference in _contents(item, _REFERENCE):
                    for referenced, _ in reference.items:
                        sop_class, instance = (_value(original, referenced, tag) for tag in (_CLASS, _INSTANCE))
                        if sop_class and instance:
                            yield value_type, sop_class, instance
            yield from _references(original, item)


def _contents(places: list[Place], tag: int) -> Iterator[SequencePlace]:
    for place in places:
        if place[0] == tag and isinstance(place[5], SequencePlace):
            yield place[5]


def _value(original: Original, places: list[Place], tag: int) -> bytes:
    for found, _, _, value_at, end, _ in places:
        if found == tag:
            return bytes(original.parsed.buffer[value_at:end]).strip(b"\0 ")
    return b""
