"""
The rules of performed steps, PS3.4 F.7.2, without a network: every transition, every type.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.dataset.values import Value
from pacs.workflow import tags
from pacs.workflow.errors import InvalidValue, MissingAttribute, MissingValue, StepIsFinal, WorkflowError
from pacs.workflow.step import (
    EMPTY_IF_ABSENT,
    REQUIRED,
    REQUIRED_AT_THE_END,
    UNCHANGEABLE,
    PerformedStep,
    StepStatus,
    changed_step,
    missing_of_type_2,
    new_step,
)

REFERENCE = {tags.STUDY_INSTANCE_UID: Value("UI", "1.2.3"), tags.STEP_ID: Value("SH", "S1")}
BEGIN = {
    tags.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE: Value("SQ", "", (REFERENCE,)),
    tags.PERFORMED_STEP_ID: Value("SH", "P1"),
    tags.PERFORMED_STATION_AE_TITLE: Value("AE", "CT"),
    tags.PERFORMED_START_DATE: Value("DA", "20261125"),
    tags.PERFORMED_START_TIME: Value("TM", "1005"),
    tags.PERFORMED_STEP_STATUS: Value("CS", "IN PROGRESS"),
    tags.MODALITY: Value("CS", "CT"),
}
SERIES = {tags.SERIES_INSTANCE_UID: Value("UI", "1.2.3.4")}
END = {
    tags.PERFORMED_END_DATE: Value("DA", "20261125"),
    tags.PERFORMED_END_TIME: Value("TM", "1020"),
    tags.PERFORMED_SERIES_SEQUENCE: Value("SQ", "", (SERIES,)),
}


def with_status(status: str) -> dict[int, Value]:
    return {**END, tags.PERFORMED_STEP_STATUS: Value("CS", status)}


def begun() -> PerformedStep:
    return new_step("1.2.9", BEGIN, "CT")


def test_a_step_has_every_attribute_of_type_2_at_least_empty() -> None:
    assert missing_of_type_2(BEGIN) == tuple(EMPTY_IF_ABSENT)
    assert set(EMPTY_IF_ABSENT) <= set(begun().values)
    assert begun().values[tags.PERFORMED_SERIES_SEQUENCE].items == ()


@pytest.mark.parametrize("tag", REQUIRED)
def test_every_attribute_of_type_1_is_required_with_a_value(tag: int) -> None:
    with pytest.raises(MissingAttribute) as missing:
        new_step("1.2.9", {key: value for key, value in BEGIN.items() if key != tag}, "CT")
    with pytest.raises(MissingValue) as empty:
        new_step("1.2.9", {**BEGIN, tag: Value(BEGIN[tag].vr)}, "CT")
    assert missing.value.tags == empty.value.tags == (tag,)


TRANSITIONS = [
    ("IN PROGRESS", "IN PROGRESS", None),
    ("IN PROGRESS", "COMPLETED", None),
    ("IN PROGRESS", "DISCONTINUED", None),
    ("IN PROGRESS", "SCHEDULED", InvalidValue),
    *(
        (final, new, StepIsFinal)
        for final in ("COMPLETED", "DISCONTINUED")
        for new in ("IN PROGRESS", "COMPLETED", "DISCONTINUED")
    ),
]
"""PS3.4 table F.7.1-3: from nothing else than IN PROGRESS is there a way."""


@pytest.mark.parametrize(("before", "after", "error"), TRANSITIONS)
def test_transitions_are_those_of_the_table(before: str, after: str, error: type[WorkflowError] | None) -> None:
    step = changed_step(begun(), with_status(before))
    assert step.status is StepStatus(before)
    if error is None:
        assert changed_step(step, with_status(after)).status is StepStatus(after)
    else:
        with pytest.raises(error):
            changed_step(step, with_status(after))


@pytest.mark.parametrize("tag", sorted(UNCHANGEABLE))
def test_what_n_set_may_not_change_may_come_again_as_it_is(tag: int) -> None:
    step = begun()
    same = step.values[tag] if tag in step.values else Value("SH")
    if tag in step.values:
        assert changed_step(step, {tag: same}) == step
    with pytest.raises(InvalidValue):
        changed_step(step, {tag: Value(same.vr, "OTHER")})


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
@pytest.mark.parametrize("tag", REQUIRED_AT_THE_END)
def test_the_end_has_a_date_and_a_time(status: str, tag: int) -> None:
    with pytest.raises(MissingValue):
        changed_step(begun(), {**with_status(status), tag: Value("DA")})


def test_what_is_completed_has_series_and_what_is_given_up_need_not() -> None:
    empty = Value("SQ", "", ())
    with pytest.raises(MissingValue):
        changed_step(begun(), {**with_status("COMPLETED"), tags.PERFORMED_SERIES_SEQUENCE: empty})
    given_up = changed_step(begun(), {**with_status("DISCONTINUED"), tags.PERFORMED_SERIES_SEQUENCE: empty})
    assert given_up.status is StepStatus.DISCONTINUED


def test_objects_are_counted_and_fields_are_plain() -> None:
    image = {0x00081155: Value("UI", "1.2.3.4.1")}
    series = {
        **SERIES,
        tags.REFERENCED_IMAGE_SEQUENCE: Value("SQ", "", (image, image)),
        tags.REFERENCED_NON_IMAGE_SEQUENCE: Value("SQ", "", (image,)),
    }
    changes = {**with_status("COMPLETED"), tags.PERFORMED_SERIES_SEQUENCE: Value("SQ", "", (series,))}
    fields = changed_step(begun(), changes).as_dict()
    assert (fields["num_series"], fields["num_instances"]) == (1, 3)
    assert (fields["started_at"], fields["ended_at"]) == ("2026-11-25T10:05:00", "2026-11-25T10:20:00")
    assert (fields["study_instance_uid"], fields["step_ids"]) == ("1.2.3", ["S1"])


_any_value = st.one_of(
    st.builds(Value, st.sampled_from(["LO", "CS", "DA", "SQ"]), st.text(max_size=5)),
    st.just(Value("SQ", "", ({},))),
)


@given(st.dictionaries(st.sampled_from([*REQUIRED, *EMPTY_IF_ABSENT, 0x00100010, 0x00090010]), _any_value))
def test_whatever_is_sent_is_a_step_or_a_refusal(changes: dict[int, Value]) -> None:
    try:
        step = changed_step(begun(), changes)
    except WorkflowError:
        return
    assert step.status in StepStatus
    assert step.as_dict()["sop_instance_uid"] == "1.2.9"
