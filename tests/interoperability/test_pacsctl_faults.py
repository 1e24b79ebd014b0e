"""
`pacsctl` when something is wrong: status 1, one line on standard error, never a traceback.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pacs.command import operator_name
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, Client, ct_data_set
from tests.server import Server, twistd

PACSCTL = str(Path(sys.executable).with_name("pacsctl"))
AS_ANYBODY = () if os.getuid() else ("setpriv", "--bounding-set=-all", "--inh-caps=-all")  # root reads everything


def pacsctl(server: Server, *arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [PACSCTL, *arguments, "-c", str(config or server.config)]
    return subprocess.run(command, cwd=server.directory, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Give a server that does not run."""
    return Server(tmp_path)


def test_a_configuration_that_is_not_there_is_a_fault_of_every_command(server: Server) -> None:
    """On the built-in defaults it would work on another archive."""
    ended = pacsctl(server, "token", "list", config=Path("nowhere.yaml"))
    assert (ended.returncode, ended.stderr) == (1, "nowhere.yaml: no such file\n")
    assert not (server.directory / "pacs_data").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("import", "nowhere"), "import: Invalid value for 'PATHS...': Path 'nowhere' does not exist."),
        (("import",), "import: Missing argument 'PATHS...'."),
        (("token", "create", "x"), "token create: Missing option '--role'."),
        (("verify", "--nope"), "verify: No such option"),
        (("worklist", "list", "--limit", "x"), "worklist list: Invalid value for '--limit'"),
        (("bogus",), "pacsctl: No such command 'bogus'."),
    ],
)
def test_a_wrong_argument_is_told_in_a_line(server: Server, arguments: tuple[str, ...], expected: str) -> None:
    ended = pacsctl(server, *arguments)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(expected)
    assert "--help' tells more." in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "list"),
        ("worklist", "list"),
        ("backup", "kept"),
        ("verify",),
        ("import", "config.yaml"),
        ("forget", "X"),
        ("deidentify", "files", "new", "--report", "nowhere/report.csv"),
    ],
)
def test_an_index_that_is_none_is_told_in_a_line(server: Server, arguments: tuple[str, ...]) -> None:
    server.root.mkdir()
    (server.directory / "files").mkdir()
    (server.root / "index.db").write_text("this is no index" * 1000)
    ended = pacsctl(server, *arguments, "--json")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(" ".join(arguments[:1]))


@pytest.mark.parametrize("module", ["pydantic", "twisted"])
def test_an_interruption_while_modules_are_imported_is_told_in_a_line(server: Server, module: str) -> None:
    interrupts = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(30)\n"
    (server.directory / f"{module}.py").write_text(interrupts)
    ended = subprocess.run(
        [PACSCTL, "verify", "-c", str(server.config)], cwd=server.directory, capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(server.directory)},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, "interrupted\n")


INTERRUPTED = """
import os, signal, sys, time
from pacs.archive.archive import Archive
from pacs.pacsctl import main

name = sys.argv.pop(1)
whole = getattr(Archive, name)

def interrupted(self, *arguments):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    return whole(self, *arguments)

setattr(Archive, name, interrupted)
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("_take_up_in_thread", (1, "", "worklist list: interrupted\n")),  # the archive is being opened
        ("_close_in_thread", (0, "0 of 0\n", "")),  # what was asked is done
    ],
)
def test_who_interrupts_a_command_without_a_server_waits_until_the_archive_is_closed(
    server: Server, when: str, expected: tuple[int, str, str]
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, when, "worklist", "list", "-c", str(server.config)],
        cwd=server.directory, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == expected
    assert (server.root / "index.db-wal").stat().st_size == 0  # emptied


FAILING_START = """
import sqlite3, sys
from pacs.archive.archive import Archive
from pacs.pacsctl import main

def fail(self, connection):
    raise sqlite3.DatabaseError("database disk image is malformed")

