"""
Starting, stopping and operating the server, as its operator does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from pacs.dimse import CStoreRQ
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, Rejected, ct_data_set, pdv
from tests.server import Server, merged, privileged_port, run_tool

CT = (CT_IMAGE_STORAGE, EXPLICIT)
TWISTD = str(Path(sys.executable).with_name("twistd"))
PACSCTL = str(Path(sys.executable).with_name("pacsctl"))


def twistd(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TWISTD, "-n", "--pidfile=", "productionpacs", *arguments],
        cwd=directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_each_fault_of_a_configuration_is_one_line_on_standard_error(tmp_path: Path) -> None:
    config = tmp_path / "pacs.yaml"
    config.write_text("server:\n  prot: 11113\n  port: 99999\nstorage:\n  duplicate_policy: keep\n")
    result = twistd("--config", str(config), directory=tmp_path)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[0] == f"{config}:2: server.prot: unknown key, did you mean 'server.port'?"
    assert lines[1].startswith(f"{config}:3: server.port: ")
    assert lines[2].startswith(f"{config}:5: storage.duplicate_policy: ")
    assert len(lines) == 3
    assert result.stdout == ""


def test_check_prints_what_is_in_effect(tmp_path: Path) -> None:
    config = tmp_path / "pacs.yaml"
    config.write_text("server: {ae_title: MINE}\n")
    result = twistd("--config", str(config), "--check", directory=tmp_path)
    assert result.returncode == 0
    assert yaml.safe_load(result.stdout)["server"]["ae_title"] == "MINE"
    assert not (tmp_path / "pacs_data").exists()


def test_a_missing_file_is_an_error_only_when_one_is_required(tmp_path: Path) -> None:
    result = twistd("--config", "nowhere.yaml", "--require-config", directory=tmp_path)
    assert (result.returncode, result.stderr) == (1, "nowhere.yaml: no such file\n")


@pytest.mark.parametrize("options", [(), ("--check",), ("--require-config",)])
def test_a_file_that_can_not_be_reached_is_never_taken_for_a_missing_one(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    result = twistd("--config", "a" * 300, *options, directory=tmp_path)
    assert (result.returncode, result.stderr) == (1, f"{'a' * 300}: can't be read: File name too long\n")


SLOW_START = """
import sys, time
from pacs.archive.archive import Archive
from twisted.scripts.twistd import run

take_up = Archive._take_up_in_thread

def slowly(self, *arguments):
    print("opening", flush=True)
    time.sleep(1)
    return take_up(self, *arguments)

