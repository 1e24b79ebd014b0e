"""
Every metric of the contract moves by exactly what was done over DIMSE and HTTP, and nothing else moves.
"""

from __future__ import annotations

import socket
import time
from typing import Final

import pytest

from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, Rejected, ct_data_set
from tests.http import HTTP, fetch, metrics, new_token
from tests.retrieve import STUDY_ROOT_GET, Requester, final, identifier
from tests.server import AE_TITLE, Server, merged, run_tool

CT: Final = (CT_IMAGE_STORAGE, EXPLICIT)
STUDY: Final = "1.2.700"
DEADLINE_S: Final = 20.0
CONFIGURATION: Final = merged(
    HTTP,
    {
        "security": {
            "access_control": {
                "default_role": "viewer",
                "grants": [{"role": "technologist", "ae_titles": ["SCANNER", "TRIAL_CT"]}],
            },
            "anonymization": {"auto_anonymize": True, "ae_titles": ["TRIAL_*"]},
        }
    },
)
PROCESS: Final = ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "python_info")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def counted(samples: Samples) -> Samples:
    """Give what counts: counters, and how many values a histogram has; of a batch's objects their number, too."""
    return {
        key: value
        for key, value in samples.items()
        if key[0].startswith("pacs_")
        and (key[0].endswith(("_total", "_count")) or key[0] == "pacs_ingest_batch_instances_sum")
    }


def moved(before: Samples, after: Samples) -> Samples:
    earlier = counted(before)
    changes = {key: value - earlier.get(key, 0.0) for key, value in counted(after).items()}
    return {key: value for key, value in changes.items() if value}


def of(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


def store(server: Server, calling: str, *uids: str, study: str = STUDY) -> list[int]:
    with Client(server.port, CT, calling=calling) as client:
        return [
            client.store(ct_data_set(uid, study=study, series=f"{study}.1", patient_id=study), uid, message_id=n).status
            for n, uid in enumerate(uids, 1)
        ]


def wait_for(server: Server, key: tuple[str, tuple[tuple[str, str], ...]], value: float) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while (found := metrics(server).get(key)) != value:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.05)


