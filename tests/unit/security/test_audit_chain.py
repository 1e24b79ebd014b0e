"""
The audit log's chain: whatever is done to the files is found, and what a crash leaves is not taken for tampering.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.events import StudyInstances
from pacs.security.audit.builders import Builder, Party
from pacs.security.audit.codes import AlertKind, Outcome
from pacs.security.audit.files import log_files
from pacs.security.audit.messages import AuditMessage
from pacs.security.audit.reading import Filter, read_records
from pacs.security.audit.records import AuditKeyError, load_key
from pacs.security.audit.verify import Verdict, verify
from pacs.security.audit.writer import AuditSettings, AuditWriter

BUILDER = Builder("PACS", "pacs.example", "1234")


def audit_settings(directory: Path, *, rotate_bytes: int = 1 << 30, reserve_bytes: int = 1 << 20) -> AuditSettings:
    return AuditSettings(
        log_path=directory / "audit.log",
        key_path=directory / "keys" / "audit.key",
        head_path=directory / "audit.head",
        rotate_bytes=rotate_bytes,
        reserve_bytes=reserve_bytes,
    )


def begin(number: int) -> AuditMessage:
    study = StudyInstances(f"1.2.{number}", f"ID{number}")
    return BUILDER.begin_transferring(Party("A", "10.0.0.1"), Party("B", "10.0.0.2"), study)


def alert(text: str) -> AuditMessage:
    return BUILDER.security_alert(
        AlertKind.NODE_AUTHENTICATION, text, outcome=Outcome.MINOR_FAILURE, party=None, subject=""
    )


def wait_until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def write(audit: AuditSettings, *messages: AuditMessage) -> None:
    writer = AuditWriter(settings=audit, builder=BUILDER, changed=lambda _, __: None, written=lambda _: None)
    writer.start()
    for message in messages:
        writer.put(message)
    writer.stop()


def judge(audit: AuditSettings, *, first_sequence: int = 1) -> Verdict:
    key = load_key(audit.key_path, may_make=False)
    return verify(audit.log_path, key=key, head_path=audit.head_path, first_sequence=first_sequence)


def test_what_was_written_is_intact_and_private(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path)
    write(audit, *map(begin, range(5)))
    write(audit, *map(begin, range(3)))
    assert judge(audit) == Verdict(8, 1, 8, file="", line=0)
    for path in (audit.log_path, audit.key_path, audit.head_path):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def six_records() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        audit = audit_settings(Path(directory))
        write(audit, *map(begin, range(6)))
        parts = (audit.key_path.read_bytes(), audit.head_path.read_bytes(), audit.log_path.read_bytes())
    return b"\0".join(parts)


def tampered(parts: bytes, change: Callable[[bytes], bytes]) -> Verdict:
    key, head, log = parts.split(b"\0", 2)
    with tempfile.TemporaryDirectory() as directory:
        audit = audit_settings(Path(directory))
        audit.key_path.parent.mkdir()
        for path, content in ((audit.key_path, key), (audit.head_path, head), (audit.log_path, change(log))):
            path.write_bytes(content)
            path.chmod(0o600)
        return judge(audit)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found_where_it_is(six_records: bytes, data: st.DataObject) -> None:
    log = six_records.split(b"\0", 2)[2]
    place = data.draw(st.integers(0, len(log) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != log[place]))
    verdict = tampered(six_records, lambda text: text[:place] + bytes((other,)) + text[place + 1 :])
    assert not verdict.is_intact
    number = log[:place].count(b"\n") + 1
    assert verdict.bad_sequence == number


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5))
def test_a_removed_a_repeated_and_a_swapped_record_are_found(six_records: bytes, one: int, other: int) -> None:
    lines = six_records.split(b"\0", 2)[2].splitlines(keepends=True)
    removed = tampered(six_records, lambda _: b"".join(lines[:one] + lines[one + 1 :]))
    assert removed.bad_sequence == one + 1
    repeated = tampered(six_records, lambda _: b"".join([*lines[: one + 1], lines[one], *lines[one + 1 :]]))
    assert repeated.bad_sequence == one + 2
    if one != other:
        swapped = list(lines)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        assert tampered(six_records, lambda _: b"".join(swapped)).bad_sequence == min(one, other) + 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_log_that_was_cut_off_anywhere_is_found(six_records: bytes, data: st.DataObject) -> None:
    log = six_records.split(b"\0", 2)[2]
    length = data.draw(st.integers(0, len(log) - 1))
    verdict = tampered(six_records, lambda text: text[:length])
    assert verdict.bad_sequence == log[:length].count(b"\n") + 1


def test_records_of_another_key_are_found(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path)
    write(audit, begin(1))
    audit.key_path.write_text("0123456789abcdef0123456789abcdef\n")
    assert judge(audit).bad_sequence == 1


def test_a_log_without_its_head_or_key_is_not_taken_for_whole(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path)
    write(audit, begin(1))
    audit.head_path.unlink()
    assert "head" in judge(audit).fault
    audit.key_path.unlink()
    with pytest.raises(AuditKeyError, match="missing"):
        write(audit, begin(2))
    audit.key_path.write_text("0" * 64)
    audit.key_path.chmod(0o640)
    with pytest.raises(AuditKeyError, match="chmod 600"):
        write(audit, begin(2))


def test_a_gap_stays_visible_after_the_server_has_gone_on(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path)
    write(audit, *map(begin, range(5)))
    lines = audit.log_path.read_bytes().splitlines(keepends=True)
    audit.log_path.write_bytes(b"".join(lines[:3]))
    write(audit, begin(9))
    verdict = judge(audit)
    assert verdict.bad_sequence == 4
    assert "records 4 to 5 are missing" in verdict.fault
    alerts = read_records(audit.log_path, Filter(event="110113")).records
    assert "records 4 to 5" in alerts[0].message


def test_an_unfinished_record_is_cut_off_reported_and_no_fault(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path)
    write(audit, begin(1), begin(2))
    with audit.log_path.open("ab") as file:
        file.write(b'{"sequence":3,"previous":"abc')
    assert judge(audit).unfinished_bytes == 29
    assert judge(audit).is_intact
    write(audit, begin(3))
    assert judge(audit).is_intact
    assert read_records(audit.log_path, Filter(event="110113")).total == 1


def test_rotation_keeps_the_chain_and_a_removed_file_is_found(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path, rotate_bytes=3000)
    for round_ in range(4):
        write(audit, *(alert(f"{round_} {number}") for number in range(4)))
    files = log_files(audit.log_path)
    assert len(files) > 2
    assert judge(audit) == Verdict(16, 1, 16)
    first_of_second = int(files[1].suffix[1:])
    files[0].unlink()
    assert judge(audit).bad_sequence == 1
    assert judge(audit, first_sequence=first_of_second).is_intact
    assert read_records(audit.log_path, Filter()).total == 16 - first_of_second + 1


def test_what_somebody_does_to_the_file_while_it_is_written_is_reported(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path)
    positions: list[int] = []
    writer = AuditWriter(
        settings=audit, builder=BUILDER, changed=lambda _, __: None, written=lambda end: positions.append(end.sequence)
    )
    writer.start()
    writer.put(alert("one"))
    wait_until(lambda: bool(positions))
    audit.log_path.rename(tmp_path / "stolen")
    writer.put(alert("two"))
    writer.stop()
    assert judge(audit).bad_sequence == 1
    assert "removed" in read_records(audit.log_path, Filter()).records[-1].message


def test_records_are_found_by_time_user_and_event_newest_first(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path, rotate_bytes=4000)
    for number in range(10):
        write(audit, begin(number), alert(f"{number}"))
    everything = read_records(audit.log_path, Filter(), limit=1000)
    assert [record.position.sequence for record in everything.records] == list(range(20, 0, -1))
    page = read_records(audit.log_path, Filter(event="110102", user="A"), limit=3, offset=2)
    assert page.total == 10
    assert [record.position.sequence for record in page.records] == [15, 13, 11]
    assert read_records(audit.log_path, Filter(user="nobody")).total == 0
    middle = everything.records[10].time
    assert read_records(audit.log_path, Filter(begin=middle)).total >= 10
    assert read_records(audit.log_path, Filter(end=middle[:10])).total == 20


FILL = """
import resource, signal, sys
from pathlib import Path
from tests.unit.security.test_audit_chain import *
audit = audit_settings(Path(sys.argv[1]), reserve_bytes=0)
states = []
writer = AuditWriter(
    settings=audit, builder=BUILDER, changed=lambda ok, why: states.append((ok, why)), written=lambda _: None
)
writer.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
for number in range(20):
    writer.put(alert(str(number)))
