"""
Which presentation contexts are proposed for objects, and which of the accepted ones is used.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.tasks.contexts import NotAccepted, SendingContexts, propose
from pacs.ul import AcceptedContext

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG_2000, RLE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


def test_each_stored_transfer_syntax_has_a_context_and_the_uncompressed_ones_have_one() -> None:
    (proposal,) = propose([(CT, JPEG_2000), (CT, EXPLICIT), (CT, JPEG_2000)])
    assert [context.transfer_syntaxes for context in proposal.contexts] == [(EXPLICIT,), (JPEG_2000,), (IMPLICIT,)]
    (proposal,) = propose([(CT, RLE)])
    assert [context.transfer_syntaxes for context in proposal.contexts] == [(RLE,), (EXPLICIT, IMPLICIT)]


@given(st.sets(st.tuples(st.integers(1, 200), st.sampled_from((IMPLICIT, EXPLICIT, JPEG_2000, RLE))), max_size=400))
def test_every_object_has_its_context_in_one_association_of_at_most_128(kinds: set[tuple[int, str]]) -> None:
    proposals = propose((f"1.2.{number}", transfer_syntax) for number, transfer_syntax in kinds)
    for proposal in proposals:
        ids = [context.id for context in proposal.contexts]
        assert len(ids) <= 128
        assert all(0 < number < 256 and number % 2 for number in ids)
        assert len(set(ids)) == len(ids)
    for number, transfer_syntax in kinds:
        (proposal,) = (proposal for proposal in proposals if f"1.2.{number}" in proposal.sop_classes)
        offered = [c.transfer_syntaxes for c in proposal.contexts if c.abstract_syntax == f"1.2.{number}"]
        assert (transfer_syntax,) in offered
        assert any(IMPLICIT in item for item in offered), "PS3.5 10.1"


def test_the_stored_transfer_syntax_is_used_before_any_other() -> None:
    contexts = SendingContexts(
        [AcceptedContext(1, CT, EXPLICIT), AcceptedContext(3, CT, RLE)], targets=lambda _: (IMPLICIT, EXPLICIT)
    )
    assert contexts.choose(CT, RLE).id == 3
    assert contexts.choose(CT, JPEG_2000).id == 1
    with pytest.raises(NotAccepted, match="SOP class"):
        contexts.choose("1.2.3", RLE)


def test_what_can_t_be_transcoded_is_not_accepted() -> None:
    contexts = SendingContexts([AcceptedContext(1, CT, RLE)], targets=lambda _: (IMPLICIT, EXPLICIT))
    with pytest.raises(NotAccepted, match="transfer syntax"):
        contexts.choose(CT, JPEG_2000)
