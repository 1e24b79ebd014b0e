"""
RELIABILITY section 1, row by row: what a peer may not do, and what happens when it does.

====  ======================================  =================================================================
row   limit                                   shown by
====  ======================================  =================================================================
L1    A-ASSOCIATE-RQ                          test_a_request_that_is_too_long_is_refused_at_its_header
L2    P-DATA-TF                               test_bad_peers: test_a_pdu_longer_than_announced_is_refused_…
L3    other PDUs have exact lengths           test_pdus_of_another_length_than_theirs_are_refused
L4    command set                             test_a_command_set_without_end_is_refused;
                                              test_fragments_with_next_to_nothing_in_them_cost_no_memory
L5    data set of a C-STORE                   test_an_object_beyond_the_limit_is_drained_…; test_large
L6    identifier, UID list, wildcard          test_an_identifier_beyond_its_limits_is_answered_not_aborted
L7    nesting, items                          test_bad_peers: test_a_data_set_without_structure_…;
                                              test_more_sequence_items_than_allowed_are_answered_c000
L8    inflated data                           test_bad_peers: test_a_deflate_bomb_is_refused
L9    associations; half-open connections     test_associations_of_one_peer_and_one_address_are_limited;
                                              test_half_open_connections_displace_themselves_alone;
                                              test_a_flood_is_let_in_slowly_and_keeps_no_other_address_waiting
L10   ARTIM, one timer                        test_a_byte_now_and_then_does_not_keep_a_connection_open
L11   idle; fragments; peers that do not read test_bad_peers: test_silent_connections_…;
                                              test_a_message_that_stops_in_the_middle_is_aborted;
                                              test_a_peer_that_does_not_read_is_held_back_and_then_dropped
L13   presentation contexts                   test_malformed_presentation_contexts_are_aborted
A1    AE titles                               test_bad_peers: test_associations_are_rejected_with_…;
                                              test_illegal_calling_ae_titles_are_rejected_and_escaped_in_the_log;
                                              test_illegal_called_ae_titles_are_rejected_though_any_is_accepted
====  ======================================  =================================================================

L12 (TLS handshake) is with the tests of TLS, L14 (C-FIND answers without a cap, cancel) with those of C-FIND, L15 with
those of HTTP. All of them at once: tests/durability.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import struct
import time
from contextlib import ExitStack

import pytest

from pacs.dimse import CEchoRQ, CFindRQ, CStoreRQ, encode_command
from pacs.net.flood import FREE_BURST, LET_IN_PER_S
from pacs.ul import AAssociateRQ, PresentationContextRQ, UserInformation
from tests.audit import records, wait_for_record
from tests.conftest import MakeServer
from tests.dicom import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Client,
    Rejected,
    ct_data_set,
    element,
    pdv,
)
from tests.find import STUDY_ROOT
from tests.server import AE_TITLE, Server

CT = (CT_IMAGE_STORAGE, EXPLICIT)
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
ASSOCIATE_AC, ASSOCIATE_RJ = b"\x02", b"\x03"
ABORT = 7
INVALID_PARAMETER = 6


def exchange(server: Server, data: bytes) -> bytes:
    """Send bytes on a fresh connection; give the PDU that comes back: a rejection or an abort."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while len(answer) < 10 and (piece := connection.recv(10 - len(answer))):
            answer += piece
        return answer


def associate_rq(*, calling: str = "TESTER", contexts: tuple[PresentationContextRQ, ...] | None = None) -> bytes:
    proposed = (PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),) if contexts is None else contexts
    return AAssociateRQ(
        called_ae_title=AE_TITLE,
        calling_ae_title=calling,
        presentation_contexts=proposed,
        user_information=UserInformation(16384, "2.25.1", "TESTER"),
    ).encode()


def test_a_request_that_is_too_long_is_refused_at_its_header(server: Server) -> None:
    """L1: nothing of the body is waited for or allocated; AA-1 has source 0 (PS3.8 Table 9-10)."""
    for length in (262_145, 0x7FFFFFFF, 0xFFFFFFFF):
        assert exchange(server, struct.pack(">BxL", 1, length)) == b"\x07\0\0\0\0\4\0\0\0\0"
    with Client(server.port) as client:
        assert client.echo() == 0


