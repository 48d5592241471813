"""What of the replication protocol needs no server; tests/integration/test_capture_log.py has the
rest.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql.dump import Dump
from softcart_assets.ingestion.connectors.mysql.group import xid_of
from softcart_assets.ingestion.connectors.mysql.gtid import Gtid, GtidSet, tagged_gtid
from softcart_assets.ingestion.errors import (
    IngestionError,
    MissingGrant,
    PositionPurged,
    SourceLost,
    SourceRefused,
)

ONE, TWO = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ONE}:1-5:7:9-11",
        f"{ONE}:1-5,{ONE}:tag:1-3:8,{TWO}:6",
        "0-1-5",
        "0-1-5,2-3-7",
    ],
)
def test_gtid_sets_are_printed_as_they_are_read(text: str) -> None:
    assert str(GtidSet(text)) == text
    assert bool(GtidSet(text)) is bool(text)


def test_gtid_sets_as_servers_print_them() -> None:
    printed = f"{ONE.upper()}:1-5:6:tag:1-3:Other_1:8,\n{TWO}:7"
    assert str(GtidSet(printed)) == f"{ONE}:1-6,{ONE}:other_1:8,{ONE}:tag:1-3,{TWO}:7"


@given(
    st.lists(st.tuples(st.sampled_from([ONE, TWO, f"{ONE}:tag"]), st.integers(1, 30)), max_size=60)
)
def test_added_gtids(added: list[tuple[str, int]]) -> None:
    gtids = GtidSet()
    for gtid in added:
        gtids.add(Gtid(*gtid))
    assert str(gtids) == ",".join(
        f"{source}:" + ":".join(_intervals({n for s, n in added if s == source}))
        for source in sorted({source for source, _ in added})
    )
    assert GtidSet(str(gtids)) == gtids


def _intervals(numbers: set[int]) -> Iterator[str]:
    """As few intervals as there can be."""
    for first in sorted(n for n in numbers if n - 1 not in numbers):
        last = next(n for n in count(first) if n + 1 not in numbers)
        yield str(first) if first == last else f"{first}-{last}"


def test_mariadb_keeps_the_last_of_each_domain() -> None:
    gtids = GtidSet("0-1-5,1-1-9")
    gtids.add(Gtid("0-2", 6))
    assert str(gtids) == "0-2-6,1-1-9"


def test_the_form_in_which_mysql_is_asked() -> None:
    one, two = uuid.UUID(ONE).bytes.hex(), uuid.UUID(TWO).bytes.hex()
    n = "{:02x}00000000000000".format
    assert GtidSet(f"{ONE}:1-5:7,{TWO}:9").encoded().hex() == (
        n(2) + one + n(2) + n(1) + n(6) + n(7) + n(8) + two + n(1) + n(9) + n(10)
    )
    assert GtidSet(f"{ONE}:tag:3").encoded().hex() == "0101000000000001" + one + "06746167" + n(
        1
    ) + n(3) + n(4)


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (127, "fe"),
        (128, "0102"),
        (16_383, "fdff"),
        (2**31, "0f00000010"),
        (2**63, "ff0000000000000080"),
    ],
)
def test_numbers_of_variable_length_in_atagged_gtid(number: int, encoded: str) -> None:
    server = "".join(
        f"{byte << 1:02x}" if byte < 128 else (byte << 2 | 1).to_bytes(2, "little").hex()
        for byte in uuid.UUID(ONE).bytes
    )
    body = bytes.fromhex(
        "020000" + "0000" + "02" + server + "0414" + "0606746167" + "0c" + "0e" + "0e" + encoded
    )
    assert tagged_gtid(body) == (Gtid(f"{ONE}:tag", 5), number)


def test_the_name_of_an_xa_transaction() -> None:
    body = b"\0" + bytes.fromhex("07000000 03000000 02000000") + b"abcde"
    assert xid_of(body) == (False, "x'616263',x'6465',7")


def event(body: bytes, *, damaged: bool = False) -> bytes:
    """An event with its checksum, in as many packets as it needs."""
    data = struct.pack("<IBIIIH", 1, 30, 1, 23 + len(body), 1000, 0) + body
    payload = b"\0" + data + struct.pack("<I", zlib.crc32(data) ^ damaged)
    parts = [payload[at : at + 0xFFFFFF] for at in range(0, len(payload), 0xFFFFFF)]
    if len(parts[-1]) == 0xFFFFFF:
        parts.append(b"")
    return b"".join(
        struct.pack("<I", len(part) | number << 24) + part for number, part in enumerate(parts)
    )


def received(stream: bytes, chunks: int) -> tuple[list[bytes], IngestionError]:
    """The bodies of the events in a stream that comes in pieces of up to so many bytes, and what
    ended it.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(0.001)
    dump = Dump.__new__(Dump)
    dump.connection, dump.where = MySQLConnection("X", "host", 1, "user", "", "d"), "MySQL"
    dump._socket, dump._has_checksums = ours, True

    def send() -> None:
        generator, at = random.Random(1), 0
        with theirs, suppress(OSError):
            while at < len(stream):
                size = generator.randint(1, chunks)
                theirs.sendall(stream[at : at + size])
                at += size

    sender = threading.Thread(target=send)
    sender.start()
    bodies: list[bytes] = []
    try:
        bodies += (raw[4][raw[5] : raw[6]] for raw in dump.events() if raw is not None)
    except IngestionError as error:
        return bodies, error
    finally:
        ours.close()
        sender.join()
    raise AssertionError("a log has no end")