wait_until(lambda: states)
assert states[0][0] is False and "too large" in states[0][1], states
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
wait_until(lambda: len(states) > 1)
assert states[1] == (True, ""), states
writer.stop()
"""


def test_a_log_that_cannot_grow_says_so_and_goes_on_without_a_gap(tmp_path: Path) -> None:
    """RELIABILITY S7; the limit on a file's size stands for a full disk."""
    subprocess.run([sys.executable, "-c", FILL, str(tmp_path)], check=True, timeout=60)
    audit = audit_settings(tmp_path)
    assert judge(audit).is_intact
    messages = [record.message for record in read_records(audit.log_path, Filter(), limit=100).records]
    assert sum("110133" in message for message in messages) == 1
    assert sum("110134" in message for message in messages) == 1
    assert all(any(f"{base}" in message for message in messages) for base in range(20))


def test_space_is_reserved_ahead_of_the_logs_end_and_given_back(tmp_path: Path) -> None:
    audit = audit_settings(tmp_path, reserve_bytes=8 << 20)
    writer = AuditWriter(settings=audit, builder=BUILDER, changed=lambda _, __: None, written=lambda _: None)
    writer.start()
    assert audit.log_path.stat().st_blocks * 512 >= 8 << 20
    assert audit.log_path.stat().st_size == 0
    writer.stop()
    assert audit.log_path.stat().st_blocks * 512 < 1 << 20