def test_counters_move_by_what_was_done_and_by_nothing_else(make_server: MakeServer) -> None:
    server = make_server(CONFIGURATION)
    viewer = new_token(server, "viewer")
    before = metrics(server)

    assert store(server, "SCANNER", "1.2.700.1", "1.2.700.2", "1.2.700.3") == [0, 0, 0]
    assert store(server, "TRIAL_CT", "1.2.701.1", "1.2.701.2", study="1.2.701") == [0, 0]
    assert store(server, "STRANGER", "1.2.700.4") == [0x0124]
    with Client(server.port, calling="STRANGER") as client:
        assert [client.echo(), client.echo()] == [0, 0]
    find = run_tool(
        "findscu", "-S", "-aec", AE_TITLE, "-aet", "STRANGER", "-k", "QueryRetrieveLevel=IMAGE",
        "-k", f"StudyInstanceUID={STUDY}", "-k", f"SeriesInstanceUID={STUDY}.1", "-k", "SOPInstanceUID",
        "127.0.0.1", str(server.port),
    )  # fmt: skip
    assert find.returncode == 0
    requester = Requester(server.port, STUDY_ROOT_GET, [CT], calling="STRANGER")
    assert final(requester.get(identifier("STUDY", study=STUDY))).status == 0
    requester.release()
    with pytest.raises(Rejected):
        Client(server.port, called="SOMEBODY")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as garbage:
        garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert garbage.recv(100)[:1] == b"\7"
    assert fetch(server, "/api/v1/studies", token=viewer).json["pagination"]["total"] == 2
    assert fetch(server, "/api/v1/instances/1.2.700.1/file", token=viewer).status == 200
    assert fetch(server, "/api/v1/tokens", token=viewer).status == 403
    assert fetch(server, "/api/v1/studies/1.2.999", token=viewer).status == 404

    after = metrics(server)
    sizes = [path.stat().st_size for path in server.objects()]
    requests: dict[tuple[str, str], int] = {
        ("C-STORE", "0000"): 5,
        ("C-STORE", "0124"): 1,
        ("C-ECHO", "0000"): 2,
        ("C-FIND", "0000"): 1,
        ("C-GET", "0000"): 1,
    }
    operations: dict[str, int] = {}
    for (operation, _), number in requests.items():
        operations[operation] = operations.get(operation, 0) + number
    answers: dict[tuple[str, str], int] = {
        ("/metrics", "200"): 1,  # the one before
        ("/api/v1/studies", "200"): 1,
        ("/api/v1/instances/{uid}/file", "200"): 1,
        ("/api/v1/tokens", "403"): 1,
        ("/api/v1/studies/{uid}", "404"): 1,
    }
    expected: Samples = {
        of("pacs_associations_total", result="accepted"): 6,
        of("pacs_associations_total", result="rejected"): 1,
        of("pacs_associations_total", result="aborted"): 1,
        of("pacs_stored_instances_total"): 5,
        of("pacs_stored_bytes_total"): sum(sizes),
        of("pacs_ingest_commit_seconds_count"): 5,  # each was waited for
        of("pacs_ingest_batch_instances_count"): 5,
        of("pacs_ingest_batch_instances_sum"): 5,
        of("pacs_query_results_total"): 3 + 2,
        of("pacs_retrieved_instances_total"): 3 + 1,
        of("pacs_anonymized_instances_total", profile="basic"): 2,
        of("pacs_access_denied_total", operation="C-STORE"): 1,
        of("pacs_access_denied_total", operation="manage tokens"): 1,
        **{of("pacs_dimse_requests_total", operation=o, status=s): n for (o, s), n in requests.items()},
        **{of("pacs_dimse_request_seconds_count", operation=o): n for o, n in operations.items()},
        **{of("pacs_http_requests_total", method="GET", route=r, code=c): n for (r, c), n in answers.items()},
        **{of("pacs_http_request_seconds_count", method="GET", route=r): n for (r, _), n in answers.items()},
    }
    assert moved(before, after) == expected


def test_gauges_say_what_is(make_server: MakeServer) -> None:
    server = make_server(merged(CONFIGURATION, {"monitoring": {"health_check_interval_seconds": 1}}))
    store(server, "SCANNER", "1.2.700.1", "1.2.700.2")
    store(server, "TRIAL_CT", "1.2.701.1", study="1.2.701")
    active = of("pacs_associations_active")
    wait_for(server, active, 0)
    with Client(server.port), Client(server.port):
        wait_for(server, active, 2)
    wait_for(server, active, 0)
    found = metrics(server)
    kept = {name: found[of(f"pacs_archive_{name}")] for name in ("patients", "studies", "series", "instances", "bytes")}
    sizes = [path.stat().st_size for path in server.objects()]
    assert kept == {"patients": 2, "studies": 2, "series": 2, "instances": 3, "bytes": sum(sizes)}
    assert found[of("pacs_storage_free_bytes")] > 0
    components = {labels[0][1] for name, labels in found if name == "pacs_component_health"}
    assert {"audit", "database", "storage"} <= components
    names = {name for name, _ in found}
    assert set(PROCESS) <= names


def test_no_label_bears_what_comes_from_outside(make_server: MakeServer) -> None:
    """Whatever is sent or asked for, the labels are from closed sets (RELIABILITY G2)."""
    server = make_server(CONFIGURATION)
    odd = "ODD_NAME_4711"
    store(server, odd, "1.2.4711.1")
    fetch(server, f"/api/v1/studies/{odd}")
    fetch(server, f"/{odd}")
    fetch(server, f"/api/v1/{odd}", method="PROPFIND")
    with pytest.raises(Rejected):
        Client(server.port, called=odd)
    named = repr(list(metrics(server)))  # without the values, in which any digits may stand
    assert odd not in named and "4711" not in named and "PROPFIND" not in named