@pytest.mark.parametrize(("pdu_type", "length"), [(3, 5), (5, 0), (6, 1 << 20), (7, 5)])
def test_pdus_of_another_length_than_theirs_are_refused(server: Server, pdu_type: int, length: int) -> None:
    """L3."""
    client = Client(server.port)
    client.socket.sendall(struct.pack(">BxL", pdu_type, length))
    assert client.pdu() == (ABORT, bytes((0, 0, 2, INVALID_PARAMETER)))
    client.socket.close()


@pytest.mark.parametrize("content", [b"", b"\0"])
def test_fragments_with_next_to_nothing_in_them_cost_no_memory(server: Server, content: bytes) -> None:
    """L4, L5, L6: what is held of a message does not depend on how many fragments it comes in."""
    find = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT, has_data_set=True)
    store = CStoreRQ(
        message_id=1, affected_sop_class_uid=CT_IMAGE_STORAGE, affected_sop_instance_uid="1.2.3", has_data_set=True
    )
    heads = [pdv(encode_command(find), is_command=True), pdv(encode_command(store), is_command=True, context_id=3)]
    fragments = [pdv(content, is_last=False), pdv(content, is_last=False, context_id=3)]
    if not content:
        heads.append(b"")
        fragments.append(pdv(content, is_command=True, is_last=False))
    for head, fragment in zip(heads, fragments, strict=True):
        before_kib = server.resident_kib()
        client = Client(server.port, (STUDY_ROOT, EXPLICIT), (CT_IMAGE_STORAGE, EXPLICIT))
        client.socket.sendall(head)
        for _ in range(50):
            client.socket.sendall(fragment * 10_000)
        with Client(server.port) as other:
            assert other.echo() == 0
        assert server.resident_kib() - before_kib < 32 * 1024
        client.socket.close()


def test_a_command_set_without_end_is_refused(server: Server) -> None:
    """L4: fragments of a command that never ends; aborted when 64 KiB have come."""
    client = Client(server.port)
    for _ in range(9):
        client.socket.sendall(pdv(bytes(8000), is_command=True, is_last=False))
    assert client.pdu()[0] == ABORT
    client.socket.close()
    with Client(server.port) as good:
        assert good.echo() == 0
    assert "is aborted" in server.log()


def test_an_object_beyond_the_limit_is_drained_and_the_association_goes_on(make_server: MakeServer) -> None:
    """L5: A700, nothing kept, and memory does not grow with the object."""
    server = make_server({"server": {"limits": {"object_bytes": 1 << 20}}})
    before_kib = server.resident_kib()
    with Client(server.port, CT) as client:
        response = client.store(ct_data_set("1.2.5", pixels=bytes(50_000_000)), "1.2.5")
        assert response.status == 0xA700
        assert list((server.root / "incoming").iterdir()) == []
        assert client.store(ct_data_set("1.2.6"), "1.2.6").status == 0
    assert server.resident_kib("VmHWM") - before_kib < 20_000
    assert len(server.objects()) == 1


def find_status(client: Client, identifier: bytes) -> int:
    client.send_command(CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT_FIND, has_data_set=True))
    for start in range(0, len(identifier), 65_536):
        is_last = start + 65_536 >= len(identifier)
        client.socket.sendall(pdv(identifier[start : start + 65_536], is_last=is_last))
    return client.response().status


def test_an_identifier_beyond_its_limits_is_answered_not_aborted(server: Server) -> None:
    """L6: 1 MiB, 1,000 UIDs, a pattern of 1,000 characters; and 2,000 elements."""
    level = element(0x00080052, "CS", b"STUDY")
    keys = b"".join(element(0x00111000 + number, "LO", b"") for number in range(2000))
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 2001
    uids = "\\".join(f"1.2.{number}" for number in range(1001)).encode()
    identifiers = (
        level + element(0x00104000, "UT", bytes(1_100_000)),
        level + element(0x0020000D, "UI", uids),
        level + element(0x00100010, "PN", b"*" + b"a" * 1001),
        level + keys,
        level + element(0x00081032, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(keys)) + keys),
        level + element(0x00081032, "SQ", items),
    )
    with Client(server.port, (STUDY_ROOT_FIND, EXPLICIT)) as client:
        for identifier in identifiers:
            assert find_status(client, identifier) in (0xA900, 0xC000)
        assert find_status(client, level + element(0x00100010, "PN", b"Nobody")) == 0
        assert find_status(client, level + element(0x00100010, "PN", b"Nobody") + keys[: 8 * 1998]) == 0


