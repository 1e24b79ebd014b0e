"""
Bad input is normal input: a status or an abort, a log line, nothing kept, and a good peer notices nothing.
"""

from __future__ import annotations

import random
import socket
import struct
import time
import zlib

import pytest

from pacs.ul import AAbort, AAssociateRQ, AReleaseRQ, PresentationContextRQ, UserInformation
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
from tests.server import AE_TITLE, Server

DEFLATED = "1.2.840.10008.1.2.1.99"
CT = (CT_IMAGE_STORAGE, EXPLICIT)


def raw(server: Server, data: bytes) -> bytes:
    """Send bytes on a fresh connection; give the PDU that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        return connection.recv(10)


def test_garbage_is_answered_with_an_abort(server: Server) -> None:
    assert raw(server, b"GET / HTTP/1.1\r\n\r\n")[:1] == b"\x07"
    assert raw(server, struct.pack(">BxL", 1, 0xFFFFFFFF) + bytes(100))[:1] == b"\x07"
    with Client(server.port) as client:
        assert client.echo() == 0
    assert "is aborted" in server.log()


def test_what_comes_in_one_read_with_a_request_is_no_error_of_ours(server: Server) -> None:
    """The state is another one then when the request is looked at (PS3.8 table 9-10, Sta3 and Sta8)."""
    information = UserInformation(16384, "2.25.1", "TESTER")
    contexts = (PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),)
    associate = AAssociateRQ(AE_TITLE, "TESTER", contexts, information).encode()
    release = AReleaseRQ().encode()
    for behind in (AAbort(0, 0).encode(), associate, pdv(b"x"), release, b"\x99\0\0\0\0\0"):
        assert raw(server, associate + behind)[:1] == (b"" if behind[:1] == b"\x07" else b"\x07")
        client = Client(server.port)
        client.socket.sendall(release + behind)
        assert client.pdu()[0] == (0 if behind[:1] == b"\x07" else 7)
        client.socket.close()
    with Client(server.port) as client:
        assert client.echo() == 0
    assert "Traceback" not in server.log()


def test_a_pdu_longer_than_announced_is_refused_at_its_header(server: Server) -> None:
    client = Client(server.port, CT)
    client.socket.sendall(struct.pack(">BxLLBB", 4, 0x7FFFFFFF, 0x7FFFFFFB, 1, 3))
    assert client.pdu() == (7, b"\0\0\2\6")
    client.socket.close()


def test_a_thousand_bad_associations_leave_memory_where_it_was(server: Server) -> None:
    """A good peer beside them notices nothing (RELIABILITY L1 to L13)."""
    generator = random.Random(1)
    with Client(server.port) as good:
        for round_ in range(2):
            for number in range(500):
                kind = number % 4
                if kind == 0:
                    raw(server, b"\xff" + generator.randbytes(200))
                elif kind == 1:
                    raw(server, struct.pack(">BxL", 1, 400_000) + bytes(500))
                elif kind == 2:
                    with pytest.raises(Rejected):
                        Client(server.port, called="NOBODY")
                else:
                    client = Client(server.port, CT)
                    client.socket.sendall(pdv(generator.randbytes(100), is_command=True))
                    assert client.pdu()[0] == 7
                    client.socket.close()
                if number % 100 == 0:
                    assert good.echo() == 0
            if round_ == 0:
                before_kib = server.resident_kib()
        assert server.resident_kib() - before_kib < 4096


@pytest.mark.parametrize(
    ("setting", "title", "expected"),
    [({}, "WRONG", (1, 1, 7)), ({"max_associations": 1}, "PROD_PACS", (2, 3, 2))],
)
def test_associations_are_rejected_with_the_fields_of_the_contract(
    make_server: MakeServer, setting: dict[str, int], title: str, expected: tuple[int, int, int]
) -> None:
    server = make_server({"server": setting})
    with Client(server.port), pytest.raises(Rejected) as rejected:
        Client(server.port, called=title)
    assert rejected.value.args == expected


def test_the_transfer_syntax_is_chosen_in_the_proposers_order_with_implicit_last(server: Server) -> None:
    big = "1.2.840.10008.1.2.2"
    jpip = "1.2.840.10008.1.2.4.94"
    proposals = [f"{IMPLICIT}|{big}|{EXPLICIT}", IMPLICIT, jpip, f"{jpip}|{IMPLICIT}"]
    with Client(server.port, *((CT_IMAGE_STORAGE, proposal) for proposal in proposals)) as client:
        answers = [(c.result, c.transfer_syntax) for c in client.accept.presentation_contexts]
    assert [a for a in answers if a[0] == 0] == [(0, big), (0, IMPLICIT), (0, IMPLICIT)]
    assert answers[2][0] == 4


def test_a_maximum_length_of_zero_is_unlimited(server: Server) -> None:
    with Client(server.port, max_pdu_length=0) as client:
        assert client.echo() == 0


def test_nothing_of_half_an_object_remains(server: Server) -> None:
    from pacs.dimse import CStoreRQ

    for ending in ("close", "abort", "reset"):
        client = Client(server.port, CT)
        client.send_command(
            CStoreRQ(
                message_id=1,
                affected_sop_class_uid=CT_IMAGE_STORAGE,
                affected_sop_instance_uid="1.2.5",
                has_data_set=True,
            )
        )
        data_set = ct_data_set("1.2.5", pixels=bytes(1_000_000))
        client.socket.sendall(b"".join(pdv(data_set[i : i + 8192], is_last=False) for i in range(0, 600_000, 8192)))
        if ending == "abort":
            client.socket.sendall(struct.pack(">BxLBBBB", 7, 4, 0, 0, 0, 0))
        elif ending == "reset":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
    deadline_s = time.monotonic() + 10
    empty_looks = 0  # several in a row: the last peer's bytes may still be on their way
    while empty_looks < 10 and time.monotonic() < deadline_s:
        empty_looks = 0 if list((server.root / "incoming").iterdir()) else empty_looks + 1
        time.sleep(0.05)
    assert list((server.root / "incoming").iterdir()) == []
    assert server.objects() == []


def nested(depth: int, *, closed: bool = True) -> bytes:
    """Give sequences of undefined length, one in the other."""
    begin = struct.pack("<HH2sxxL", 0x0040, 0xA730, b"SQ", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return begin * depth + (end * depth if closed else b"")


BAD_DATA_SETS = {
    "sequences nested a thousand deep": ct_data_set("1.2.6") + nested(1000),
    "undefined lengths that never close": ct_data_set("1.2.6") + nested(3, closed=False),
    "an element longer than the data set": ct_data_set("1.2.6")
    + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", 1_000_000),
    "no data element at all": b"\x01\x02\x03",
    "a command element": struct.pack("<HHL", 0, 0, 4) + bytes(4),
}


@pytest.mark.parametrize("name", BAD_DATA_SETS)
def test_a_data_set_without_structure_is_answered_c000(server: Server, name: str) -> None:
    with Client(server.port, CT) as client:
        response = client.store(BAD_DATA_SETS[name], "1.2.6")
        assert response.status == 0xC000
        assert response.error_comment
        assert client.store(ct_data_set("1.2.7"), "1.2.7").status == 0
    assert len(server.objects()) == 1
    assert "C000" in server.log()


def test_a_deflate_bomb_is_refused(server: Server) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(ct_data_set("1.2.8", pixels=bytes(80_000_000))) + compressor.flush()
    with Client(server.port, (CT_IMAGE_STORAGE, DEFLATED)) as client:
        assert client.store(bomb, "1.2.8").status == 0xC000
    assert server.objects() == []
    assert server.resident_kib("VmHWM") < 200_000


def test_disagreeing_uids_are_answered_a900(server: Server) -> None:
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set("1.2.10"), "1.2.11").status == 0xA900
        other_class = ct_data_set("1.2.12", sop_class="1.2.840.10008.5.1.4.1.1.4")
        assert client.store(other_class, "1.2.12").status == 0xA900
    assert server.objects() == []


def test_no_received_text_becomes_part_of_a_path(server: Server) -> None:
    wicked = "../../../evil"
    with Client(server.port, CT) as client:
        assert client.store(ct_data_set(wicked, study=wicked, series="/etc/passwd"), wicked).status == 0
        assert client.store(ct_data_set("1..2", study="", study_date=""), "1..2").status == 0
    assert all(path.is_relative_to(server.root / "objects") for path in server.objects())
    assert len(server.objects()) == 2
    assert not any("evil" in str(path) or ".." in path.parts for path in server.root.rglob("*"))


def test_a_wrong_request_for_the_context_is_refused(server: Server) -> None:
    from pacs.dimse import CEchoRQ

    with Client(server.port, CT) as client:
        client.send_command(CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION))
        assert client.response().status == 0x0211


def test_garbage_in_an_element_is_kept_and_findable_as_text(server: Server) -> None:
    data_set = ct_data_set("1.2.13", study_date="not a date") + element(0x7FE10010, "UN", b"\xff\xfe")
    with Client(server.port, CT) as client:
        assert client.store(data_set, "1.2.13").status == 0
    assert server.objects()[0].read_bytes().endswith(data_set)


def test_silent_connections_are_closed_and_a_peer_beside_them_is_served(make_server: MakeServer) -> None:
    server = make_server({"server": {"artim_timeout_seconds": 1, "idle_timeout_seconds": 2}})
    silent = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    idle = Client(server.port)
    started_s = time.monotonic()
    assert silent.recv(10) == b""
    assert 0.5 < time.monotonic() - started_s < 4
    assert idle.pdu()[0] == 7
    with Client(server.port) as client:
        assert client.echo() == 0
