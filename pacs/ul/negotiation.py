"""
The negotiation of an association: presentation contexts (PS3.8 annex B), roles, extended negotiation and the
asynchronous operations window (PS3.7 D.3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pacs.ul.items import (
    AsynchronousOperationsWindow,
    ExtendedNegotiation,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    UserInformation,
)
from pacs.ul.pdu import AAssociateAC, AAssociateRQ

RESULT_ACCEPTANCE: Final = 0
RESULT_ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
RESULT_TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True)
class Implementation:
    """Who we say we are, PS3.7 D.3.3.2; the version name has at most 16 characters."""

    class_uid: str
    version_name: str


IMPLEMENTATION_CLASS_UID: Final = "2.25.213074815562049269666556978643581145739"


@dataclass(frozen=True, slots=True)
class AbstractSyntaxSupport:
    """
    How an abstract syntax is supported.

    Attributes:
        accepts_transfer_syntax: tells whether a transfer syntax will do.
        peer_may_be_scp: the requestor may have the role of an SCP for it (as C-GET needs of Storage).
        sent_best_in: transfer syntaxes, the best first, for a requestor that is the SCP and no SCU: those in which
            whatever is to be sent can be sent, before those that it names first.
        extended: answers the service class application information of SOP class extended negotiation, or gives None.
    """

    accepts_transfer_syntax: Callable[[str], bool]
    peer_may_be_scp: bool = False
    sent_best_in: tuple[str, ...] = ()
    extended: Callable[[bytes], bytes | None] | None = None


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """
    A presentation context that both sides agreed on.

    Attributes:
        requestor_is_scu, requestor_is_scp: the roles of the association's requestor; SCU alone is the default.
    """

    id: int
    abstract_syntax: str
    transfer_syntax: str
    requestor_is_scu: bool = True
    requestor_is_scp: bool = False


def choose_transfer_syntax(proposed: Sequence[str], accepts: Callable[[str], bool]) -> str | None:
    """Give the first acceptable one in the proposer's order; Implicit VR Little Endian only when it is the last."""
    fallback: str | None = None
    for transfer_syntax in proposed:
        if accepts(transfer_syntax):
            if transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN:
                return transfer_syntax
            fallback = transfer_syntax
    return fallback


def negotiate(
    request: AAssociateRQ,
    *,
    support: Callable[[str], AbstractSyntaxSupport | None],
    implementation: Implementation,
    max_pdu_length: int,
) -> tuple[AAssociateAC, dict[int, AcceptedContext]]:
    """
    Answer an association request that is to be accepted.

    Args:
        support: tells how an abstract syntax is supported; None when it is not.
        max_pdu_length: what we want to receive at most.

    Returns:
        the A-ASSOCIATE-AC, and the accepted contexts by their id.
    """
    information = request.user_information
    answers, response, accepted = _answer(
        request.presentation_contexts,
        information.role_selections,
        information.extended_negotiations,
        information.asynchronous_operations_window is not None,
        support,
        implementation,
        max_pdu_length,
    )
    accept = AAssociateAC(
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        presentation_contexts=answers,
        user_information=response,
    )
    return accept, dict(accepted)


