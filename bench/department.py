"""
A department's day in a few minutes: 20 modalities fetch their worklist, report steps, store and ask for storage
commitment, 5 workstations query and retrieve, all over TLS, while an information system schedules and a listener takes
the events. `python -m bench.department [--minutes 5]`.

At the end everything is added up: each commitment must be true to the byte, each counter must be what was done, no
event may be missing or come twice. Prints how long each operation took, and what was wrong; exits with 1 when something
was.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from bench.department_actors import Place, work
from bench.department_data import KINDS, Diary, Exam, Report, fingerprint
from bench.department_desk import DepartmentServer, EventListener, InformationSystem, ReportListener
from bench.peers import AE_TITLE, remove

MODALITIES: Final = 20
MODALITY_PROCESSES: Final = 2
WORKSTATIONS: Final = 5
SCHEDULED_AT_FIRST: Final = 4  # for each modality
SETTLE_S: Final = 90.0
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112


class Books:
    """What was expected and what was found, one line for each."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.lines: list[str] = []

    def equal(self, what: str, expected: object, found: object) -> None:
        """Hold two numbers, or two collections, against each other."""
        is_right = expected == found
        if isinstance(expected, Counter) and isinstance(found, Counter):
            shown = f"{expected.total()} expected, {found.total()} found, {(expected - found).total()} missing"
            shown += f", {(found - expected).total()} too many"
        else:
            shown = f"{expected} expected, {found} found"
        self.lines.append(f"{'ok   ' if is_right else 'WRONG'} {what}: {shown}")
        if not is_right:
            self.faults.append(what)


class Department:
    """The day: everybody begins, works, and goes home."""

    def __init__(self, directory: Path, minutes: float) -> None:
        self.minutes = minutes
        titles = [f"{KINDS[number % len(KINDS)].modality}_SCANNER_{number}" for number in range(MODALITIES)]
        self.server = DepartmentServer("productionpacs", directory / "server", modalities=titles)
        self.diary = Diary()

    def begin(self) -> None:
        """Start the server, and whoever listens."""
        self.server.start()
        self.events = EventListener(self.server.connect())
        self.events.start()
        self.reports = ReportListener(self.server)
        self.reports.start()
        self.scheduler = InformationSystem(self.server.connect())
        for _ in range(SCHEDULED_AT_FIRST):
            for title in self.server.modalities:
                self.scheduler.schedule(title)

    def work(self) -> None:
        """Let everybody work until the end."""
        context = multiprocessing.get_context("spawn")
        told: Queue[tuple[str, Any]] = context.Queue()
        ended: Queue[Exam] = context.Queue()
        ends_s = time.monotonic() + self.minutes * 60 + 2  # to start the processes
        place = Place(self.server.port, AE_TITLE, self.server.certificate, ends_s)
        processes = [
            context.Process(target=work, args=(place, list(range(MODALITIES))[start::MODALITY_PROCESSES], told, None))
            for start in range(MODALITY_PROCESSES)
        ]
        processes.append(context.Process(target=work, args=(place, list(range(WORKSTATIONS)), told, ended)))
        for process in processes:
            process.start()
        diaries = 0
        while diaries < len(processes):
            try:
                kind, value = told.get(timeout=1.0)
            except Empty:
                if not any(process.is_alive() for process in processes) and told.empty():
                    self.diary.faults.append("a process of the department has died")
                    break
                continue
            if kind == "begun":
                self.scheduler.schedule(value)
            elif kind == "exam":
                ended.put(value)
            else:
                self.diary.add(value)
                diaries += 1
        ended.cancel_join_thread()
        for process in processes:
            process.join()
        self.diary.durations_s["REST POST worklist"] = self.scheduler.durations_s
        self.diary.faults += self.reports.faults

    def settle(self) -> None:
        """Wait for the last reports and events."""
        wanted = {exam.transaction_uid for exam in self.diary.exams if not exam.reported_s}
        deadline_s = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline_s:
            completed = {event["transaction_uid"] for event in self.events.of("commitment_completed")}
            closed = len(self.events.of("association_closed"))
            if wanted <= completed and wanted <= set(self.reports.reports) and closed >= self.diary.associations:
                break
            time.sleep(0.2)
        http = self.server.connect()
        while time.monotonic() < deadline_s and b'pacs_queue_depth{queue="tasks"} 0.0' not in http.get("/metrics"):
            time.sleep(1.0)  # it is counted each ten seconds; meanwhile nothing should come

    def stop(self) -> None:
        """Close the department."""
        self.server.stop()


