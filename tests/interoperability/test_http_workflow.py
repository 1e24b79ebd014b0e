"""
Worklist and performed steps over HTTP: what is scheduled there a modality finds, and what it reports is seen there.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.audit import records, wait_for_record
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.http import HTTP, Reply, admin_token, fetch, metrics, new_token
from tests.interoperability.test_mpps import MPPS, SUCCESS, ended, in_progress, modality
from tests.server import Server, run_tool
from tests.worklist import find, keys

ITEM = {
    "patient_id": "PID1",
    "patient_name": "Müller^Jörg",
    "birth_date": "1961-01-02",
    "sex": "M",
    "accession_number": "ACC1",
    "scheduled_datetime": "2026-11-25T10:00:00",
    "station_ae_title": "CT_SCANNER_1",
    "modality": "CT",
    "description": "Head",
    "referring_physician": "Cuddy^Lisa",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that the tests of this module share; each has accession numbers of its own."""
    server = Server(tmp_path_factory.mktemp("workflow"), HTTP)
    server.start()
    yield server
    assert server.stop() == 0


def schedule(server: Server, **more: Any) -> dict[str, Any]:
    """Schedule a step; give it."""
    reply = fetch(server, "/api/v1/worklist", method="POST", json_body={**ITEM, **more})
    assert reply.status == 201, reply.body
    found: dict[str, Any] = reply.json
    assert reply.headers["location"] == f"/api/v1/worklist/{found['id']}"
    return found


def test_many_who_schedule_and_many_who_store_all_get_their_turn(server: Server) -> None:
    """Both write the index; neither waits for the other to come to an end."""
    is_over = threading.Event()
    scheduled = [0] * 6

    def write(number: int) -> None:
        while not is_over.is_set():
            schedule(server, accession_number=f"TURN{number}.{scheduled[number]}")
            scheduled[number] += 1

    def store(number: int) -> list[int]:
        with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT), calling=f"TURN{number}") as client:
            uids = [f"1.2.90.{number}.{i}" for i in range(40)]
            return [client.store(ct_data_set(uid), uid, message_id=i + 1).status for i, uid in enumerate(uids)]

    with ThreadPoolExecutor(len(scheduled) + 8) as pool:
        writing = [pool.submit(write, number) for number in range(len(scheduled))]
        try:
            statuses = list(pool.map(store, range(8), timeout=30))
        finally:
            is_over.set()
        for each in writing:
            each.result()
    assert statuses == [[0] * 40] * 8
    assert all(scheduled)


def on_worklist(server: Server, accession_number: str) -> list[Dataset]:
    """Give what a modality finds."""
    identifier = keys(ScheduledProcedureStepStartTime="", Modality="")
    identifier.AccessionNumber = accession_number
    identifier.PatientName = identifier.StudyInstanceUID = ""
    return find(server.port, identifier)


def put(server: Server, item: dict[str, Any]) -> Reply:
    return fetch(server, f"/api/v1/worklist/{item['id']}", method="PUT", json_body=item)


def test_a_step_that_curl_schedules_is_on_a_modalitys_worklist(server: Server) -> None:
    url = f"http://localhost:{server.http_port}/api/v1/worklist"
    token = f"Authorization: Bearer {admin_token(server)}"
    body = json.dumps({**ITEM, "accession_number": "CURL1"})
    made = json.loads(
        run_tool("curl", "-s", "-H", token, "-H", "Content-Type: application/json", "-d", body, url).stdout
    )
    assert made["status"] == "SCHEDULED"
    assert made["study_instance_uid"]
    assert made["step_id"]
    assert made["birth_date"] == "19610102"
    assert made["scheduled_datetime"] == ITEM["scheduled_datetime"]
    assert json.loads(run_tool("curl", "-s", "-H", token, f"{url}/{made['id']}").stdout) == made
    (answer,) = on_worklist(server, "CURL1")
    assert str(answer.PatientName) == ITEM["patient_name"]
    assert answer.StudyInstanceUID == made["study_instance_uid"]
    assert answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime == "100000"


def test_an_item_is_changed_and_removed_and_the_modality_sees_it(server: Server) -> None:
    made = schedule(server, accession_number="CHG1")
    changed = put(server, {**made, "modality": "MR", "station_ae_title": None})
    assert changed.status == 200
    assert changed.json == {**made, "modality": "MR", "station_ae_title": ""}
    (answer,) = on_worklist(server, "CHG1")
    assert answer.ScheduledProcedureStepSequence[0].Modality == "MR"
    assert fetch(server, f"/api/v1/worklist/{made['id']}", method="DELETE").status == 204
    assert on_worklist(server, "CHG1") == []
    for method, body in (("GET", None), ("DELETE", None), ("PUT", ITEM)):
        reply = fetch(server, f"/api/v1/worklist/{made['id']}", method=method, json_body=body)
        assert (reply.status, reply.error) == (404, "NOT_FOUND")


