"""
`pacsctl worklist`, with a running server and without one.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.audit import wait_for_record
from tests.conftest import MakeServer
from tests.http import HTTP
from tests.server import Server
from tests.worklist import accession_numbers, find, keys, pacsctl, scheduled, write_wl

ADD = (
    "add", "--patient-id", "P1", "--patient-name", "Doe^Jane", "--modality", "CT", "--station-ae-title", "CT_SCANNER_1",
    "--scheduled-datetime", "2026-11-25T10:30", "--accession-number", "ACC9", "--description", "Thorax",
)  # fmt: skip


def listed(server: Server, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(pacsctl(server, "list", "--json", *options).stdout)["items"]
    return found


def test_items_are_added_listed_imported_and_removed_beside_a_server(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    added = json.loads(pacsctl(server, *ADD, "--json").stdout)
    (answer,) = find(server.port, keys(Modality="CT", ScheduledProcedureStepStartTime="1030"))
    assert (answer.AccessionNumber, answer.ScheduledProcedureStepSequence[0].Modality) == ("ACC9", "CT")

    files = write_wl(tmp_path / "wl", (scheduled(1), scheduled(2, station=["ROOM_A", "ROOM_B"])))
    assert pacsctl(server, "import", str(files)).stdout == "2 added, 0 replaced\n"
    assert pacsctl(server, "import", str(files)).stdout == "0 added, 2 replaced\n"
    assert len(find(server.port, keys())) == 3
    for station, numbers in (
        ("ROOM_A", ["ACC2"]),
        ("ROOM_B", ["ACC2"]),
        ("ROOM_", []),
        ("CT_SCANNER_1", ["ACC1", "ACC9"]),
    ):
        assert accession_numbers(find(server.port, keys(ScheduledStationAETitle=station))) == numbers
    assert "3 of 3" in pacsctl(server, "list").stdout
    assert [item["patient_id"] for item in listed(server, "--patient-id", "PID2")] == ["PID2"]
    assert len(listed(server, "--from", "2026-11-25", "--to", "20261125")) == 3
    for option, value, fault in (
        ("--from", "25.11.2026", "scheduled_date_from: not a date, YYYYMMDD or YYYY-MM-DD"),
        ("--status", "DONE", "status: one of SCHEDULED, STARTED, COMPLETED, DISCONTINUED"),
    ):
        refused = pacsctl(server, "list", option, value, check=False)
        assert (refused.returncode, refused.stderr) == (1, f"worklist list: {fault}\n")

    assert pacsctl(server, "remove", str(added["id"])).stdout == "removed 1\n"
    refused = pacsctl(server, "remove", str(added["id"]), check=False)
    assert (refused.returncode, refused.stderr) == (1, "worklist remove: there is no such worklist item\n")
    assert {item["accession_number"] for item in listed(server)} == {"ACC1", "ACC2"}


def test_items_are_written_without_a_server_and_survive_a_new_index(tmp_path: Path) -> None:
    server = Server(tmp_path)
    assert pacsctl(server, *ADD).stdout == "added 1\n"
    wrong = pacsctl(server, "add", "--patient-id", "P1", check=False)
    assert (wrong.returncode, wrong.stderr) == (1, "worklist add: patient_name: a value is needed\n")
    (tmp_path / "bad.csv").write_text("patient_id,patient_name\nP1,Doe^Jane\n")
    wrong = pacsctl(server, "import", str(tmp_path / "bad.csv"), check=False)
    assert wrong.returncode == 1
    assert "bad.csv:2: modality: a value is needed" in wrong.stderr
    assert [item["accession_number"] for item in listed(server)] == ["ACC9"]

    reindexed = pacsctl(server, "--json", check=False, group="reindex")
    assert json.loads(reindexed.stdout)["kept"] == 1
    server.start()
    try:
        assert [answer.AccessionNumber for answer in find(server.port, keys())] == ["ACC9"]
    finally:
        assert server.stop() == 0


def test_what_is_done_without_a_server_is_recorded_and_in_the_feed(tmp_path: Path) -> None:
    server = Server(tmp_path, HTTP)
    added = json.loads(pacsctl(server, *ADD, "--json").stdout)
    files = write_wl(tmp_path / "wl", (scheduled(1), scheduled(2)))
    assert pacsctl(server, "import", str(files)).stdout == "2 added, 0 replaced\n"
    assert pacsctl(server, "remove", str(added["id"])).stdout == "removed 1\n"
    with closing(sqlite3.connect(server.root / "index.db")) as index:
        rows = index.execute("SELECT data FROM changes WHERE kind = 'worklist_changed' ORDER BY id").fetchall()
    changes = [json.loads(data) for (data,) in rows]
    assert [change["action"] for change in changes] == ["created", "created", "created", "deleted"]
    assert {change["user"] for change in changes} == {"pacsctl"}
    assert len(wait_for_record(server, "Procedure Record", number=4)) == 4


def test_items_survive_a_server_that_is_killed_right_after_it_said_so(make_server: MakeServer) -> None:
    server = make_server()
    assert pacsctl(server, *ADD).stdout == "added 1\n"
    server.kill()
    server.start()
    assert [answer.AccessionNumber for answer in find(server.port, keys())] == ["ACC9"]


def test_what_an_operator_can_not_have_is_no_failure_of_the_server(make_server: MakeServer) -> None:
    server = make_server()
    refused = [
        pacsctl(server, *arguments, check=False)
        for arguments in (
            ("remove", "9"),
            ("add", "--patient-id", "P1"),
            ("add", *ADD[1:], "--birth-date", "x"),
            ("list", "--limit", "99999999999999999999"),
            ("list", "--offset", "99999999999999999999"),
            ("list", "--from", "x"),
        )
    ]
    assert [(done.returncode, done.stderr.count("\n")) for done in refused] == [(1, 1)] * len(refused)
    assert "critical" not in server.log()
    assert "Traceback" not in server.log()