def take_reports(exams: Iterable[Exam], reports: dict[str, list[Report]], books: Books) -> None:
    """Put the reports that came over new associations to their examinations."""
    twice = 0
    for exam in exams:
        found = reports.get(exam.transaction_uid, [])
        twice += len(found) - 1 if found and not exam.reported_s else len(found)
        if found and not exam.reported_s:
            exam.committed, exam.failed = found[0].committed, dict(found[0].failed)
            exam.reported_s, exam.is_reported_on_new_association = found[0].received_s, True
    books.equal("reports that came again", 0, twice)


def check_commitments(exams: list[Exam], server: DepartmentServer, books: Books) -> None:
    """Each examination has one report, and it is true: what it commits is on disk, byte for byte."""
    books.equal("examinations with a report", len(exams), sum(exam.reported_s > 0 for exam in exams))
    lies = [
        exam
        for exam in exams
        if Counter(exam.committed) != Counter(exam.objects.keys())
        or exam.failed != dict.fromkeys(exam.never_stored, NO_SUCH_OBJECT_INSTANCE)
    ]
    books.equal("reports that do not say what was stored", 0, len(lies))
    wanted = {uid: crc for exam in exams for uid, crc in exam.objects.items()}
    committed = {uid for exam in exams for uid in exam.committed}
    wrong = sum(1 for uid, is_right in _read_all(server, wanted) if uid in committed and not is_right)
    missing = len(committed) - len(committed & wanted.keys())
    books.equal("committed objects that are not on disk as they were sent", 0, wrong + missing)


def _read_all(server: DepartmentServer, wanted: dict[str, int]) -> Iterator[tuple[str, bool]]:
    """Read every object's file: its SHA-256 is the index's, its data set what the modality sent."""
    data = server.directory / "data"
    with closing(sqlite3.connect(data / "index.db")) as index:
        rows = index.execute("SELECT sop_instance_uid, path, data_set_offset, sha256 FROM instances").fetchall()
    found = {uid: (path, offset, sha256) for uid, path, offset, sha256 in rows}
    for uid, crc in wanted.items():
        if uid not in found:
            yield uid, False
            continue
        path, offset, sha256 = found[uid]
        content = (data / path).read_bytes()
        yield uid, hashlib.sha256(content).hexdigest() == sha256 and fingerprint(content[offset:]) == crc


def check_events(department: Department, books: Books) -> None:
    """No event is missing, none came twice."""
    diary, events = department.diary, department.events

    def count(kind: str, field: str) -> Counter[str]:
        return Counter(str(event[field]) for event in events.of(kind))

    exams = diary.exams
    stored = Counter(uid for exam in exams for uid in exam.objects)
    books.equal("events image_received", stored, count("image_received", "sop_instance_uid"))
    steps = Counter(exam.step_uid for exam in exams for _ in range(2))
    books.equal("events mpps_changed", steps, count("mpps_changed", "sop_instance_uid"))
    asked = Counter(exam.transaction_uid for exam in exams)
    books.equal("events commitment_completed", asked, count("commitment_completed", "transaction_uid"))
    changed = Counter({"created": department.scheduler.scheduled, "status": 2 * len(exams)})
    books.equal("events worklist_changed", changed, count("worklist_changed", "action"))
    opened = diary.associations
    books.equal("events association_opened", opened, len(set(count("association_opened", "association_id"))))
    books.equal("events association_closed", opened, len(set(count("association_closed", "association_id"))))
    finds = sum(number for (operation, _), number in diary.statuses.items() if operation == "C-FIND")
    books.equal("events query_executed", finds, len(events.of("query_executed")))
    books.equal("events retrieve_completed", diary.retrievals, len(events.of("retrieve_completed")))


