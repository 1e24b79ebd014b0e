"""
Presentation contexts for sending objects: which to propose for what is to be sent, and which to use of those that were
accepted (PS3.8 annex B, PS3.5 section 10).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pacs.dataset.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pacs.ul import AcceptedContext, PresentationContextRQ

CONTEXTS_AT_MOST: Final = 128  # odd ids from 1 to 255
UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
"""Proposed for every SOP class: what each peer must be able to read, PS3.5 section 10.1, and its explicit form."""


class NotAccepted(Exception):
    """No accepted context can carry an object; the message says why, in the words of an Error Comment."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """
    The contexts of one association.

    Attributes:
        sop_classes: whose objects it can carry.
    """

    contexts: tuple[PresentationContextRQ, ...]
    sop_classes: frozenset[str]


def propose(kinds: Iterable[tuple[str, str]]) -> list[Proposal]:
    """
    Give what to propose for objects of some SOP classes and transfer syntaxes, over as few associations as carry it.

    Each stored transfer syntax has a context of its own, so that the peer can accept all of them; the uncompressed
    ones have one together, of which the peer chooses.

    Args:
        kinds: SOP class and transfer syntax UIDs; repetitions do no harm.
    """
    stored: defaultdict[str, set[str]] = defaultdict(set)
    for sop_class, transfer_syntax in kinds:
        stored[sop_class].add(transfer_syntax)
    groups: list[list[tuple[str, tuple[str, ...]]]] = []
    for sop_class in sorted(stored):
        wanted = [(sop_class, transfer_syntaxes) for transfer_syntaxes in _lists(stored[sop_class])]
        if not groups or len(groups[-1]) + len(wanted) > CONTEXTS_AT_MOST:
            groups.append([])
        groups[-1] += wanted
    return [_proposal(group) for group in groups]


def _lists(stored: set[str]) -> Iterator[tuple[str, ...]]:
    for transfer_syntax in sorted(stored):
        yield (transfer_syntax,)
    uncompressed = tuple(item for item in UNCOMPRESSED if item not in stored)
    if uncompressed:
        yield uncompressed


def _proposal(group: Sequence[tuple[str, tuple[str, ...]]]) -> Proposal:
    return Proposal(
        contexts=tuple(
            PresentationContextRQ(2 * index + 1, sop_class, transfer_syntaxes)
            for index, (sop_class, transfer_syntaxes) in enumerate(group)
        ),
        sop_classes=frozenset(sop_class for sop_class, _ in group),
    )


class SendingContexts:
    """
    The contexts in which the peer takes objects.

    Args:
        contexts: accepted ones in which we are the SCU of Storage.
        targets: gives what an object in a transfer syntax can be transcoded to, best first.
    """

    def __init__(self, contexts: Iterable[AcceptedContext], *, targets: Callable[[str], Sequence[str]]) -> None:
        self._contexts = {(context.abstract_syntax, context.transfer_syntax): context for context in contexts}
        self._sop_classes = {sop_class for sop_class, _ in self._contexts}
        self._targets = targets

    def choose(self, sop_class_uid: str, transfer_syntax_uid: str) -> AcceptedContext:
        """
        Give the context for an object: in the stored transfer syntax if it can be, else in one it can be made.

        Raises:
            NotAccepted: there is none.
        """
        context = self._contexts.get((sop_class_uid, transfer_syntax_uid))
        if context is not None:
            return context
        if sop_class_uid not in self._sop_classes:
            raise NotAccepted("SOP class not accepted by the receiver")
        for target in self._targets(transfer_syntax_uid):
            context = self._contexts.get((sop_class_uid, target))
            if context is not None:
                return context
        raise NotAccepted("transfer syntax not accepted by the receiver")