Archive._take_up_in_thread = fail
sys.exit(main())
"""


def test_an_archive_that_can_not_be_opened_to_the_end_keeps_no_process(server: Server) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FAILING_START, "worklist", "list", "-c", str(server.config)],
        cwd=server.directory, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, "worklist list: database disk image is malformed\n")


@pytest.mark.parametrize("rules", ["rules: [{blank: [0]}]\n", "rules: [\n", "rules: [2026-99-99]\n", None])
def test_wrong_region_rules_are_a_fault_of_the_configuration(server: Server, rules: str | None) -> None:
    """check-config says what twistd says, which does not start."""
    if rules is not None:
        (server.directory / "rules.yaml").write_text(rules)
    server.config.write_text("security:\n  anonymization:\n    region_rules: rules.yaml\n")
    checked = pacsctl(server, "check-config")
    started = subprocess.run(
        [*twistd(), "-n", "--pidfile=", "productionpacs", "--check", "-c", str(server.config)],
        cwd=server.directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == started.returncode == 1
    assert checked.stderr == started.stderr
    (line,) = checked.stderr.splitlines()
    assert line.startswith(f"{server.config}:3: security.anonymization.region_rules: rules.yaml:")


def test_an_index_that_is_none_is_put_aside_and_made_anew(server: Server) -> None:
    """What no object tells is lost, and that is said; without an index the archive would be lost, too."""
    server.start()
    with Client(server.port, (CT_IMAGE_STORAGE, EXPLICIT)) as client:
        assert client.store(ct_data_set("1.2.3.0", study="1.2.3"), "1.2.3.0").status == 0
    assert server.stop() == 0
    broken = b"this is no index" * 1000
    (server.root / "index.db").write_bytes(broken)
    ended = pacsctl(server, "reindex", "--json")
    assert ended.returncode == 0
    names = ["tokens", "worklist", "performed_steps", "step_links", "tasks"]
    assert json.loads(ended.stdout) == {
        "indexed": 1, "unreadable": 0, "kept": 0, "not_kept": ["deletions under way", *names]
    }  # fmt: skip
    assert ended.stderr.count("\n") == 1
    assert "index.db.before-reindex, could not be read: deletions under way, tokens, worklist" in ended.stderr
    assert (server.root / "index.db.before-reindex").read_bytes() == broken
    assert pacsctl(server, "verify").returncode == 0
    assert pacsctl(server, "reindex").stderr == ""


def test_a_full_disk_behind_the_output_is_told_in_a_line(server: Server) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([PACSCTL, "conformance"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "conformance: [Errno 28] No space left on device\n")


def test_no_bar_is_printed_where_nobody_looks_on(server: Server) -> None:
    ended = pacsctl(server, "verify")
    assert (ended.returncode, ended.stderr) == (1, f"verify: {server.root}/index.db: there is no index\n")
    ended = pacsctl(server, "reindex")
    assert (ended.returncode, ended.stdout) == (0, "0 indexed, 0 unreadable, 0 kept\n")
    assert ended.stderr == ""


def test_a_user_without_a_name_is_recorded_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number of its own."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert operator_name() == "4000000"


def test_an_audit_log_that_never_was_is_not_said_to_have_records(server: Server) -> None:
    ended = pacsctl(server, "audit", "verify")
    assert (ended.returncode, ended.stderr) == (1, "audit verify: pacs_data/audit.log: there is no audit log\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("import", "files"), "import: 1 of 2 files could not be imported"),
        (("deidentify", "files", "new"), "deidentify: 1 files were not de-identified; the report tells why"),
    ],
)
def test_a_folder_that_is_closed_is_never_passed_over(
    server: Server, arguments: tuple[str, ...], expected: str
) -> None:
    """What is in it would seem to be in the archive, or given away."""
    closed = server.directory / "files" / "closed"
    closed.mkdir(parents=True)
    (server.directory / "files" / "notes.txt").write_text("no image")
    closed.chmod(0)
    try:
        ended = subprocess.run(
            [*AS_ANYBODY, PACSCTL, *arguments, "-c", server.config],
            cwd=server.directory, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        closed.chmod(0o700)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == expected
    told = ended.stderr if arguments[0] == "import" else (server.directory / "files.csv").read_text()
    assert "Permission denied" in told
    assert str(closed) in told