@lru_cache(maxsize=512)
def _answer(
    contexts: tuple[PresentationContextRQ, ...],
    role_selections: tuple[RoleSelection, ...],
    extended_negotiations: tuple[ExtendedNegotiation, ...],
    proposes_window: bool,
    support: Callable[[str], AbstractSyntaxSupport | None],
    implementation: Implementation,
    max_pdu_length: int,
) -> tuple[tuple[PresentationContextAC, ...], UserInformation, Mapping[int, AcceptedContext]]:
    """Answer a proposal; peers make the same one again and again, so the answer is remembered."""
    roles = {selection.sop_class_uid: selection for selection in role_selections}
    answered_roles: dict[str, RoleSelection] = {}
    answers: list[PresentationContextAC] = []
    accepted: dict[int, AcceptedContext] = {}
    for context in contexts:
        supported = support(context.abstract_syntax)
        role = roles.get(context.abstract_syntax)
        answer = _answer_context(context, supported, role)
        answers.append(answer)
        if supported is None or answer.result != RESULT_ACCEPTANCE:
            continue
        if role is not None:
            role = RoleSelection(role.sop_class_uid, role.scu_role, role.scp_role and supported.peer_may_be_scp)
            answered_roles[role.sop_class_uid] = role
        accepted[context.id] = _accepted(context, answer, role)
    response = UserInformation(
        max_pdu_length=max_pdu_length,
        implementation_class_uid=implementation.class_uid,
        implementation_version_name=implementation.version_name,
        asynchronous_operations_window=AsynchronousOperationsWindow(1, 1) if proposes_window else None,
        role_selections=tuple(answered_roles.values()),
        extended_negotiations=_answer_extended(extended_negotiations, accepted, support),
    )
    return tuple(answers), response, accepted


def read_accepted(request: AAssociateRQ, response: AAssociateAC) -> dict[int, AcceptedContext]:
    """Give the contexts of our request that the peer accepted, by their id; an answer to no proposal is ignored."""
    proposed = {context.id: context for context in request.presentation_contexts}
    roles = {selection.sop_class_uid: selection for selection in response.user_information.role_selections}
    accepted: dict[int, AcceptedContext] = {}
    for answer in response.presentation_contexts:
        context = proposed.get(answer.id)
        if context is None or answer.result != RESULT_ACCEPTANCE:
            continue
        if answer.transfer_syntax in context.transfer_syntaxes:
            accepted[context.id] = _accepted(context, answer, roles.get(context.abstract_syntax))
    return accepted


def _answer_context(
    context: PresentationContextRQ, supported: AbstractSyntaxSupport | None, role: RoleSelection | None
) -> PresentationContextAC:
    if supported is None:
        return PresentationContextAC(context.id, RESULT_ABSTRACT_SYNTAX_NOT_SUPPORTED, context.transfer_syntaxes[0])
    if role is not None and role.scp_role and not role.scu_role and supported.peer_may_be_scp:
        for transfer_syntax in supported.sent_best_in:
            if transfer_syntax in context.transfer_syntaxes:
                return PresentationContextAC(context.id, RESULT_ACCEPTANCE, transfer_syntax)
    chosen = choose_transfer_syntax(context.transfer_syntaxes, supported.accepts_transfer_syntax)
    if chosen is None:
        return PresentationContextAC(context.id, RESULT_TRANSFER_SYNTAXES_NOT_SUPPORTED, context.transfer_syntaxes[0])
    return PresentationContextAC(context.id, RESULT_ACCEPTANCE, chosen)


def _accepted(
    context: PresentationContextRQ, answer: PresentationContextAC, role: RoleSelection | None
) -> AcceptedContext:
    return AcceptedContext(
        id=context.id,
        abstract_syntax=context.abstract_syntax,
        transfer_syntax=answer.transfer_syntax,
        requestor_is_scu=True if role is None else role.scu_role,
        requestor_is_scp=False if role is None else role.scp_role,
    )


def _answer_extended(
    proposals: tuple[ExtendedNegotiation, ...],
    accepted: dict[int, AcceptedContext],
    support: Callable[[str], AbstractSyntaxSupport | None],
) -> tuple[ExtendedNegotiation, ...]:
    abstract_syntaxes = {context.abstract_syntax for context in accepted.values()}
    answers: list[ExtendedNegotiation] = []
    for proposal in proposals:
        supported = support(proposal.sop_class_uid) if proposal.sop_class_uid in abstract_syntaxes else None
        if supported is None or supported.extended is None:
            continue
        answer = supported.extended(proposal.information)
        if answer is not None:
            answers.append(ExtendedNegotiation(proposal.sop_class_uid, answer))
    return tuple(answers)