Archive._take_up_in_thread = slowly
sys.argv = ["twistd", "-n", "--pidfile=", "productionpacs", "-c", sys.argv[1]]
run()
"""


def test_a_server_that_is_stopped_while_it_starts_ends_as_any_other(tmp_path: Path) -> None:
    """What has begun to open is opened, and closed again: its threads would keep the process."""
    server = Server(tmp_path)
    command = [sys.executable, "-c", SLOW_START, str(server.config)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            next(line for line in process.stdout if "opening" in line)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
        log = process.stdout.read()
    assert "stopped" in log
    assert "Traceback" not in log


def test_version_is_our_own(tmp_path: Path) -> None:
    assert twistd("--version", directory=tmp_path).stdout.startswith("productionpacs ")


def test_a_second_server_on_the_same_root_says_who_holds_it(server: Server) -> None:
    result = twistd("--config", str(server.config), directory=server.directory)
    assert result.returncode == 1
    assert f"in use by process {server.pid}" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_status_0(make_server: MakeServer, number: int) -> None:
    server = make_server()
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set("1.2.20"), "1.2.20").status == 0
    assert server.stop(number) == 0
    assert not (server.root / "index.db-wal").exists() or (server.root / "index.db-wal").stat().st_size == 0
    server.start()
    assert server.stop() == 0


def test_a_running_store_is_finished_before_the_end(make_server: MakeServer) -> None:
    server = make_server()
    client = Client(server.port, CT)
    data_set = ct_data_set("1.2.21", pixels=bytes(400_000))
    client.send_command(
        CStoreRQ(
            message_id=1,
            affected_sop_class_uid=CT_IMAGE_STORAGE,
            affected_sop_instance_uid="1.2.21",
            has_data_set=True,
        )
    )
    client.socket.sendall(pdv(data_set[:100_000], is_last=False))
    idle = Client(server.port)
    time.sleep(0.2)
    os.kill(server.pid, signal.SIGTERM)
    assert idle.pdu()[0] == 7, "an idle association is aborted at once"
    with pytest.raises((OSError, Rejected)):
        Client(server.port)
    for start in range(100_000, len(data_set), 100_000):
        client.socket.sendall(pdv(data_set[start : start + 100_000], is_last=start + 100_000 >= len(data_set)))
    assert client.response().status == 0
    assert client.pdu()[0] == 7
    client.socket.close()
    assert server.process is not None
    assert server.process.wait(30) == 0
    assert len(server.objects()) == 1


def test_all_doors_close_at_once_and_have_the_time_of_grace_together(make_server: MakeServer) -> None:
    grace_s = 4
    server = make_server({"server": {"shutdown_grace_seconds": grace_s}, "rest_api": {"enabled": True}})
    client = Client(server.port, CT)
    client.send_command(
        CStoreRQ(
            message_id=1,
            affected_sop_class_uid=CT_IMAGE_STORAGE,
            affected_sop_instance_uid="1.2.22",
            has_data_set=True,
        )
    )
    token = (server.root / "admin.token").read_text().strip()
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as request:
        head = f"POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        request.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{".encode())
        time.sleep(0.2)
        os.kill(server.pid, signal.SIGTERM)
        stopped_s = time.monotonic()
        time.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.http_port), timeout=5)
        assert server.process is not None
        assert server.process.wait(30) == 0
    assert grace_s - 1 < time.monotonic() - stopped_s < 2 * grace_s - 1
    assert client.pdu()[0] == 7


def test_a_newer_index_is_not_touched(make_server: MakeServer) -> None:
    import sqlite3

    server = make_server()
    assert server.stop() == 0
    with sqlite3.connect(server.root / "index.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(RuntimeError, match="the server ended with 1"):
        server.start()
    assert "9999" in server.log()
    assert "Traceback" not in server.log()


def test_a_used_port_ends_the_start_with_status_1(server: Server, make_server: MakeServer) -> None:
    with pytest.raises(RuntimeError, match="ended with 1"):
        make_server({"server": {"port": server.port}})


def test_reindex_rebuilds_the_index_from_the_objects_alone(make_server: MakeServer) -> None:
    server = make_server()
    with Client(server.port, CT) as client:
        for number in range(1, 6):
            client.store(ct_data_set(f"1.2.30.{number}", name="Re^Index"), f"1.2.30.{number}", message_id=number)
    assert server.stop() == 0
    for path in server.root.glob("index.db*"):
        path.unlink()
    result = run_tool(PACSCTL, "reindex", "--json", "-c", str(server.config))
    assert json.loads(result.stdout.splitlines()[-1]) == {"indexed": 5, "unreadable": 0, "kept": 0, "not_kept": []}
    server.start()
    assert count_of(server, "PatientName=Re^Index") == 1
    assert run_tool(PACSCTL, "reindex", "--json", "-c", str(server.config)).stdout.startswith('{"indexed": 0')


def test_reindex_of_a_running_server_takes_in_what_it_did_not_know(make_server: MakeServer) -> None:
    server = make_server()
    with Client(server.port, CT) as client:
        client.store(ct_data_set("1.2.31.1", name="Lost^Row"), "1.2.31.1")
        client.store(
            ct_data_set("1.2.31.2", name="Lost^File", patient_id="ID2", study="1.2.31"), "1.2.31.2", message_id=2
        )
    lost_row, lost_file = server.objects()
    copy = lost_row.read_bytes()
    lost_file.unlink()
    other = ct_data_set("1.2.31.3", name="New^File", patient_id="ID3", study="1.2.32")
    position = copy.index(ct_data_set("1.2.31.1", name="Lost^Row")[:20])
    new = copy[:position].replace(b"1.2.31.1", b"1.2.31.3") + other
    (lost_row.parent / "1.2.31.3.dcm").write_bytes(new)
    result = run_tool(PACSCTL, "reindex", "--json", "-c", str(server.config)).stdout
    assert json.loads(result.splitlines()[-1]) == {"indexed": 1, "removed": 1, "unreadable": 0}
    assert count_of(server, "PatientName=New^File") == 1
    assert count_of(server, "PatientName=Lost^File") == 0


def count_of(server: Server, *keys: str) -> int:
    arguments = [argument for key in keys for argument in ("-k", key)]
    output = run_tool(
        "findscu", "-v", "-P", "-aec", "PROD_PACS", "-k", "QueryRetrieveLevel=PATIENT", *arguments,
        "127.0.0.1", str(server.port),
    ).stdout  # fmt: skip
    return output.count("Find Response:")


def test_the_log_has_no_patient_data(make_server: MakeServer) -> None:
    server = make_server({"logging": {"level": "debug", "format": "json"}})
    with Client(server.port, CT) as client:
        client.store(ct_data_set("1.2.40", name="Secret^Name", patient_id="SECRETID"), "1.2.40")
        client.store(ct_data_set("1.2.41", name="Other^Name", patient_id="SECRETID"), "1.2.41", message_id=2)
        client.store(ct_data_set("1.2.40", name="Third^Name", patient_id="OTHERID"), "1.2.40", message_id=3)
    count_of(server, "PatientName=Secret*")
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert any("conflict" in line["message"] for line in lines)
    assert not any(word in server.log() for word in ("Secret", "SECRETID", "OTHERID", "Third"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has ports below 1024, and can give its rights up")
def test_ports_of_root_are_taken_before_its_rights_are_given_up() -> None:
    """RELIABILITY P3; DICOM's own port is 104."""
    nobody = ("--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", "import pacs.application")
    if subprocess.run(["setpriv", *nobody], cwd="/", capture_output=True).returncode != 0:
        pytest.skip("others than root can't read where the project is")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        server = Server(directory)
        port = privileged_port()
        http_port = privileged_port(below=port)
        ports = {"server": {"port": port}, "rest_api": {"enabled": True, "port": http_port}}
        server.config.write_text(yaml.safe_dump(merged(yaml.safe_load(server.config.read_text()), ports)))
        server.port = port
        for path in (directory, server.config):
            os.chown(path, 65534, 65534)
        server.start(options=("--uid", "65534", "--gid", "65534"))
        try:
            assert "Uid:\t65534\t65534\t65534\t65534" in Path(f"/proc/{server.pid}/status").read_text()
            with Client(port, CT) as client:
                assert client.store(ct_data_set("1.2.25"), "1.2.25").status == 0
            with urlopen(f"http://127.0.0.1:{http_port}/readyz", timeout=20) as answer:
                assert answer.status == 200
        finally:
            assert server.stop() == 0, server.log()