def test_more_sequence_items_than_allowed_are_answered_c000(make_server: MakeServer) -> None:
    """L7."""
    server = make_server({"server": {"limits": {"sequence_items": 100}}})
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0)

    def with_items(count: int, uid: str) -> bytes:
        return ct_data_set(uid) + element(0x7FE10010, "SQ", item * count)

    with Client(server.port, CT) as client:
        assert client.store(with_items(101, "1.2.6"), "1.2.6").status == 0xC000
        assert client.store(with_items(99, "1.2.7"), "1.2.7").status == 0


@pytest.mark.parametrize(
    "setting", [{"max_associations_per_peer": 2}, {"limits": {"associations_per_address": 2}}], ids=["peer", "address"]
)
def test_associations_of_one_peer_and_one_address_are_limited(
    make_server: MakeServer, setting: dict[str, object]
) -> None:
    """L9: transient, presentation, local limit; room again when one has ended."""
    server = make_server({"server": setting})
    with Client(server.port):
        with Client(server.port), pytest.raises(Rejected) as rejected:
            Client(server.port)
        assert rejected.value.args == (2, 3, 2)
        with Client(server.port) as again:
            assert again.echo() == 0


def test_half_open_connections_displace_themselves_alone(make_server: MakeServer) -> None:
    """L9: who opens connections and says nothing is the one who loses them; others associate all the while."""
    server = make_server({"server": {"limits": {"half_open_connections": 10}}})
    with Client(server.port) as before, ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)) for _ in range(30)
        ]
        for _ in range(3):
            with Client(server.port) as client:
                assert client.echo() == 0
        assert before.echo() == 0
        ended = 0
        for connection in silent:
            connection.settimeout(0.1)
            try:
                ended += connection.recv(1) == b""
            except ConnectionResetError:
                ended += 1
            except TimeoutError:
                pass
        assert 20 <= ended < 30
    assert "has not associated is closed" in server.log()


def test_a_flood_is_let_in_slowly_and_keeps_no_other_address_waiting(server: Server) -> None:
    """Nobody of them is lost: a modality behind the same address waits for its turn at worst."""

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", server.port), timeout=20, source_address=("127.0.0.2", 0))

    with Client(server.port, calling="BEFORE") as before, ExitStack() as closing:
        for _ in range(FREE_BURST + 50):
            connect().close()
        server.wait_for_log("127.0.0.2 floods the server")
        flooding = [closing.enter_context(connect()) for _ in range(LET_IN_PER_S)]
        started_s = time.monotonic()
        for connection in flooding:
            connection.sendall(associate_rq())
        with Client(server.port, calling="AFTER") as after:
            assert (before.echo(), after.echo()) == (0, 0)
        assert not select.select(flooding[-1:], [], [], 0)[0], "the last of them waits still"
        answers = [connection.recv(1) for connection in flooding]
        assert set(answers) == {ASSOCIATE_AC, ASSOCIATE_RJ}, "all are answered; there are more than may associate"
        assert time.monotonic() - started_s > 0.5
        assert before.echo() == 0
    assert server.log().count("floods the server") == 1


def test_a_byte_now_and_then_does_not_keep_a_connection_open(make_server: MakeServer) -> None:
    """L10: ARTIM begins at accept, and a byte does not restart it."""
    server = make_server({"server": {"artim_timeout_seconds": 1}})
    request = associate_rq()
    started_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.1) as connection:
        for byte in request:
            try:
                connection.sendall(bytes((byte,)))
                if connection.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            raise AssertionError("it was never closed")
    assert time.monotonic() - started_s < 10


def test_a_message_that_stops_in_the_middle_is_aborted(make_server: MakeServer) -> None:
    """L11: sooner than an idle association; nothing of the object remains."""
    server = make_server({"server": {"limits": {"fragment_timeout_seconds": 1}}})
    client = Client(server.port, CT)
    client.send_command(
        CStoreRQ(
            message_id=1,
            affected_sop_class_uid=CT_IMAGE_STORAGE,
            affected_sop_instance_uid="1.2.5",
            has_data_set=True,
        )
    )
    client.socket.sendall(pdv(ct_data_set("1.2.5", pixels=bytes(300_000))[:65_000], is_last=False))
    assert client.pdu()[0] == ABORT
    client.socket.close()
    assert "no fragment" in server.log()
    assert server.objects() == []


