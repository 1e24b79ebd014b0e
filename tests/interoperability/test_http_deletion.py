"""
DELETE over HTTP: what is deleted is gone by every door, counts and lists follow at once, and it is told and recorded.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.audit import check_message, wait_for_record
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.http import HTTP, fetch, metrics, new_token
from tests.interoperability.test_http_events import stream
from tests.server import Server, merged, run_tool

CT = (CT_IMAGE_STORAGE, EXPLICIT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that keeps copies."""
    directory = tmp_path_factory.mktemp("deletion")
    server = Server(directory, merged(HTTP, {"storage": {"duplicate_policy": "rename"}}))
    server.start()
    yield server
    assert server.stop() == 0


def store(server: Server, patient: int, *, series: tuple[int, ...] = (1, 2), pixels: bytes = bytes(64)) -> None:
    """Store two studies of a patient, each with some series of two objects."""
    with Client(server.port, CT) as client:
        for study in (1, 2):
            for number in series:
                for i in (1, 2):
                    uid = f"1.{patient}.{study}.{number}.{i}"
                    data_set = ct_data_set(
                        uid,
                        study=f"1.{patient}.{study}",
                        series=f"1.{patient}.{study}.{number}",
                        patient_id=f"P{patient}",
                        pixels=pixels,
                    )
                    if number == 2:
                        data_set = data_set.replace(b"CS\2\0CT", b"CS\2\0MR")
                    assert client.store(data_set, uid).status == 0


def delete(server: Server, path: str, *, token: str = "") -> int:
    return fetch(server, f"/api/v1{path}", method="DELETE", token=token).status


def found_by_c_find(server: Server, study: str) -> int:
    return run_tool(
        "findscu", "-S", "-aec", "PROD_PACS", "-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={study}",
        "-k", "SeriesInstanceUID", "127.0.0.1", str(server.port),
    ).stdout.count("(Pending)")  # fmt: skip


def test_an_instance_and_its_copies_are_deleted(server: Server) -> None:
    store(server, 11)
    store(server, 11, pixels=bytes([1]) * 64)
    before = metrics(server)
    assert len(fetch(server, "/api/v1/instances/1.11.1.1.1").json["others"]) == 1
    assert delete(server, "/instances/1.11.1.1.1") == 204
    assert fetch(server, "/api/v1/instances/1.11.1.1.1").status == 404
    assert fetch(server, "/api/v1/instances/1.11.1.1.1/file").status == 404
    assert delete(server, "/instances/1.11.1.1.1") == 404
    assert fetch(server, "/api/v1/series/1.11.1.1").json["num_instances"] == 2
    assert fetch(server, "/api/v1/studies/1.11.1").json["num_instances"] == 6
    assert fetch(server, "/api/v1/patients/P11").json["num_instances"] == 14
    assert not [path for path in server.objects() if "1.11.1.1.1" in path.name]
    after = metrics(server)
    assert after["pacs_deleted_instances_total", ()] - before.get(("pacs_deleted_instances_total", ()), 0) == 2
    assert before["pacs_archive_instances", ()] - after["pacs_archive_instances", ()] == 2
    sizes = sum(path.stat().st_size for path in server.objects())
    assert after["pacs_archive_bytes", ()] == sizes


def test_a_series_is_deleted_and_its_modality_goes_with_it(server: Server) -> None:
    store(server, 12)
    assert fetch(server, "/api/v1/studies/1.12.1").json["modalities_in_study"] == ["CT", "MR"]
    assert delete(server, "/series/1.12.1.2") == 204
    study = fetch(server, "/api/v1/studies/1.12.1").json
    assert (study["modalities_in_study"], study["num_series"], study["num_instances"]) == (["CT"], 1, 2)
    assert found_by_c_find(server, "1.12.1") == 1
    assert delete(server, "/series/1.12.1.1") == 204
    assert fetch(server, "/api/v1/studies/1.12.1").status == 404
    assert found_by_c_find(server, "1.12.1") == 0
    patient = fetch(server, "/api/v1/patients/P12").json
    assert (patient["num_studies"], patient["num_instances"]) == (1, 4)


def test_a_study_is_deleted_told_recorded_and_taken_again(server: Server) -> None:
    store(server, 13)
    with stream(server, types="instance_deleted") as events:
        assert delete(server, "/studies/1.13.1") == 204
        told = events.next()
    assert told.id is not None
    assert {name: told.data[name] for name in ("level", "study_instance_uid", "number_of_instances")} == {
        "level": "study",
        "study_instance_uid": "1.13.1",
        "number_of_instances": 4,
    }
    (record,) = wait_for_record(server, 'originalText="DICOM Study Deleted"')
    message = check_message(record["message"])
    assert {item.get("ParticipantObjectID") for item in message.iter("ParticipantObjectIdentification")} == {
        "1.13.1",
        "P13",
    }
    assert [item.get("NumberOfInstances") for item in message.iter("SOPClass")] == ["4"]
    assert fetch(server, "/api/v1/patients/P13").json["num_studies"] == 1
    store(server, 13)
    assert fetch(server, "/api/v1/studies/1.13.1").json["num_instances"] == 4


def test_a_patient_is_deleted_with_all_studies(server: Server) -> None:
    store(server, 14)
    with stream(server, types="instance_deleted") as events:
        assert delete(server, "/patients/P14") == 204
        told = [events.next(), events.next()]
    assert [item.data["study_instance_uid"] for item in told] == ["1.14.1", "1.14.2"]
    assert fetch(server, "/api/v1/patients/P14").status == 404
    assert not [path for path in server.objects() if "1.14." in str(path)]
    assert delete(server, "/patients/P14") == 404


def test_patients_who_share_an_id_are_not_deleted_unasked(server: Server) -> None:
    with Client(server.port, CT) as client:
        for number, name in enumerate(("One^A", "Two^B"), 1):
            data_set = ct_data_set(f"1.15.{number}.1", study=f"1.15.{number}", patient_id="SHARED", name=name)
            assert client.store(data_set, f"1.15.{number}.1").status == 0
    reply = fetch(server, "/api/v1/patients/SHARED", method="DELETE")
    assert (reply.status, len(reply.json["error"]["candidates"])) == (409, 2)
    assert delete(server, "/studies/1.15.1") == 204
    assert delete(server, "/patients/SHARED") == 204


def test_only_an_administrator_deletes(server: Server) -> None:
    store(server, 16, series=(1,))
    for role in ("viewer", "technologist"):
        token = new_token(server, role, name=f"{role} 16")
        for path in ("/patients/P16", "/studies/1.16.1", "/series/1.16.1.1", "/instances/1.16.1.1.1"):
            assert delete(server, path, token=token) == 403
    assert fetch(server, "/api/v1/studies/1.16.1", method="DELETE", token=None).status == 401
    assert fetch(server, "/api/v1/patients/P16").json["num_instances"] == 4
    wait_for_record(server, "technologist 16")


def test_the_document_has_them(server: Server) -> None:
    paths = fetch(server, "/api/v1/openapi.json").json["paths"]
    for path in ("/patients/{patient_id}", "/studies/{uid}", "/series/{uid}", "/instances/{uid}"):
        operation = paths[f"/api/v1{path}"]["delete"]
        assert {"204", "401", "403", "404", "503"} <= set(operation["responses"])
        assert "administrator" in operation["description"]
    assert delete(server, "/studies/not-a-uid") == 400