def test_the_list_is_filtered_sorted_and_paged(server: Server) -> None:
    for number, day in enumerate(("03", "01", "02"), start=1):
        schedule(server, accession_number=f"LIST{number}", patient_id="LISTED", scheduled_datetime=f"2027-05-{day}")

    def listed(query: str) -> tuple[int, list[str]]:
        reply = fetch(server, f"/api/v1/worklist?patient_id=LISTED{query}")
        assert reply.status == 200, reply.body
        return reply.json["pagination"]["total"], [item["accession_number"] for item in reply.json["data"]]

    assert listed("") == (3, ["LIST2", "LIST3", "LIST1"])
    assert listed("&sort=-scheduled_datetime") == (3, ["LIST1", "LIST3", "LIST2"])
    assert listed("&sort=accession_number&limit=2") == (3, ["LIST1", "LIST2"])
    assert listed("&sort=accession_number&limit=2&offset=2") == (3, ["LIST3"])
    assert listed("&scheduled_date_from=2027-05-02&scheduled_date_to=20270502") == (1, ["LIST3"])
    assert listed("&status=STARTED") == (0, [])
    for wrong in ("status=ARRIVED", "sort=patient_name", "scheduled_date_from=May", "patient_name=x", "limit=0"):
        assert fetch(server, f"/api/v1/worklist?{wrong}").status == 400, wrong
    assert fetch(server, "/api/v1/worklist?scheduled_date_from=20270231").status == 422


@pytest.mark.parametrize(
    "change",
    [
        {"patient_id": None},
        {"patient_id": ""},
        {"patient_name": 4},
        {"modality": "ct"},
        {"scheduled_datetime": "tomorrow"},
        {"birth_date": "19611301"},
        {"study_instance_uid": "1.2.x"},
        {"status": "DONE"},
        {"description": "x" * 65},
        {"unknown": "x"},
        {"id": 4},
    ],
)
def test_a_field_that_is_wrong_is_named_and_nothing_is_scheduled(server: Server, change: dict[str, Any]) -> None:
    before = fetch(server, "/api/v1/worklist").json["pagination"]["total"]
    reply = fetch(server, "/api/v1/worklist", method="POST", json_body={**ITEM, **change})
    assert (reply.status, reply.error) == (422, "UNPROCESSABLE")
    assert next(iter(change)) in reply.json["error"]["message"]
    assert fetch(server, "/api/v1/worklist").json["pagination"]["total"] == before


def test_the_id_of_a_body_must_be_that_of_the_path(server: Server) -> None:
    made = schedule(server, accession_number="ID1")
    reply = fetch(server, f"/api/v1/worklist/{made['id']}", method="PUT", json_body={**made, "id": made["id"] + 1})
    assert reply.status == 422


def test_a_performed_step_and_what_it_does_to_its_item_are_seen(server: Server) -> None:
    made = schedule(server, accession_number="PERF1", study_instance_uid="1.2.826.0.1.71", step_id="SPS71")
    uid = generate_uid()
    with modality(server, MPPS) as association:
        assert association.send_n_create(in_progress(71), MPPS, uid)[0].Status == SUCCESS
        started = fetch(server, f"/api/v1/mpps/{uid}").json
        assert fetch(server, f"/api/v1/worklist/{made['id']}").json["status"] == "STARTED"
        assert association.send_n_set(ended(), MPPS, uid)[0].Status == SUCCESS
    assert started["status"] == "IN PROGRESS"
    assert started["step_ids"] == ["SPS71"]
    assert started["started_at"] == "2026-11-25T10:05:00"
    done = fetch(server, f"/api/v1/mpps/{uid}").json
    assert (done["status"], done["num_series"], done["num_instances"]) == ("COMPLETED", 1, 2)
    assert done["ended_at"] == "2026-11-25T10:20:00"
    assert fetch(server, f"/api/v1/worklist/{made['id']}").json["status"] == "COMPLETED"
    assert on_worklist(server, "PERF1") == []
    listed = fetch(server, "/api/v1/mpps?study_instance_uid=1.2.826.0.1.71&status=COMPLETED").json
    assert (listed["pagination"]["total"], listed["data"]) == (1, [done])
    assert fetch(server, "/api/v1/mpps?status=IN%20PROGRESS&patient_id=PID71").json["data"] == []
    assert fetch(server, "/api/v1/mpps/1.2.3").status == 404
    assert fetch(server, "/api/v1/mpps?status=DONE").status == 400


@pytest.mark.parametrize(
    ("role", "reads", "changes"), [("none", 403, 403), ("viewer", 200, 403), ("technologist", 200, 201)]
)
def test_a_role_may_on_the_worklist_what_the_contract_says(server: Server, role: str, reads: int, changes: int) -> None:
    token = new_token(server, role)
    for path in ("/api/v1/worklist", "/api/v1/mpps"):
        assert fetch(server, path, token=token).status == reads
        assert fetch(server, path, token=None).status == 401
    body = {**ITEM, "accession_number": "ROLE1"}
    assert fetch(server, "/api/v1/worklist", method="POST", json_body=body, token=token).status == changes


def test_what_is_found_is_counted_and_audited(server: Server) -> None:
    schedule(server, accession_number="AUD1", patient_id="AUDITED")
    token = new_token(server, "viewer", name="reader")
    key = ("pacs_query_results_total", ())
    before = metrics(server)[key]
    assert len(fetch(server, "/api/v1/worklist?patient_id=AUDITED", token=token).json["data"]) == 1
    assert metrics(server)[key] == before + 1
    wait_for_record(server, "reader", number=2)  # the login, and the query
    (record,) = [record for record in records(server, "110112") if "reader" in record["message"]]
    asked = ElementTree.fromstring(record["message"]).findtext(".//ParticipantObjectQuery") or ""
    assert base64.b64decode(asked) == b"/api/v1/worklist?patient_id=AUDITED"