@pytest.mark.parametrize("chunks", [7, 1_000, 100_000])
def test_packets_come_in_any_pieces(chunks: int) -> None:
    bodies = [bytes(n % 251 for n in range(size)) for size in (0, 1, 3, 19, 20, 100, 5_000, 0, 2)]
    read, error = received(b"".join(map(event, bodies)), chunks)
    assert read == bodies
    assert isinstance(error, SourceLost)
    assert "closed the connection" in str(error)


@pytest.mark.parametrize(
    "size", [0xFFFFFF - 25, 0xFFFFFF - 24, 0xFFFFFF - 23, 0xFFFFFF - 22, 2 * 0xFFFFFF - 24]
)
def test_events_of_several_packets(size: int) -> None:
    bodies = [b"a", b"x" * size, b"b"]
    assert received(b"".join(map(event, bodies)), 1 << 20)[0] == bodies


def test_a_damaged_event_is_not_given() -> None:
    read, error = received(event(b"good") + event(b"bad", damaged=True) + event(b"good"), 1_000)
    assert read == [b"good"]
    assert isinstance(error, SourceLost)
    assert "checksum" in str(error)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (1236, "Could not find first log file name in binary log index file", PositionPurged),
        (
            1236,
            "Client requested master to start replication from impossible position; "
            "the first event",
            PositionPurged,
        ),
        (
            1236,
            "A slave with the same server_uuid/server_id as this slave has connected to the master",
            SourceLost,
        ),
        (
            1789,
            "The slave is connecting using CHANGE MASTER TO MASTER_AUTO_POSITION = 1, but",
            PositionPurged,
        ),
        (
            1227,
            "Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s)",
            MissingGrant,
        ),
        (1053, "Server shutdown in progress", SourceLost),
        (1153, "Got a packet bigger than 'max_allowed_packet' bytes", SourceRefused),
    ],
)
def test_what_the_server_says_instead_of_an_event(
    code: int, message: str, kind: type[IngestionError]
) -> None:
    payload = b"\xff" + struct.pack("<H", code) + b"#HY000" + message.encode()
    _, error = received(struct.pack("<I", len(payload)) + payload, 10)
    assert type(error) is kind
    assert message in str(error)
