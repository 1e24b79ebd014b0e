"""
Encapsulated documents: for each MIME type an empty one that is valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _empty_pdf() -> bytes:
    """One empty page."""
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>",
    )
    body = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join([b"%010d 00000 n \n" % offset for offset in offsets])
    size = len(objects) + 1
    return body + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
        % (size, table, size, len(body))
    )


_CDA: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<ClinicalDocument xmlns="urn:hl7-org:v3"><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
    b"</ClinicalDocument>\n"
)

_DOCUMENTS: Final[Mapping[str, bytes]] = {
    "application/pdf": _empty_pdf(),
    "text/xml": _CDA,
    "application/xml": _CDA,
    "model/stl": bytes(84),  # binary: a header and no triangles
    "application/sla": bytes(84),
    "model/obj": b"# empty\n",
    "model/mtl": b"# empty\n",
}


def empty_document(mime_type: str) -> bytes:
    """Give a document; two zero bytes for a MIME type that is not known."""
    return _DOCUMENTS.get(mime_type.strip().lower(), bytes(2))
