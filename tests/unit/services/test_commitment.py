"""
Requests for storage commitment as bytes: whatever comes is read, or refused with a status of PS3.7.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.archive.custody import Reference
from pacs.dataset.elements import read_elements
from pacs.dataset.values import Value, ValueEncoder, Values, values_of
from pacs.dimse import DIMSEError, Status
from pacs.services.commitment import read_request
from pacs.tasks.commitment_report import Report

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
TRANSACTION, CLASS, INSTANCE, REASON = 0x00081195, 0x00081150, 0x00081155, 0x00081197
FAILED, REFERENCED = 0x00081198, 0x00081199

uids = st.from_regex(r"[1-9][0-9]{0,5}(\.[1-9][0-9]{0,5}){0,7}", fullmatch=True)
syntaxes = st.sampled_from((IMPLICIT, EXPLICIT, BIG_ENDIAN))


def reference(instance: str) -> Values:
    return {CLASS: Value("UI", CT), INSTANCE: Value("UI", instance)}


def request(transaction: str, instances: list[str], syntax: str) -> bytes:
    items = tuple(reference(instance) for instance in instances)
    return ValueEncoder(syntax).data_set(
        {TRANSACTION: Value("UI", transaction), REFERENCED: Value("SQ", "", items)}, ""
    )


@given(uids, st.lists(uids, min_size=1, max_size=5), syntaxes)
def test_a_request_is_read_as_it_was_written(transaction: str, instances: list[str], syntax: str) -> None:
    found = read_request(request(transaction, instances, syntax), syntax)
    assert found == (transaction, tuple(Reference(CT, instance) for instance in instances))


@given(st.binary(max_size=200), st.integers(min_value=0), syntaxes)
def test_whatever_comes_is_a_request_or_a_refusal(noise: bytes, position: int, syntax: str) -> None:
    whole = request("1.2.3", ["1.2.3.4", "1.2.3.5"], syntax)
    at = position % (len(whole) + 1)
    for data in (noise, whole[:at], whole[:at] + noise + whole[at:]):
        try:
            read_request(data, syntax)
        except DIMSEError as error:
            assert error.status in (Status.PROCESSING_FAILURE, Status.INVALID_ARGUMENT_VALUE)


@pytest.mark.parametrize("instance", ["1.2.3x", "1..2", "1.2." + "3" * 64, " "])
def test_what_is_no_uid_is_refused(instance: str) -> None:
    with pytest.raises(DIMSEError) as refused:
        read_request(request("1.2.3", [instance], EXPLICIT), EXPLICIT)
    assert refused.value.status == Status.INVALID_ARGUMENT_VALUE


@given(st.lists(uids, max_size=3), st.lists(st.tuples(uids, st.integers(0, 0xFFFF)), max_size=3), syntaxes)
def test_a_report_says_what_is_committed_and_why_the_rest_is_not(
    committed: list[str], failed: list[tuple[str, int]], syntax: str
) -> None:
    """PS3.4 table J.3-2; event type 2 as soon as one object has failed."""
    report = Report(
        "1.2.3",
        "ARCHIVE",
        tuple(Reference(CT, uid) for uid in committed),
        tuple((Reference(CT, uid), reason) for uid, reason in failed),
    )
    assert report.event_type_id == (2 if failed else 1)
    order = ">" if syntax == BIG_ENDIAN else "<"
    values = values_of(read_elements(report.encode(syntax), syntax), "", order)
    assert values[TRANSACTION].text == "1.2.3"
    items = {tag: values[tag].items or () for tag in (REFERENCED, FAILED) if tag in values}
    assert [item[INSTANCE].text for item in items.get(REFERENCED, ())] == committed
    assert [(item[INSTANCE].text, int(item[REASON].text)) for item in items.get(FAILED, ())] == failed
    assert set(items) == {tag for tag, wanted in ((REFERENCED, committed), (FAILED, failed)) if wanted}
