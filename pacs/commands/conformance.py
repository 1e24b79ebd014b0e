"""
`pacsctl conformance`: the DICOM conformance statement (PS3.2) of the running code, asked of the code itself.

Each SOP class of the standard is put to the dispatcher that negotiates associations, each transfer syntax to what it
answers; keys, character sets, TLS profiles and audit events are the tables that are in force.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
from pydicom._uid_dict import UID_dictionary

from pacs.archive.attributes import ATTRIBUTES
from pacs.archive.keys import COMPUTED
from pacs.command import Call
from pacs.config import Configuration
from pacs.dataset.charset import CHARACTER_SETS
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.deidentification.tables import Profile
from pacs.extraction.request import FrameKey
from pacs.extraction.tables import ALWAYS_LEFT_OUT, LEFT_OUT_WHEN_CUT, ONE_VALUE_A_FRAME
from pacs.security.audit.codes import EVENTS
from pacs.security.tls import PROFILES
from pacs.ul import APPLICATION_CONTEXT_NAME, IMPLEMENTATION_CLASS_UID, AbstractSyntaxSupport
from pacs.version import IMPLEMENTATION_VERSION_NAME, __version__

PRIVATE: Final = "2.25.1"
"""Stands for every private SOP class."""


@dataclass(frozen=True, slots=True)
class SupportedSOPClass:
    """
    A SOP class that we are the SCP of.

    Attributes:
        transfer_syntaxes: UIDs of those that are accepted.
        peer_may_be_scp: the requestor may be the SCP (role selection), as C-GET needs.
        has_extended_negotiation: application information is answered.
    """

    uid: str
    name: str
    transfer_syntaxes: tuple[str, ...]
    peer_may_be_scp: bool
    has_extended_negotiation: bool


def supported_sop_classes(support: Callable[[str], AbstractSyntaxSupport | None]) -> list[SupportedSOPClass]:
    """Ask which SOP classes of the standard are served, and how."""
    found: list[SupportedSOPClass] = []
    names = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] in ("SOP Class", "Meta SOP Class")}
    for uid, name in (*names.items(), (PRIVATE, "private SOP classes, as generic storage")):
        supported = support(uid)
        if supported is not None:
            accepted = tuple(syntax for syntax in TRANSFER_SYNTAXES if supported.accepts_transfer_syntax(syntax))
            extended = supported.extended is not None
            found.append(SupportedSOPClass(uid, name, accepted, supported.peer_may_be_scp, extended))
    return found


@click.command("conformance")
def command(config: Path | None, wants_json: bool) -> None:
    """Print the DICOM conformance statement that the running code implies."""
    from twisted.internet import reactor

    from pacs.application import make_service
    from pacs.events import EventBus
    from pacs.security.tls import TLSFault

    call = Call(config, wants_json)
    configuration = call.configuration()
    threads: Any = reactor
    try:
        server = make_service(configuration, bus=EventBus(reactor=threads), reactor=reactor)
    except TLSFault as fault:
        call.fail(f"conformance: {'.'.join(fault.section)}.{fault.key}: {fault}")
    classes = supported_sop_classes(server.support)
    if wants_json:
        click.echo(json.dumps({"version": __version__, "sop_classes": [asdict(item) for item in classes]}))
        return
    click.echo(statement(configuration, classes), nl=False)


def statement(configuration: Configuration, classes: Sequence[SupportedSOPClass]) -> str:
    """Give the statement, in reStructuredText."""
    sets = list(dict.fromkeys(item.transfer_syntaxes for item in classes))
    title = f"DICOM conformance statement of Production PACS {__version__}"
    parts = [
        *_heading(title, "="),
        "Made by ``pacsctl conformance`` from the tables that the code works by.",
        "",
        *_heading("Implementation", "-"),
        *_table(
            ("what", "value"),
            [
                ("implementation class UID", IMPLEMENTATION_CLASS_UID),
                ("implementation version name", IMPLEMENTATION_VERSION_NAME),
                ("application context", APPLICATION_CONTEXT_NAME),
                *_association(configuration),
            ],
        ),
        *_heading("SOP classes, as SCP", "-"),
        "Any number of presentation contexts up to 128; of the proposed transfer syntaxes the first that is accepted,",
        'Implicit VR Little Endian only when no other is. "SCP": the requestor may take the role of the SCP.',
        "",
        *_table(
            ("SOP class", "UID", "transfer syntaxes", "roles", "extended"),
            [
                (
                    item.name,
                    item.uid,
                    f"set {sets.index(item.transfer_syntaxes) + 1}",
                    "SCU, SCP" if item.peer_may_be_scp else "SCU",
                    "yes" if item.has_extended_negotiation else "no",
                )
                for item in classes
            ],
        ),
        "As SCU: Verification (of remote nodes), and the storage SOP classes, in the stored transfer syntax or an",
        "uncompressed one, for C-MOVE and C-GET; storage commitment reports, performed procedure step notifications.",
        "",
        *_heading("Transfer syntaxes", "-"),
        *(line for number, syntaxes in enumerate(sets, 1) for line in _syntaxes(number, syntaxes)),
        *_frame_level(),
        *_heading("Query keys", "-"),
        "These are indexed, at every level in which they may stand; any other element is a key all the same, compared",
        "with what the objects have (``docs/queries.rst``).",
        "",
        *_table(
            ("keyword", "tag", "VR", "level", "matching"),
            [(a.keyword, _tag(a.tag), a.vr, a.level.value, a.matching.value) for a in ATTRIBUTES]
            + [(name, _tag(tag), vr, level.value, "computed") for tag, (name, vr, level) in COMPUTED.items()],
        ),
        *_heading("Character sets", "-"),
        "Those of PS3.3 C.12.1.1.2, each alone and with code extensions where it has them:",
        "",
        *_list(CHARACTER_SETS),
        *_heading("Security", "-"),
        "Secure transport connection profiles (``server.tls.profile``):",
        "",
        *_list(f"{name}: {profile.section}" for name, profile in PROFILES.items()),
        "User identity negotiation: user name; user name and passcode; JSON Web Token where an identity provider is",
        "configured; Kerberos and SAML are ignored. Attribute confidentiality profiles (PS3.15 Annex E):",
        "",
        *_list(profile.value for profile in Profile),
        "Audit messages (PS3.15 A.5.3):",
        "",
        *_list(f"{event.value}, {event.meaning}" for event in EVENTS),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _association(configuration: Configuration) -> list[tuple[str, str]]:
    server = configuration.server
    return [
        ("AE title", server.ae_title),
        ("longest PDU that is received", f"{server.max_pdu_length} bytes"),
        ("associations at once", str(server.max_associations)),
        ("of one calling AE title", str(server.max_associations_per_peer)),
        ("asynchronous operations window", "1, 1"),
        ("ARTIM timer", f"{server.artim_timeout_seconds:g} s"),
        ("idle associations", f"{server.idle_timeout_seconds:g} s"),
        ("default character set", server.default_character_set or "the default repertoire"),
    ]


def _frame_level() -> list[str]:
    """Tell what PS3.17 MM wants to be told of objects made of frames."""
    keys = ", ".join(f"{key.name_in_standard} {_tag(key.value)}" for key in FrameKey)
    return [
        *_heading("Frame level retrieval", "-"),
        "Composite Instance Root Retrieve has the levels IMAGE and FRAME (PS3.4 annex Y). Frames are asked for by",
        f"one of {keys};",
        "numbers beyond the last frame are left out. The new object has the SOP class, the transfer syntax and the",
        "attributes of its source, but:",
        "",
        *_list(
            (
                "a SOP Instance UID below 2.25, the same whenever the same frames are asked for",
                "an item more in the Frame Extraction Sequence, and one in the Contributing Equipment Sequence",
                f"no private attributes, and none of {_names(ALWAYS_LEFT_OUT)}",
            )
        ),
        "When not all frames are taken:",
        "",
        *_list(
            (
                "Per-frame Functional Groups and overlays with several frames have those of what is left",
                f"Frame Time Vector, what Frame Increment Pointer names, {_names(ONE_VALUE_A_FRAME)} are cut too",
                "Frame Time becomes longer, or a Frame Time Vector",
                "Content and Acquisition Date, Time and DateTime, Image Trigger Delay are the first frame's",
                "Representative Frame Number, Frame Numbers of Interest and R Wave Pointer are the new numbers",
                "the Image Position (Patient) of a dose is that of the first plane that is left",
                f"left out are {_names(LEFT_OUT_WHEN_CUT)}",
            )
        ),
    ]


def _names(attributes: Mapping[int, str]) -> str:
    return ", ".join(attributes.values())


def _syntaxes(number: int, syntaxes: Sequence[str]) -> list[str]:
    rows = [(TRANSFER_SYNTAXES[uid].name, uid) for uid in syntaxes]
    return [f"Set {number}:", "", *_table(("transfer syntax", "UID"), rows)]


def _tag(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _heading(text: str, mark: str) -> list[str]:
    return [text, mark * len(text), ""]


def _list(items: Iterable[str]) -> list[str]:
    return [
        *(
            line
            for item in items
            for line in textwrap.wrap(f"* {item}", 118, subsequent_indent="  ", break_on_hyphens=False)
        ),
        "",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    edge = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    first = "  ".join(cell.ljust(width) for cell, width in zip(head, widths, strict=True)).rstrip()
    return [edge, first, edge, *lines, edge, ""]
