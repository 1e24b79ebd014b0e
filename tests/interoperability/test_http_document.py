"""
The OpenAPI document holds: what it allows is taken, what it does not is refused, and every answer is as it says.

schemathesis makes the requests from the document itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.http import HTTP, admin_token, fetch
from tests.interoperability.test_mpps import MPPS, in_progress, modality
from tests.server import Server

EXAMPLES = 4
FUZZED_S = 12
INSTANCE = "1.2.3.4.1"
STEP = "1.2.3.71"
KNOWN = {"studies": "1.2.3", "series": "1.2.3.4", "instances": INSTANCE, "mpps": STEP}

CHECKS = """
[checks]
# 422: a value is as the document says and makes no sense all the same, the 31st of February for one
positive_data_acceptance.expected-statuses = ["2xx", "304", "404", "409", "416", "422"]
negative_data_rejection.expected-statuses = ["400", "404", "405", "413", "414", "415", "422"]
# ten failed logins, and further ones are answered 429; tests of their own look at that
ignored_auth.enabled = false
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Give a server that has one of everything."""
    server = Server(tmp_path, HTTP)
    server.start()
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        assert client.store(ct_data_set(INSTANCE), INSTANCE).status == 0
    with modality(server, MPPS) as association:
        association.send_n_create(in_progress(71), MPPS, STEP)
    item = {"patient_id": "P", "patient_name": "A^B", "modality": "CT", "scheduled_datetime": "2026-01-31"}
    assert fetch(server, "/api/v1/worklist", method="POST", json_body=item).status == 201
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def configuration() -> str:
    """Tell schemathesis what there is, so that it does not see 404 alone."""
    operations = [
        f'[[operations]]\ninclude-path-regex = "^/api/v1/{name}/"\nparameters = {{"path.uid" = "{uid}"}}\n'
        for name, uid in KNOWN.items()
    ]
    patient = '[[operations]]\ninclude-path-regex = "^/api/v1/patients/"\nparameters = {"path.patient_id" = "ID1"}\n'
    return "\n".join([CHECKS, *operations, patient])


def test_requests_are_taken_and_answered_as_the_document_says(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(configuration())
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(config), "run", "--no-color", "--warnings", "off", "--suppress-health-check", "all"),
        *("--generation-deterministic", "--no-shrink", "--generation-with-security-parameters", "false"),
        *("--max-examples", str(EXAMPLES), "--max-time", str(FUZZED_S), "--workers", "1"),
        *("--header", f"Authorization: Bearer {admin_token(server)}"),
        *("--exclude-path", "/api/v1/events"),  # it never ends
        *("--exclude-path", "/api/v1/tokens/{id}"),  # it would revoke its own
        f"http://127.0.0.1:{server.http_port}/api/v1/openapi.json",
    ]
    done = subprocess.run(command, check=False, cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout, done.stdout
