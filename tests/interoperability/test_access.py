"""
Access control over DIMSE: the whole table of roles and operations that the documentation prints, who may associate,
user identity negotiation, and what an operator is told of a refusal.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from pacs.dimse import (
    CFindRQ,
    CGetRQ,
    CMoveRQ,
    Command,
    NActionRQ,
    NGetRQ,
    NSetRQ,
    Status,
    encode_command,
)
from pacs.security.access import LEAST_ROLE, RIGHTS, Operation, Role
from pacs.security.passwords import hash_password
from pacs.ul import UserIdentity
from tests.audit import records, wait_for_record
from tests.conftest import MakeServer
from tests.dicom import CT_IMAGE_STORAGE, EXPLICIT, VERIFICATION, Client, Rejected, ct_data_set, element, pdv
from tests.server import Server

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
MODALITY_WORKLIST_FIND: Final = "1.2.840.10008.5.1.4.31"
MPPS: Final = "1.2.840.10008.3.1.2.3.3"
MPPS_RETRIEVE: Final = "1.2.840.10008.3.1.2.3.4"
COMMITMENT: Final = "1.2.840.10008.1.20.1"
ABSTRACT_SYNTAXES: Final = (
    CT_IMAGE_STORAGE,
    STUDY_ROOT_FIND,
    VERIFICATION,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    MODALITY_WORKLIST_FIND,
    MPPS,
    MPPS_RETRIEVE,
    COMMITMENT,
)
SECURITY_PAGE: Final = Path(__file__).parents[2] / "docs" / "security.rst"
PASSWORD: Final = "correct horse"
REJECTED_PERMANENT_BY_USER: Final = (1, 1, 1)


def printed_table() -> dict[tuple[str, str], bool]:
    """Give the table of the documentation: whether a role has the right, by operation and role."""
    lines = iter(SECURITY_PAGE.read_text().splitlines())
    head = next(line for line in lines if line.startswith("operation "))
    roles = head.split()[1:]
    next(lines)
    rights: dict[tuple[str, str], bool] = {}
    for line in lines:
        if line.startswith("==="):
            return rights
        *words, none, viewer, technologist, administrator = line.split()
        cells = (none, viewer, technologist, administrator)
        rights |= {(" ".join(words), role): cell == "yes" for role, cell in zip(roles, cells, strict=True)}
    raise AssertionError("the table has no end")


def test_the_documentation_prints_the_table_that_is_in_force() -> None:
    assert printed_table() == {
        (operation.value, role.value): operation in RIGHTS[role] for operation in Operation for role in Role
    }
    assert set(LEAST_ROLE) == set(Operation)


# -- the matrix


def find(client: Client) -> int:
    """Give the final status of a C-FIND in the second context; nothing matches."""
    request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT_FIND, has_data_set=True)
    client.socket.sendall(pdv(encode_command(request), context_id=3, is_command=True))
    identifier = element(0x00080052, "CS", b"STUDY") + element(0x0020000D, "UI", b"1.2.999")
    client.socket.sendall(pdv(identifier, context_id=3))
    return client.response().status


def get(client: Client) -> int:
    """Give the final status of a C-GET in the fourth context; nothing matches."""
    request = CGetRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT_GET, has_data_set=True)
    return retrieve(client, request, 7)


def move_to_self(client: Client) -> int:
    """Give the final status of a C-MOVE to the caller; nothing matches."""
    return move(client, client.calling)


def move_to_node(client: Client) -> int:
    """Give the final status of a C-MOVE to another node; nothing matches."""
    return move(client, "ARCHIVE")


def move(client: Client, destination: str) -> int:
    request = CMoveRQ(
        message_id=1, affected_sop_class_uid=STUDY_ROOT_MOVE, move_destination=destination, has_data_set=True
    )
    return retrieve(client, request, 9)


def retrieve(client: Client, request: CGetRQ | CMoveRQ, context_id: int) -> int:
    client.socket.sendall(pdv(encode_command(request), context_id=context_id, is_command=True))
    identifier = element(0x00080052, "CS", b"STUDY") + element(0x0020000D, "UI", b"1.2.999")
    client.socket.sendall(pdv(identifier, context_id=context_id))
    return client.response().status


def store(client: Client) -> int:
    """Give the status of a C-STORE in the first context."""
    uid = f"1.2.3.{time.time_ns()}"
    return client.store(ct_data_set(uid), uid).status


def echo(client: Client) -> int:
    """Give the status of a C-ECHO in the third context."""
    client.context_id = 5
    return client.echo()


def query_worklist(client: Client) -> int:
    """Give the final status of a worklist query; nothing matches."""
    request = CFindRQ(message_id=1, affected_sop_class_uid=MODALITY_WORKLIST_FIND, has_data_set=True)
    return ask(client, request, MODALITY_WORKLIST_FIND, element(0x00100020, "LO", b"NOBODY"))


def report_step(client: Client) -> int:
    """Give the status of a change of a performed step that is not there: 0112 for whoever may."""
    request = NSetRQ(
        message_id=1, requested_sop_class_uid=MPPS, requested_sop_instance_uid="1.2.999", has_data_set=True
    )
    status = ask(client, request, MPPS, element(0x00400254, "LO", b"thorax"))
    return Status.SUCCESS if status == Status.NO_SUCH_OBJECT_INSTANCE else status


def read_step(client: Client) -> int:
    """The same of reading one."""
    request = NGetRQ(message_id=1, requested_sop_class_uid=MPPS, requested_sop_instance_uid="1.2.999")
    status = ask(client, request, MPPS_RETRIEVE, None)
    return Status.SUCCESS if status == Status.NO_SUCH_OBJECT_INSTANCE else status


def commit(client: Client) -> int:
    """Give the status of a request for storage commitment."""
    request = NActionRQ(
        message_id=1,
        requested_sop_class_uid=COMMITMENT,
        requested_sop_instance_uid=f"{COMMITMENT}.1",
        action_type_id=1,
        has_data_set=True,
    )
    reference = element(0x00081150, "UI", CT_IMAGE_STORAGE.encode()) + element(0x00081155, "UI", b"1.2.999")
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(reference)) + reference
    transaction = f"1.2.3.{time.time_ns()}".encode()
    return ask(client, request, COMMITMENT, element(0x00081195, "UI", transaction) + element(0x00081199, "SQ", item))


def ask(client: Client, request: Command, abstract_syntax: str, data_set: bytes | None) -> int:
    """Send a message in the context of an abstract syntax; give the status of its response."""
    context_id = 2 * ABSTRACT_SYNTAXES.index(abstract_syntax) + 1
    client.socket.sendall(pdv(encode_command(request), context_id=context_id, is_command=True))
    if data_set is not None:
        client.socket.sendall(pdv(data_set, context_id=context_id))
    return client.response().status


DIMSE_OPERATIONS: Final[dict[Operation, Callable[[Client], int]]] = {
    Operation.ECHO: echo,
    Operation.FIND: find,
    Operation.GET: get,
    Operation.MOVE_TO_SELF: move_to_self,
    Operation.MOVE_TO_NODE: move_to_node,
    Operation.STORE: store,
    Operation.QUERY_WORKLIST: query_worklist,
    Operation.MPPS: report_step,
    Operation.READ_MPPS: read_step,
    Operation.COMMIT: commit,
}


def associate(server: Server, calling: str, **options: Any) -> Client:
    """Associate with the contexts that the operations use."""
    return Client(server.port, *((item, EXPLICIT) for item in ABSTRACT_SYNTAXES), calling=calling, **options)


def access(**control: Any) -> dict[str, Any]:
    """Give a configuration."""
    return {"security": {"access_control": control}}


def test_every_role_may_do_what_the_printed_table_says_and_nothing_else(make_server: MakeServer) -> None:
    titles = {role: f"{role.value[:10].upper()}_1" for role in Role}
    grants = [{"role": role.value, "ae_titles": [title]} for role, title in titles.items()]
    nodes = [{"ae_title": title, "host": "127.0.0.1", "port": 1} for title in ("ARCHIVE", *titles.values())]
    server = make_server(access(default_role="none", grants=grants) | {"server": {"remote_nodes": nodes}})
    table = printed_table()
    for role in Role:
        for operation, request in DIMSE_OPERATIONS.items():
            with associate(server, titles[role]) as client:
                status = request(client)
            expected = Status.SUCCESS if table[operation.value, role.value] else Status.NOT_AUTHORIZED
            assert status == expected, (role, operation)
    assert len(server.objects()) == sum(table[Operation.STORE.value, role.value] for role in Role)


def test_a_refusal_says_what_was_missing_and_the_association_goes_on(make_server: MakeServer) -> None:
    server = make_server(access(default_role="viewer", grants=[]))
    with associate(server, "WARD") as client:
        uid = "1.2.3.4.5"
        response = client.store(ct_data_set(uid, pixels=bytes(3 << 20)), uid)
        assert response.status == Status.NOT_AUTHORIZED
        assert response.error_comment == "C-STORE needs role technologist, you have viewer"
        assert client.store(ct_data_set(uid), uid).status == Status.NOT_AUTHORIZED
        assert find(client) == Status.SUCCESS
    assert server.objects() == []
    assert list((server.root / "incoming").iterdir()) == []
    lines = [line for line in server.log().splitlines() if "C-STORE" in line]
    assert len(lines) == 1
    assert "C-STORE of WARD from 127.0.0.1 is refused: it needs the role technologist" in lines[0]
    assert "security.access_control.default_role gives viewer" in lines[0]


def test_the_built_in_grants_let_modalities_store_and_others_read(make_server: MakeServer) -> None:
    server = make_server(access(default_role="viewer"))
    for calling in ("CT_SCANNER_1", "MR_SCANNER_2", "STORESCU", "DCMSEND"):
        with associate(server, calling) as client:
            assert store(client) == Status.SUCCESS, calling
    with associate(server, "CT_SCANNER") as client:
        assert store(client) == Status.NOT_AUTHORIZED
        assert find(client) == Status.SUCCESS


def test_the_first_grant_whose_every_condition_matches_decides(make_server: MakeServer) -> None:
    server = make_server(
        access(
            default_role="none",
            grants=[
                {"role": "administrator", "ae_titles": ["A*"], "addresses": ["10.0.0.0/8"]},
                {"role": "viewer", "ae_titles": ["AB"]},
                {"role": "technologist", "ae_titles": ["A?"], "addresses": ["127.0.0.0/8"]},
            ],
        )
    )
    for calling, may_find, may_store in (("AB", True, False), ("AC", True, True), ("ABC", False, False)):
        with associate(server, calling) as client:
            assert (find(client) == Status.SUCCESS, store(client) == Status.SUCCESS) == (may_find, may_store), calling


def test_access_control_can_be_switched_off_and_the_start_says_so(make_server: MakeServer) -> None:
    server = make_server(access(enabled=False, default_role="none"))
    with associate(server, "ANYBODY") as client:
        assert store(client) == Status.SUCCESS
    assert "security.access_control.enabled is false: every peer may do everything" in server.log()


def test_a_calling_ae_title_that_is_not_allowed_is_rejected(make_server: MakeServer) -> None:
    server = make_server({"security": {"allowed_ae_titles": ["CT_*", "WS?"]}})
    for calling in ("CT_1", "WS1"):
        with associate(server, calling) as client:
            assert store(client) == Status.SUCCESS
    for calling in ("XCT_1", "WS", "WS12", "ct_1"):
        with pytest.raises(Rejected) as rejected:
            associate(server, calling)
        assert rejected.value.args == (1, 1, 3), calling
    assert "association of XCT_1 from 127.0.0.1 is rejected: security.allowed_ae_titles does not" in server.log()


def test_repeated_refusals_are_answered_late_and_an_allowed_peer_at_once(make_server: MakeServer) -> None:
    server = make_server({"security": {"allowed_ae_titles": ["CT_*"]}})
    durations = []
    for _ in range(13):
        started_s = time.monotonic()
        with pytest.raises(Rejected):
            associate(server, "INTRUDER")
        durations.append(time.monotonic() - started_s)
    assert durations[12] >= 1.0
    with associate(server, "CT_1") as client:
        started_s = time.monotonic()
        assert store(client) == Status.SUCCESS
    assert time.monotonic() - started_s < durations[12]


# -- user identity negotiation, PS3.7 D.3.3.7


@pytest.fixture(scope="module")
def password_hash() -> str:
    return hash_password(PASSWORD)


def with_users(password_hash: str, **control: Any) -> dict[str, Any]:
    users = [{"name": "Müller", "role": "technologist", "password_hash": password_hash}]
    return access(default_role="viewer", grants=[], users=users, **control)


def identity(kind: int, name: str = "Müller", passcode: str = "", *, wants_response: bool = True) -> UserIdentity:
    return UserIdentity(kind, wants_response, name.encode(), passcode.encode())


def test_a_user_name_alone_never_raises_a_role(make_server: MakeServer, password_hash: str) -> None:
    server = make_server(with_users(password_hash))
    with associate(server, "WARD", user_identity=identity(1)) as client:
        assert client.accept.user_information.user_identity_response == b""
        assert store(client) == Status.NOT_AUTHORIZED


def test_a_user_name_and_passcode_give_the_role_of_the_user(make_server: MakeServer, password_hash: str) -> None:
    server = make_server(with_users(password_hash, passcodes_in_clear=True))
    with associate(server, "WARD", user_identity=identity(2, passcode=PASSWORD)) as client:
        assert client.accept.user_information.user_identity_response == b""
        assert store(client) == Status.SUCCESS
    with associate(server, "WARD", user_identity=identity(2, passcode=PASSWORD, wants_response=False)) as client:
        assert client.accept.user_information.user_identity_response is None
    assert "passcodes can be read on the network" in server.log()
    for name, passcode in (("Müller", "wrong"), ("Müller", ""), ("Nobody", PASSWORD), ("", PASSWORD)):
        with pytest.raises(Rejected) as rejected:
            associate(server, "WARD", user_identity=identity(2, name, passcode))
        assert rejected.value.args == REJECTED_PERMANENT_BY_USER
    assert "is rejected: user name or passcode is wrong" in server.log()
    assert PASSWORD not in server.log()
    wait_for_record(server, 'UserID="Nobody"')
    logins = [(record["outcome"], record["users"][0]) for record in records(server, "110114")]
    assert sorted(logins) == [("0", "Müller"), ("0", "Müller"), ("4", "Müller"), ("4", "Nobody")]


def test_a_long_user_name_makes_no_long_record(make_server: MakeServer, password_hash: str) -> None:
    server = make_server(with_users(password_hash, passcodes_in_clear=True))
    with pytest.raises(Rejected):
        associate(server, "WARD", user_identity=identity(2, "\1" * 65000, "wrong"))
    wait_for_record(server, "110114")
    (record,) = records(server, "110114")
    assert record["users"][0] == "\1" * 256
    assert len(record["message"]) < 4096


def test_a_passcode_in_the_clear_is_refused_unless_allowed(make_server: MakeServer, password_hash: str) -> None:
    server = make_server(with_users(password_hash))
    with pytest.raises(Rejected) as rejected:
        associate(server, "WARD", user_identity=identity(2, passcode=PASSWORD))
    assert rejected.value.args == REJECTED_PERMANENT_BY_USER
    assert "user name and passcode in the clear, not over TLS" in server.log()


def test_other_kinds_of_identity_are_logged_and_ignored(make_server: MakeServer, password_hash: str) -> None:
    server = make_server(with_users(password_hash))
    for kind, name in ((3, "Kerberos"), (4, "SAML"), (5, "JSON Web Token"), (9, "type 9")):
        with associate(server, "WARD", user_identity=identity(kind, "ticket")) as client:
            assert client.accept.user_information.user_identity_response is None
            assert find(client) == Status.SUCCESS
            assert store(client) == Status.NOT_AUTHORIZED
        assert f"WARD from 127.0.0.1 identifies a user by {name}, which is ignored" in server.log()


def test_a_passcode_without_configured_users_is_logged_and_ignored(make_server: MakeServer) -> None:
    server = make_server(access(default_role="viewer", grants=[]))
    with associate(server, "WARD", user_identity=identity(2, passcode=PASSWORD)) as client:
        assert client.accept.user_information.user_identity_response is None
    assert "identifies a user by a passcode, which is ignored: no users are configured" in server.log()


def test_a_peer_that_leaves_or_goes_on_while_its_passcode_is_verified_harms_nobody(
    make_server: MakeServer, password_hash: str
) -> None:
    server = make_server(with_users(password_hash, passcodes_in_clear=True))
    for kind in range(12):
        client = Client.__new__(Client)
        client.begin(server.port, user_identity=identity(2, passcode=PASSWORD if kind % 2 else "wrong"))
        if kind % 3 == 0:
            client.socket.sendall(bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0)))  # A-ABORT
        elif kind % 3 == 1:
            client.socket.sendall(pdv(b"\0" * 100))
        client.socket.close()
    with associate(server, "WARD", user_identity=identity(2, passcode=PASSWORD)) as client:
        assert store(client) == Status.SUCCESS
    assert "Traceback" not in server.log()


# -- the operator's commands


def pacsctl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("pacsctl")
    return subprocess.run([str(command), *arguments], input=stdin, capture_output=True, text=True, timeout=60)


def test_pacsctl_user_makes_the_line_that_the_configuration_takes(tmp_path: Path) -> None:
    added = pacsctl("user", "add", "anna", "--role", "administrator", stdin=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    assert PASSWORD not in added.stdout
    config = tmp_path / "pacs.yaml"
    config.write_text("security:\n  access_control:\n    users:\n    " + added.stdout)
    config.chmod(0o600)
    listed = pacsctl("user", "list", "--config", str(config), "--json")
    assert json.loads(listed.stdout) == {"users": [{"name": "anna", "role": "administrator"}]}
    again = pacsctl("user", "add", "anna", "--role", "viewer", "--config", str(config), stdin=f"{PASSWORD}\n")
    assert again.returncode == 1
    assert again.stderr == "user add: anna is in the configuration already\n"
    short = pacsctl("user", "add", "otto", "--role", "viewer", stdin="short\n")
    assert (short.returncode, short.stderr) == (1, "user add: a password has at least 8 characters\n")


EXPLAINED: Final = """\
security:
  allowed_ae_titles: ["CT_*", "WS"]
  access_control:
    default_role: none
    grants:
      - role: technologist
        ae_titles: ["CT_*"]
        addresses: [10.1.0.0/16]
      - {role: administrator, certificate_names: ["*.hospital.example"]}
"""


@pytest.mark.parametrize(
    ("arguments", "verdict", "line"),
    [
        (("--ae", "CT_1", "--address", "10.1.2.3"), "allowed: C-STORE needs the role technologist", 6),
        (("--ae", "CT_1", "--address", "10.2.2.3"), "refused: C-STORE needs the role technologist", 4),
        (("--ae", "WS", "--address", "::1", "--certificate", "ws.Hospital.example"), "allowed: C-STORE", 9),
        (("--ae", "OTHER", "--address", "10.1.2.3"), "refused: OTHER may not associate", 2),
    ],
)
def test_pacsctl_access_explain_prints_the_decision_and_the_line_that_made_it(
    tmp_path: Path, arguments: tuple[str, ...], verdict: str, line: int
) -> None:
    config = tmp_path / "pacs.yaml"
    config.write_text(EXPLAINED)
    told = pacsctl("access", "explain", *arguments, "--operation", "C-STORE", "--config", str(config))
    assert told.returncode == 0, told.stderr
    first, second = told.stdout.splitlines()
    assert first.startswith(verdict)
    assert second.startswith(f"{config}:{line}: security.")