def test_a_peer_that_does_not_read_is_held_back_and_then_dropped(make_server: MakeServer) -> None:
    """L11: its requests are not read either, so what waits for it does not grow."""
    server = make_server({"server": {"limits": {"unread_response_seconds": 2}}})
    before_kib = server.resident_kib()
    client = Client(server.port)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.socket.settimeout(20)
    request = pdv(encode_command(CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION)), is_command=True)
    with pytest.raises(OSError, match=r"reset|Broken|timed out"):
        for _ in range(1000):
            client.socket.sendall(request * 1000)
    client.socket.close()
    assert "the peer has read nothing" in server.log()
    assert server.resident_kib("VmHWM") - before_kib < 30_000
    with Client(server.port) as good:
        assert good.echo() == 0


MALFORMED_CONTEXTS = {
    "none": (),
    "even id": (PresentationContextRQ(2, VERIFICATION, (IMPLICIT,)),),
    "one id twice": (PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),) * 2,
    "no transfer syntax": (PresentationContextRQ(1, VERIFICATION, ()),),
}


@pytest.mark.parametrize("name", MALFORMED_CONTEXTS)
def test_malformed_presentation_contexts_are_aborted(server: Server, name: str) -> None:
    """L13."""
    answer = exchange(server, associate_rq(contexts=MALFORMED_CONTEXTS[name]))
    assert answer[0] == ABORT
    with Client(server.port) as client:
        assert client.echo() == 0


@pytest.mark.parametrize("title", [" " * 16, "EVIL\nline", "caf\xe9", "a\\b"])
def test_illegal_calling_ae_titles_are_rejected_and_escaped_in_the_log(server: Server, title: str) -> None:
    """A1: permanent, user, calling AE title not recognized."""
    request = bytearray(associate_rq())
    request[26:42] = title.encode("latin-1").ljust(16)
    answer = exchange(server, bytes(request))
    assert answer[:1] == b"\x03"
    assert answer[7:10] == bytes((1, 1, 3))
    assert "EVIL\nline" not in server.log()


def test_illegal_called_ae_titles_are_rejected_though_any_is_accepted(make_server: MakeServer) -> None:
    """A1: permanent, user, called AE title not recognized."""
    server = make_server({"server": {"accept_any_called_ae": True}})
    for title in ("", "EVIL\nline", "EVIL\x1b[31m", "\xe9", "A\\B"):
        with pytest.raises(Rejected) as rejected:
            Client(server.port, called=title)
        assert rejected.value.args == (1, 1, 7)
    with Client(server.port, called="ANYBODY") as client:
        assert client.echo() == 0


def test_refusals_are_logged_once_a_minute_and_audited_with_their_number(make_server: MakeServer) -> None:
    """Also: none of it says anything of a patient."""
    server = make_server()
    for _ in range(50):
        with pytest.raises(Rejected):
            Client(server.port, called="WRONG")
        exchange(server, b"GET / HTTP/1.1\r\n\r\n")
    wait_for_record(server, "110113", number=2)
    assert server.log().count("is rejected") == 1
    assert server.log().count("is aborted") == 1
    assert server.stop() == 0
    alerts = [record["message"] for record in records(server, "110113")]
    assert len(alerts) == 4
    assert sum("49 more of the same" in alert for alert in alerts) == 2


def test_a_server_without_descriptors_takes_connections_again_when_it_has_some(make_server: MakeServer) -> None:
    """The port stays open: who comes meanwhile is closed, an association that is there goes on (RELIABILITY P3)."""
    server = make_server()
    with Client(server.port) as client:
        assert client.echo() == 0
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        used = max(int(name) for name in os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 1, hard))
        held = []
        try:
            while True:
                peer = socket.create_connection(("127.0.0.1", server.port), timeout=20)
                held.append(peer)
                peer.settimeout(1)
                try:
                    if peer.recv(1) == b"":
                        break
                except ConnectionResetError:
                    break
                except TimeoutError:
                    assert len(held) < 100  # it had got a free descriptor below the highest
            server.wait_for_log("EMFILE")
            assert client.echo() == 0
        finally:
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
            for peer in held:
                peer.close()
        assert client.echo() == 0
    with Client(server.port) as client:
        assert client.echo() == 0