def check_counters(department: Department, text: str, books: Books) -> None:
    """Every counter is what was done."""
    found: dict[str, float] = {}
    requests: Counter[tuple[str, int]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "pacs_dimse_requests_total":
                requests[sample.labels["operation"], int(sample.labels["status"], 16)] = int(sample.value)
            else:
                name = sample.name + "".join(f" {value}" for value in sample.labels.values())
                found[name] = sample.value
    diary = department.diary
    books.equal("DIMSE requests by operation and status", diary.statuses, requests)
    objects = sum(len(exam.objects) for exam in diary.exams)
    failures = sum(bool(exam.never_stored) for exam in diary.exams)
    for name, expected in (
        ("pacs_stored_instances_total", objects),
        ("pacs_archive_instances", objects),
        ("pacs_archive_studies", len(diary.exams)),
        ("pacs_associations_total accepted", diary.associations),
        ("pacs_associations_active", 0),
        ("pacs_query_results_total", diary.matches),
        ("pacs_retrieved_instances_total", diary.retrieved),
        ("pacs_commitments_total success", len(diary.exams) - failures),
        ("pacs_commitments_total failures", failures),
        ("pacs_committed_instances_total", objects),
        ("pacs_queue_depth tasks", 0),
        ("pacs_component_health database", 1),
        ("pacs_component_health storage", 1),
    ):
        books.equal(name, expected, int(found.get(name, 0)))


def check_worklist(department: Department, books: Books) -> None:
    """The worklist has followed each step, and the audit log is whole."""
    server = department.server
    with closing(sqlite3.connect(server.directory / "data" / "index.db")) as index:
        statuses: Counter[str] = Counter(dict(index.execute("SELECT status, count(*) FROM worklist GROUP BY status")))
    completed = sum(exam.is_completed for exam in department.diary.exams)
    discontinued = len(department.diary.exams) - completed
    left = department.scheduler.scheduled - len(department.diary.exams)
    expected = {"COMPLETED": completed, "DISCONTINUED": discontinued, "SCHEDULED": left}
    books.equal("worklist items by status", {name: n for name, n in expected.items() if n}, dict(statuses))
    pacsctl = str(Path(sys.executable).with_name("pacsctl"))
    command = [pacsctl, "audit", "verify", "-c", str(server.config)]
    verified = subprocess.run(command, capture_output=True, cwd=server.directory, check=False)
    books.equal("exit status of 'pacsctl audit verify'", 0, verified.returncode)


def percentile(values: list[float], share: float) -> float:
    """Give the value that a share of all does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def print_durations(diary: Diary) -> None:
    """Print how long each operation took."""
    durations = dict(diary.durations_s)
    for exam in diary.exams:
        if exam.reported_s:
            way = "a new association" if exam.is_reported_on_new_association else "the same association"
            durations.setdefault(f"commitment report, {way}", []).append(exam.reported_s - exam.asked_s)
    print(f"{'operation':38} {'number':>7} {'50th ms':>9} {'99th ms':>9} {'longest':>9}")
    for name in sorted(durations):
        values = durations[name]
        shown = " ".join(f"{seconds * 1000:9.1f}" for seconds in (*_percentiles(values), max(values)))
        print(f"{name:38} {len(values):7} {shown}")


def _percentiles(values: list[float]) -> tuple[float, float]:
    return percentile(values, 0.5), percentile(values, 0.99)


def main() -> None:
    """Work, add up, report."""
    parser = argparse.ArgumentParser(prog="python -m bench.department", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--directory", type=Path, help="where the server keeps its data; a real disk")
    parser.add_argument("--keep", action="store_true", help="leave the server's data")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="department-", dir=options.directory or "/var/tmp"))
    department = Department(directory, options.minutes)
    books = Books()
    try:
        department.begin()
        department.work()
        department.settle()
        text = department.server.connect().get("/metrics").decode()
        diary = department.diary
        take_reports(diary.exams, department.reports.reports, books)
        checks: tuple[Callable[[], None], ...] = (
            lambda: check_commitments(diary.exams, department.server, books),
            lambda: check_events(department, books),
            lambda: check_counters(department, text, books),
            lambda: check_worklist(department, books),
        )
        for check in checks:
            check()
    finally:
        department.stop()
        if not options.keep:
            remove(directory)
    objects = sum(len(exam.objects) for exam in diary.exams)
    print(f"{len(diary.exams)} examinations, {objects} objects, {diary.retrievals} studies retrieved,"
          f" {diary.associations} associations in {options.minutes:g} minutes\n")  # fmt: skip
    print_durations(diary)
    print("\n" + "\n".join(books.lines))
    faults = Counter(diary.faults)
    for fault, number in faults.most_common(20):
        print(f"FAULT {number} x {fault}")
    if books.faults or faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
